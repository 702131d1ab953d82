"""``make augment``: what style augmentation by class gives a segmenter, measured on CamVid.

DABNet goes on from this package's own CamVid weights for the same few steps in three arms: on
pictures as they are (``none``), on these and as many restyled by class (``class``), and on these
and as many restyled whole (``whole``). Each arm is trained with several seeds, and tested on
CamVid's test split, on corruptions of it (`benchmarks.corruptions`), and on streets elsewhere by
teachers' labels (`benchmarks.streets`). Pictures are of half CamVid's size, so that all of it fits
into minutes of one thread.

    python -m benchmarks.augment CAMVID WORK [--seeds 3] [--steps 80] [--only train or test]

All that is made lies in WORK; what is there already is not made again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from benchmarks.corruptions import CORRUPTIONS, corrupted
from cbs_core.augment.session import augment_session
from cbs_core.choose import presets, registry
from cbs_core.contract.tensors import to_image, to_size
from cbs_core.datasets import labelled
from cbs_core.evaluation.metrics import Confusion
from cbs_core.training.session import train_session

SIZE = (240, 180)
"""Width and height: half of CamVid's."""

STRIDE = {"train": 2, "val": 10, "test": 2}
"""Of each split every so many pictures: neighbours in a film are alike."""

CORRUPTED = 3
"""Of the pictures to test on every so many is corrupted, in each way."""

START = "start"
"""The weights that all arms go on from."""

ROUTES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "class": {
        word: {"probability": 0.5, "strength": [0.5, 1.0]}
        for word in ("sky", "building", "road", "pavement", "tree", "car", "rest")
    },
    "whole": {"everything": {"strength": [0.5, 1.0]}},
}
"""Arm -> rules; each draws of all styles of the package."""

RECIPE = (
    "recipe.crop=[144,192]",
    "recipe.batch=4",
    "recipe.optimizer=adamw",
    "recipe.learning_rate=5e-4",
    "recipe.weight_decay=1e-2",
    "recipe.warm_up=10",
    "recipe.scales=[0.75,1.0,1.25]",
)


def composed(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration that a command would make of these words."""
    presets.install()
    with hydra.initialize_config_dir(str(presets.conf_dir()), version_base="1.3"):
        plain: Any = OmegaConf.to_container(hydra.compose(name, [*words]), resolve=True)
    return dict(plain)


def halved(camvid: Path, to: Path) -> Path:
    """Writes some of CamVid's pictures at half their size."""
    for split, stride in STRIDE.items():
        for pair in labelled.find(camvid, split).pairs[::stride]:
            for path, folder, how in (
                (pair.picture, split, Image.Resampling.BOX),
                (pair.labels, f"{split}_labels", Image.Resampling.NEAREST),
            ):
                target = to / folder / f"{path.stem}.png"
                if not target.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with Image.open(path) as image:
                        image.resize(SIZE, how).save(target)
    return to


def restyled(small: Path, arm: str, to: Path) -> Path:
    """Returns the set that an arm is trained on."""
    if ROUTES[arm] is None:
        return small
    words = [f"data={small}", f"output={to}"]
    code = augment_session({**composed("augment", words), "routes": ROUTES[arm]})
    assert code == 0
    return to


def trained(data: Path, arm: str, seed: int, steps: int, work: Path) -> Path:
    """Trains an arm with a seed; goes on where it was ended. Returns the weights."""
    output = work / "weights" / f"{arm}_{seed}.safetensors"
    if not output.is_file():
        words = [
            *("segmenter=dabnet", f"data={data}", "init=camvid", f"output={output}"),
            *(f"steps={steps}", f"seed={seed}", "resume=true", "validate_every=0"),
            *("preview_every=0", "checkpoint_every=20", "precision=fp32", "compile=false"),
            *("workers=0", "export=last", *RECIPE),
        ]
        code = train_session(composed("train", words))
        assert code == 0
    return output


Shown = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Pictures ``(H,W,3)`` with their labels ``(H,W)``."""


def shown(small: Path, streets: Path) -> dict[str, Shown]:
    """Returns what nets are tested on, by what it is called."""
    test = labelled.find(small, "test")
    clean = [test.read(pair) for pair in test.pairs]
    found = {"clean": clean}
    for name in CORRUPTIONS:
        found[name] = [
            (corrupted(picture, name, seed), labels)
            for seed, (picture, labels) in enumerate(clean[::CORRUPTED])
        ]
    if (streets / "classes.txt").is_file():
        elsewhere = labelled.find(streets, None)
        found["streets"] = [elsewhere.read(pair) for pair in elsewhere.pairs]
    return found


@torch.inference_mode()
def tested(weights: Path | None, sets: dict[str, Shown]) -> dict[str, float]:
    """Returns the mean IoU of a net on each set, over the classes that the set has."""
    given = {} if weights is None else {"weights": str(weights)}
    net = registry.segmenters.create("dabnet", vocabulary="camvid", **given).eval()
    found = {}
    for name, pictures in sets.items():
        counts = Confusion(len(net.classes))
        for picture, labels in pictures:
            logits = net(to_image(torch.from_numpy(picture)))
            counts.add(to_size(logits, labels.shape).argmax(1)[0].numpy(), labels)
        found[name] = counts.mean_iou
    found["corrupted"] = float(np.mean([found[name] for name in CORRUPTIONS]))
    return found


def measured(work: Path, sets: dict[str, Shown]) -> dict[str, dict[str, float]]:
    """Returns the figures of each net that is trained, ``class_0`` and so on, and of `START`."""
    nets: dict[str, Path | None] = {START: None}
    nets |= {path.stem: path for path in sorted((work / "weights").glob("*.safetensors"))}
    figures = {}
    for name, weights in nets.items():
        file = work / "results" / f"{name}.json"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(tested(weights, sets), indent=1))
            print(f"{name}: {file.read_text()}", flush=True)
        figures[name] = json.loads(file.read_text())
    return figures


def table(figures: dict[str, dict[str, float]], sizes: dict[str, int]) -> str:
    """Returns the figures as Markdown: mean and standard deviation over the seeds of each arm."""
    arms = {
        arm: [one for name, one in figures.items() if name.split("_")[0] == arm] for arm in ROUTES
    }
    rows = ["clean", "corrupted", *CORRUPTIONS, "streets"]
    lines = [
        f"| mean IoU | pictures | {START} | {' | '.join(arms)} |",
        "| --- " * (3 + len(arms)) + "|",
    ]
    for row in rows:
        if row not in figures[START]:
            continue
        cells = []
        for nets in arms.values():
            values = [one[row] for one in nets]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "")
        count = sizes.get(row, len(CORRUPTIONS) * sizes["noise"])
        lines.append(f"| {row} | {count} | {figures[START][row]:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--only", choices=("train", "test"))
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    small = halved(given.camvid, given.work / "camvid")
    if given.only != "test":
        sets = {arm: restyled(small, arm, given.work / arm) for arm in ROUTES}
        for seed in range(given.seeds):
            for arm, data in sets.items():
                trained(data, arm, seed, given.steps, given.work)
    if given.only != "train":
        seen = shown(small, given.work / "streets")
        figures = measured(given.work, seen)
        print(table(figures, {name: len(pictures) for name, pictures in seen.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
