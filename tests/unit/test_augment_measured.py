"""The table of what augmentation gains: means and spreads over seeds, counts of pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.augment import CORRUPTED, START, shown, table
from benchmarks.corruptions import CORRUPTIONS


def figures(value: float) -> dict[str, float]:
    return dict.fromkeys(("clean", "corrupted", "streets", *CORRUPTIONS), value)


def test_the_table_tells_mean_and_spread_of_each_arm() -> None:
    nets = {START: figures(0.5)}
    nets |= {f"class_{seed}": figures(value) for seed, value in enumerate((0.2, 0.3, 0.4))}
    nets |= {"none_0": figures(0.25)}
    sizes = dict.fromkeys(("clean", "streets", *CORRUPTIONS), 4)
    lines = table(json.loads(json.dumps(nets)), sizes).splitlines()
    assert lines[0] == "| mean IoU | pictures | start | none | class | whole |"
    assert lines[2] == "| clean | 4 | 0.500 | 0.250 | 0.300 ± 0.100 |  |"
    assert lines[3].startswith("| corrupted | 24 |")
    assert len(lines) == 2 + 3 + len(CORRUPTIONS)


def test_what_is_shown_is_the_test_split_and_corruptions_of_some_of_it(tmp_path) -> None:
    for name in "abcd":
        for folder, pixels in (
            ("test", np.full((16, 16, 3), 90, np.uint8)),
            ("test_labels", np.zeros((16, 16), np.uint8)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    found = shown(tmp_path, tmp_path / "none")
    assert len(found["clean"]) == 4
    assert {len(found[name]) for name in CORRUPTIONS} == {-(-4 // CORRUPTED)}
    assert "streets" not in found
    assert found["brightness"][0][0].mean() == pytest.approx(90 + 0.3 * 255, abs=1)
