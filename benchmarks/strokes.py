"""``python -m benchmarks.strokes``: how steady strokes are by ``steady=full``.

Two sample photographs become clips whose motion is known to the pixel (`pan`), and everything in
them is restyled. The warping error (Lai et al. 2018) is the mean squared difference, in [0,1], of a
frame and the one before it moved along; no flow is estimated for it. Blur is steady too, so beside
it stand the gradient energy and the style loss of VGG-19 (where that and the painting are there),
each as a ratio to ``off``. The first frames, in which nothing is carried yet, do not count.

    python -m benchmarks.strokes [--frames N] [--styles NAME ..] [--videos FILE ..] [WORDS ...]

Of a video the change from frame to frame is taken, in levels of 255, where the source changes by
less than `CALM` levels on average: in a sky. Its mean, and that of the worst pair of frames.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cbs_plugins.losses.gatys import GatysObjective
from cbs_plugins.sources.pan import PanSource
from PIL import Image
from torch import Tensor

from benchmarks.clips import clip
from benchmarks.workloads import compose
from cbs_core.contract.errors import CbsError
from cbs_core.run import workshop
from cbs_core.run.stream import Stream

PHOTOGRAPHS = ("cat", "astronaut")

STYLES = ("starry_night", "wave")

PAINTINGS = Path("../shared/data/styles")

MODES = ("off", "full")

SIZE = (240, 320)
"""Height and width of the window that moves."""

BEGUN = 3
"""Frames that do not count."""

EDGE = 8
"""Pixels at the border that do not count: what comes into view was not there before."""

CALM = 1.0
"""Levels of 255."""

USUAL = ("accelerator=eager", "precision=fp32", "device=cpu", "routes=[everything]")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one clip as it was shown."""

    warping: float
    gradient: float
    style: float


def pan(name: str, frames: int) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Returns a clip of a sample ``(1,3,H,W)``, and its window's place in each frame."""
    source = PanSource(f"sample:{name}", frames=frames, height=SIZE[0], width=SIZE[1], period=240)
    with source:
        pictures = [frame.pixels.permute(2, 0, 1)[None] / 255 for frame in source]
    return pictures, [source.offset(index) for index in range(frames)]


@torch.inference_mode()
def shown(mode: str, style: str, frames: list[Tensor], words: list[str]) -> list[Tensor]:
    """Returns a clip as a run shows it."""
    config = compose([*USUAL, f"styler.style={style}", f"steady={mode}", *words])
    plan = workshop.plan(config, device=torch.device("cpu"), dtype=torch.float32)
    stream = Stream(plan)
    return [stream(frame).image for frame in frames]


def figures(
    pictures: list[Tensor], frames: list[Tensor], places: list[tuple[int, int]], judge: "Judge"
) -> Figures:
    """Returns them for a clip with exact motion."""
    errors = []
    moves = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
    for (was, now), (x, y) in list(zip(pairwise(pictures), moves, strict=True))[BEGUN:]:
        inside = (slice(None), slice(None), slice(EDGE, -EDGE), slice(EDGE, -EDGE))
        errors.append(float((torch.roll(was, (-y, -x), (2, 3)) - now)[inside].square().mean()))
    energies = [
        sum(float(picture.diff(dim=axis).square().mean()) for axis in (2, 3))
        for picture in pictures[BEGUN:]
    ]
    return Figures(float(np.mean(errors)), float(np.mean(energies)), judge(pictures, frames))


class Judge:
    """The style loss of a clip's middle and last frame.

    Args:
        painting: a picture file; without it, or without VGG-19, the loss is NaN.
    """

    def __init__(self, painting: Path) -> None:
        self._painting = None
        if not painting.is_file():
            return
        try:
            self._objective = GatysObjective()
        except CbsError as error:
            print(f"no style loss: {error}", file=sys.stderr)
            return
        picture = Image.open(painting).convert("RGB")
        picture.thumbnail((256, 256))
        self._painting = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255

    def __call__(self, pictures: list[Tensor], frames: list[Tensor]) -> float:
        """Returns the mean of both."""
        if self._painting is None:
            return float("nan")
        some = [len(pictures) // 2, -1]
        given = [(pictures[index], frames[index], self._painting) for index in some]
        return float(np.mean([float(self._objective(*one)["style"]) for one in given]))


def changes(frames: list[Tensor], pictures: list[Tensor]) -> list[list[float]]:
    """Returns by how many levels the calm part of a video changes, in the source and as shown."""
    levels = [
        [255 * (b - a).abs().mean(1)[0] for a, b in pairwise(one)] for one in (frames, pictures)
    ]
    size = 16
    source = F.avg_pool2d(torch.stack(levels[0]).mean(0)[None, None], size)
    # With its neighbours, as strokes next to what moves do move.
    calm = F.max_pool2d(source, 3, 1, 1)[0, 0] < CALM
    return [
        [float(F.avg_pool2d(pair[None, None], size)[0, 0][calm].mean()) for pair in one]
        for one in levels
    ]


def exact(
    words: list[str],
    *,
    styles: Sequence[str] = STYLES[:1],
    count: int = 14,
    paintings: Path = PAINTINGS,
) -> list[dict[str, Any]]:
    """Returns the figures of ``full`` as ratios to ``off``, of each style and photograph."""
    rows = []
    for style in styles:
        judge = Judge(paintings / f"{style}.jpg")
        for name in PHOTOGRAPHS:
            frames, places = pan(name, count)
            off, full = (
                figures(shown(mode, style, frames, words), frames, places, judge) for mode in MODES
            )
            ratios = {key: value / asdict(off)[key] for key, value in asdict(full).items()}
            ratios["style loss"] = ratios.pop("style")
            rows.append({"style": style, "clip": name, **ratios})
    return rows


def skies(
    videos: Sequence[Path], words: list[str], *, styles: Sequence[str] = STYLES[:1], count: int = 28
) -> list[dict[str, Any]]:
    """Returns the mean and the worst change of calm parts, of each video that has one."""
    rows = []
    for video in videos:
        frames = clip(video, count)
        for style in styles:
            found: dict[str, list[float]] = {}
            for mode in MODES:
                found["source"], found[mode] = changes(frames, shown(mode, style, frames, words))
            if np.isnan(found["source"]).any():
                break
            means = {key: float(np.mean(one)) for key, one in found.items()}
            worst = {f"{key}, worst": max(one) for key, one in found.items()}
            rows.append({"style": style, "clip": video.stem, **means, **worst})
    return rows


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--frames", type=int, default=28)
    parser.add_argument("--paintings", type=Path, default=PAINTINGS)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--styles", nargs="+", default=STYLES)
    given = parser.parse_intermixed_args()
    for row in exact(given.words, styles=given.styles, paintings=given.paintings):
        print(told(row), flush=True)
    videos = [path for path in given.videos if path.is_file()]
    for row in skies(videos, given.words, styles=given.styles, count=given.frames):
        print(told(row), flush=True)
    return 0


def told(row: dict[str, Any]) -> str:
    """Returns a row in words."""
    return ", ".join(
        f"{key} {value:.2f}" if isinstance(value, float) else str(value)
        for key, value in row.items()
    )


if __name__ == "__main__":
    sys.exit(main())
