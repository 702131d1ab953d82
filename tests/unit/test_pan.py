"""The pan source's camera path is exact, smooth, closed and shows all of the still."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.formats.pictures import read_picture
from cbs_plugins.sources.pan import MAX_SPEED, PanSource
from cbs_plugins.sources.sample import sample_file
from PIL import Image

from cbs_core.contract.errors import SourceError
from tests.media import picture


@pytest.fixture
def still(tmp_path: Path) -> Path:
    Image.fromarray(picture(0, 90, 60)).save(tmp_path / "still.png")
    return tmp_path / "still.png"


def test_every_frame_is_the_still_at_its_offset(still: Path) -> None:
    pixels, _ = read_picture(still)
    with PanSource(f"pan:{still}", frames=40) as source:
        frames = list(source)
        assert (source.info.width, source.info.height) == (66, 44)
        assert (source.info.name, source.info.media, source.info.frames) == ("still_pan", None, 40)
        for frame in frames:
            x, y = source.offset(frame.index)
            assert torch.equal(frame.pixels, pixels[y : y + 44, x : x + 66])
            assert frame.pts * 25 == frame.index
    assert len({source.offset(i) for i in range(40)}) > 20


@pytest.mark.parametrize("path", [None, "sample:motorcycle", "pan:sample:cat"])
def test_it_loops_slowly_over_all_of_the_still(path: str | None) -> None:
    with PanSource(path) as source:
        still = read_picture(sample_file((path or "").removeprefix("pan:")))[0]
        height, width = still.shape[:2]
        period = source.period
        offsets = [source.offset(i) for i in range(period)]
        assert [source.offset(i + period) for i in range(period)] == offsets
        steps = np.abs(np.diff(np.array([*offsets, offsets[0]]), axis=0))
        assert steps.max() <= MAX_SPEED
        assert np.abs(np.diff(steps, axis=0)).max() <= 2
        seen = np.zeros((height, width), bool)
        for x, y in offsets:
            assert x >= 0
            assert y >= 0
            seen[y : y + source.info.height, x : x + source.info.width] = True
        assert seen.all()


def test_the_window_and_the_period_can_be_chosen(still: Path) -> None:
    with PanSource(str(still), width=90, height=31, period=8, rate="30000/1001") as source:
        assert (source.info.width, source.info.height) == (90, 31)
        assert [source.offset(i) for i in range(8)] == [source.offset(i + 8) for i in range(8)]
        assert [source.offset(i)[1] for i in (0, 2, 4, 6)] == [0, 29, 0, 29]


def test_bad_parameters_get_one_line(still: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"100x44 does not fit into the still of 90x60"):
        PanSource(str(still), width=100).__enter__()
    with pytest.raises(SourceError, match="frames=0"):
        PanSource(str(still), frames=0)
    with pytest.raises(SourceError, match="no file"):
        PanSource(str(tmp_path / "no.png")).__enter__()
