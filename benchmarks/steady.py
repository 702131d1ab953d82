"""``make steady``: how steady mattes and strokes are, by ``steady=off``, ``matte`` and ``full``.

On real clips: **flicker** is 1 - IoU of a frame's matte, carried along the motion of the input, and
the next frame's, averaged over the frames that have one. **Recall** is of objects that were drawn
by hand (`benchmarks.clips`). The **warping error** (Lai et al. 2018) is the mean squared
difference in [0,1] of a shown frame and the one before it, moved along, where a check of the motion
forth and back calls a pixel visible; inside of both frames' mattes, and outside. Blur is steady
too, so beside it stand the gradient energy and the style loss inside of the mattes, as ratios to
``off``, and frames a second. All ways see the same segmentation, which is done once.

Then follow clips whose motion or object is known to the pixel: `benchmarks.strokes` and
`benchmarks.discs`.

    python -m benchmarks.steady FOLDER [--frames 28] [--strips FOLDER] [--docs FILE] [WORDS ...]

FOLDER holds videos; WORDS are as after ``cbs-run``: ``segmenter=dabnet``, ``routes=[car]``. With
``--docs`` the tables are written between the marks of a document, and the chart beside it.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import discs, machine, strokes
from benchmarks import steady_tables as tables
from benchmarks.clips import drawn, pixels
from benchmarks.machine import untaken
from benchmarks.strokes import Judge
from benchmarks.workloads import compose
from cbs_core.contract.types import RawFrame
from cbs_core.frame.plan import Plan
from cbs_core.run import workshop
from cbs_core.run.stream import Stream
from cbs_core.temporal.carrying import Seen
from cbs_core.temporal.flow import resized, warped

SIX = 6
"""Frames of a strip, from the middle of the clip."""

WAYS = {
    "off": ("off", 0),
    "matte": ("matte", 0),
    "matte, lookahead=4": ("matte", 4),
    "full": ("full", 0),
}
"""What is compared: `Plan.steady` and `Plan.lookahead`."""

BEGUN = 2
"""Frames that do not count: nothing is held yet."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one clip gave in one way; ratios are to ``off``."""

    flicker: float
    recall: float
    """NaN where nothing was drawn."""

    inside: float
    """Warping error; NaN where the mattes are empty."""

    outside: float
    gradient: float
    style: float
    """Style loss; NaN without the painting or VGG-19."""

    fps: float


class Once:
    """A segmenter that sees each frame once, and tells how long that took.

    Args:
        call: the segmenter.
    """

    def __init__(self, call: object) -> None:
        self._call = call
        # With the frame, so that no other takes its number.
        self._known: dict[bytes, Tensor] = {}
        self.seconds: list[float] = []

    def __call__(self, image: Tensor) -> Tensor:
        """Returns the logits of a frame."""
        key = image.numpy().tobytes()
        if key not in self._known:
            begun = time.perf_counter()
            self._known[key] = self._call(image)  # type: ignore[operator]
            self.seconds.append(time.perf_counter() - begun)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Motion:
    """From each frame to the next."""

    flows: list[Tensor]
    """``(1,2,H,W)``, from the later frame to the earlier."""

    visible: list[Tensor]
    """``(H,W)`` bool."""

    @classmethod
    def of(cls, frames: Sequence[Tensor]) -> "Motion":
        """Returns that of a clip ``(1,3,H,W)``; visible as in Ruder et al. 2016, section 5.1."""
        flows, visible = [], []
        size = (frames[0].shape[2], frames[0].shape[3])
        for before, now in pairwise(Seen.of(frame, 0) for frame in frames):
            back, forth = now.since(before).motion, before.since(now).motion
            error = (back + warped(forth, back)).square().sum(1)
            lengths = back.square().sum(1) + forth.square().sum(1)
            seen = error < 0.01 * lengths + 0.5
            scale = size[1] / back.shape[3]
            flows.append(resized(back, size) * scale)
            visible.append(resized(seen[None].float(), size)[0, 0] > 0.99)
        return cls(flows, visible)


@torch.inference_mode()
def measure(
    plan: Plan, path: Path, count: int, judge: Judge, strip: Path | None = None
) -> dict[str, Row]:
    """Runs a clip in each way."""
    once = Once(plan.segmenter.call)
    plan = replace(plan, segmenter=replace(plan.segmenter, call=once))
    raws = [RawFrame(one, index) for index, one in enumerate(pixels(path, count))]
    frames = [one.pixels.permute(2, 0, 1)[None] / 255 for one in raws]
    motion = Motion.of(frames)
    for frame in frames:
        once(frame)
    segment, rows, mattes = float(np.median(once.seconds)), {}, {}
    for way, (mode, lookahead) in WAYS.items():
        chosen = replace(plan, steady=mode, lookahead=lookahead)
        mattes[way], pictures, seconds = shown(chosen, raws)
        fps = 1 / (segment + float(np.median(seconds[BEGUN:])))
        found = figures(path.stem, mattes[way], pictures, motion)
        rows[way] = Row(*found, judged(judge, pictures, frames, mattes["off"]), fps)
    if strip is not None:
        draw(frames, [mattes[way] for way in ("off", "matte")], strip)
    return rows


