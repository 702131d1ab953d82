"""How exact a matte is at its edge, by ``matte=`` and ``compositor=``, and what that costs.

On CamVid's test pictures, cars by a net whose logits are small, and on drawn discs (`discs`) whose
logits are an eighth of the picture. Of what is blended in, where it is more than a half: the
boundary F-measure of DAVIS (within 0.8% of the diagonal) and the same within two pixels. **Veil**
is how much of the style lies on what is more than `NEAR` pixels outside of the hard matte, and how
much is missing as far inside, both in percent. Milliseconds are of matte and composite together.

    python -m benchmarks.edges FOLDER [--pictures 24] [WORDS ...]

FOLDER is CamVid's.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cbs_plugins.compositors.feather import FeatherCompositor
from cbs_plugins.compositors.guided import GuidedCompositor
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.compositors.mrf import MRFCompositor
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from benchmarks.discs import DISCS, Planted
from benchmarks.workloads import compose
from cbs_core.evaluation.metrics import boundary_f
from cbs_core.frame.mattes import Regions
from cbs_core.frame.scoring import segment
from cbs_core.run import workshop

WAYS = {
    "hard": ("argmax", HardCompositor()),
    "soft": ("soft", HardCompositor()),
    "feather": ("argmax", FeatherCompositor()),
    "guided": ("argmax", GuidedCompositor()),
    "soft, guided": ("soft", GuidedCompositor()),
    "mrf": ("argmax", MRFCompositor()),
}

CAR = 8
"""Of CamVid's labels."""

LEAST = 200
"""Pixels of the truth in a picture that counts."""

NEAR = 6


@dataclass(frozen=True, slots=True)
class Case:
    """A picture, what a net makes of it and what is true."""

    picture: Tensor
    """``(1,3,H,W)`` in [0,1]."""

    logits: Tensor
    classes: Sequence[str]
    routed: Sequence[str]
    truth: Tensor
    """``(H,W)`` bool."""


def camvid(folder: Path, count: int, words: list[str]) -> Iterator[Case]:
    """Yields cars of the test pictures, evenly chosen."""
    usual = ["accelerator=eager", "precision=fp32", "device=cpu", "routes=[car]"]
    plan = workshop.plan(compose([*usual, *words]), device=torch.device("cpu"), dtype=torch.float32)
    files = sorted((folder / "test").iterdir())
    for file in files[:: max(1, len(files) // count)]:
        labels = np.array(Image.open(folder / "test_labels" / f"{file.stem}.png"))
        truth = torch.from_numpy(labels == CAR)
        if int(truth.sum()) < LEAST:
            continue
        pixels = np.array(Image.open(file).convert("RGB"))
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        yield Case(picture, segment(picture, plan), plan.classes, plan.routes[0].classes, truth)


def drawn() -> Iterator[Case]:
    """Yields frames of discs."""
    for disc in DISCS.values():
        net = Planted(8)
        for picture, truth, _ in list(disc.frames())[:8:3]:
            net.seen = truth
            yield Case(picture, net(picture), ("ground", "thing"), ("thing",), truth)


@torch.inference_mode()
def figures(case: Case) -> dict[str, list[float]]:
    """Returns boundary F, that of two pixels, both veils and milliseconds, by way."""
    size = (case.truth.shape[0], case.truth.shape[1])
    hard = Regions(case.classes, [case.routed])(case.logits, size)[0, 0].numpy() > 0.5
    outside = distance_transform_edt(~hard) > NEAR if hard.any() else ~hard
    inside = distance_transform_edt(hard) > NEAR
    far = (case.picture < 0.5).float()
    found = {}
    for way, (mode, compositor) in WAYS.items():
        regions = Regions(case.classes, [case.routed], mode)
        begun = time.perf_counter()
        out = compositor(case.picture, far, regions(case.logits, size))
        seconds = time.perf_counter() - begun
        alpha = ((out - case.picture) / (far - case.picture)).mean(1)[0].clamp(0, 1).numpy()
        truth, shown = case.truth.numpy(), alpha > 0.5
        found[way] = [
            boundary_f(shown, truth),
            boundary_f(shown, truth, tolerance=2),
            100 * float(alpha[outside].mean()),
            100 * float(1 - alpha[inside].mean()) if inside.any() else 0.0,
            1e3 * seconds,
        ]
    return found


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--pictures", type=int, default=24)
    given = parser.parse_intermixed_args()
    sets = {"drawn discs": drawn()}
    if given.folder.is_dir():
        sets["CamVid, cars"] = camvid(given.folder, given.pictures, given.words)
    print("| pictures | way | boundary F | within 2 px | veil | missing inside | ms |")
    print("|---|---|---|---|---|---|---|")
    for name, cases in sets.items():
        found = [figures(case) for case in cases]
        for way in WAYS:
            rows = np.array([one[way] for one in found])
            means = [*rows[:, :4].mean(0), float(np.median(rows[:, 4]))]
            told = " | ".join(
                f"{value:.{digits}f}" for value, digits in zip(means, (3, 3, 2, 2, 0), strict=True)
            )
            print(f"| {name} | {way} | {told} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