def judged(
    judge: Judge, pictures: list[Tensor], frames: list[Tensor], mattes: list[Tensor]
) -> float:
    """Returns the style loss of what is around the mattes of the middle and the last frame."""
    some = [index for index in (len(frames) // 2, len(frames) - 1) if mattes[index].any()]
    losses = []
    for index in some:
        places = [mattes[index].any(axis).nonzero()[:, 0] for axis in (1, 0)]
        part = (..., *(slice(int(one[0]), int(one[-1]) + 33) for one in places))
        losses.append(judge([pictures[index][part]], [frames[index][part]]))
    return float(np.mean(losses)) if losses else float("nan")


def shown(plan: Plan, raws: Sequence[RawFrame]) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Returns the mattes ``(H,W)`` of all routes together, the pictures, and seconds a frame."""
    stream, mattes, pictures, seconds = Stream(plan), [], [], []
    for index, raw in enumerate(raws):
        begun = time.perf_counter()
        image = stream.upload(raw)
        ahead = raws[index + 1 : index + 1 + plan.lookahead]
        result = stream.restyle(image, stream.score(image, plan, ahead=ahead), plan)
        seconds.append(time.perf_counter() - begun)
        mattes.append(result.mattes[0].sum(0) > 0.5)
        pictures.append(result.image)
    return mattes, pictures, seconds


def figures(
    name: str, mattes: list[Tensor], pictures: list[Tensor], motion: Motion
) -> tuple[float, ...]:
    """Returns the figures of a clip as it was shown, up to the gradient, in the order of `Row`."""
    flicker: list[float] = []
    errors: tuple[list[float], list[float]] = ([], [])
    steps = zip(motion.flows, motion.visible, strict=True)
    for index, (flow, visible) in list(enumerate(steps, 1))[BEGUN:]:
        carried = warped(mattes[index - 1][None, None].float(), flow)[0, 0] > 0.5
        if union := int((carried | mattes[index]).sum()):
            flicker.append(1 - int((carried & mattes[index]).sum()) / union)
        off = (warped(pictures[index - 1], flow) - pictures[index]).square().mean(1)[0]
        both = (carried & mattes[index], ~(carried | mattes[index]))
        for found, where in zip(errors, both, strict=True):
            if (some := where & visible).any():
                found.append(float(off[some].mean()))
    size = (mattes[0].shape[0], mattes[0].shape[1])
    truths = [(index, drawn(name, index, size)) for index in range(len(mattes))]
    recalls = [
        int((mattes[index] & truth).sum()) / int(truth.sum())
        for index, truth in truths
        if truth is not None
    ]
    edges = [gradient(*pair) for pair in list(zip(pictures, mattes, strict=True))[BEGUN:]]
    means = [float(np.mean(one)) if one else float("nan") for one in (flicker, recalls, *errors)]
    return (*means, float(np.nanmean(edges)))


def gradient(picture: Tensor, matte: Tensor) -> float:
    """Returns the mean squared gradient of ``(1,3,H,W)`` inside of a matte; NaN of none."""
    total, count = 0.0, 0
    for axis in (0, 1):
        inside = matte.narrow(axis, 1, matte.shape[axis] - 1)
        inside = inside & matte.narrow(axis, 0, matte.shape[axis] - 1)
        total += float(picture[0].diff(dim=axis + 1).square().mean(0)[inside].sum())
        count += int(inside.sum())
    return total / count if count else float("nan")


def draw(frames: list[Tensor], ways: list[list[Tensor]], path: Path) -> None:
    """Writes six frames of a clip with their mattes, a row a way."""
    start = max(0, len(frames) // 2 - SIX // 2)
    red = torch.tensor([1.0, 0, 0])[:, None, None]
    rows = [
        torch.cat(
            [
                torch.where(mattes[i], 0.5 * frames[i][0] + 0.5 * red, frames[i][0])
                for i in range(start, min(len(frames), start + SIX))
            ],
            2,
        )
        for mattes in ways
    ]
    picture = torch.cat(rows, 1).permute(1, 2, 0).mul(255).byte().numpy()
    Image.fromarray(picture).save(path)


def main() -> int:
    """Measures, prints and, where that is asked for, writes down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--frames", type=int, default=28)
    parser.add_argument("--strips", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--paintings", type=Path, default=strokes.PAINTINGS)
    given = parser.parse_intermixed_args()
    clips = sorted(given.folder.glob("*.mp4"))
    if given.strips:
        untaken(parser, *(given.strips / f"{path.stem}.png" for path in clips))
        given.strips.mkdir(parents=True, exist_ok=True)
    if not given.folder.is_dir():
        print(f"no folder {given.folder}: nothing measured")
        return 0
    usual = ["accelerator=eager", "precision=fp32", "device=cpu", "styler.style=starry_night"]
    config = compose([*usual, *given.words])
    device = torch.device("cpu")
    plan = workshop.plan(config, device=device, dtype=torch.float32)
    judge = Judge(given.paintings / "starry_night.jpg")
    results: dict[str, Any] = {"machine": machine.facts(device), "words": given.words, "clips": {}}
    for path in clips:
        strip = given.strips / f"{path.stem}.png" if given.strips else None
        rows = measure(plan, path, given.frames, judge, strip)
        results["clips"][path.stem] = {way: asdict(row) for way, row in rows.items()}
        print("\n".join(tables.clip_rows(path.stem, results["clips"][path.stem])), flush=True)
    # Those are painted all over: what the real clips are of is not in them.
    words = [word for word in given.words if not word.startswith("routes=")]
    results["exact"] = strokes.exact(words)
    results["sky"] = strokes.skies(clips, words)
    results["discs"] = {
        name: {mode: asdict(one) for mode, one in ways.items()}
        for name, ways in discs.measured().items()
    }
    print("\n".join(tables.text(results)), flush=True)
    if given.docs:
        folder = machine.RESULTS / machine.machine_class(device)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steady.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        tables.chart(results).save(folder / "steady.png")
        tables.fill(given.docs, results, f"../benchmarks/results/{folder.name}/steady.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
