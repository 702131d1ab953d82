"""``make steady``: how much mattes flicker on real clips, with ``steady=off`` and ``steady=matte``.

Flicker is 1 - IoU of a frame's matte, carried along the motion of the input, and the next frame's,
averaged over the frames that have one. The motion is that of `cbs_core.temporal.flow`, at the size
at which mattes are held. What is kept of the mattes themselves stands beside it: the share of the
frame's own mattes that the held ones cover (recall), and of the held ones that these cover
(precision). The frame's own are no truth: they are what a net saw. Both ways see the same
segmentation, which is done once.

    python -m benchmarks.steady FOLDER [--frames 32] [--strips FOLDER] [WORDS ...]

FOLDER holds videos; WORDS are as after ``cbs-run``: ``segmenter=dabnet``, ``routes=[car]``.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import untaken
from benchmarks.workloads import compose
from cbs_core.frame.plan import Plan
from cbs_core.run import workshop
from cbs_core.run.stream import Stream
from cbs_core.temporal.carrying import Seen
from cbs_core.temporal.flow import resized, warped

WIDTH = 480
"""Pixels to which clips are reduced."""

SIX = 6
"""Frames of a strip, from the middle of the clip."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one clip gave."""

    off: float
    held: float
    recall: float
    precision: float
    step_ms: float
    segment_ms: float


class Once:
    """A segmenter that sees each frame once, and tells how long that took.

    Args:
        call: the segmenter.
    """

    def __init__(self, call: object) -> None:
        self._call = call
        # With the frame, so that no other takes its number.
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        self.seconds: list[float] = []

    def __call__(self, image: Tensor) -> Tensor:
        """Returns the logits of a frame."""
        if id(image) not in self._known:
            begun = time.perf_counter()
            self._known[id(image)] = image, self._call(image)  # type: ignore[operator]
            self.seconds.append(time.perf_counter() - begun)
        return self._known[id(image)][1]


def clip(path: Path, frames: int) -> list[Tensor]:
    """Returns the first frames ``(1,3,h,WIDTH)`` of a video."""
    out = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            height = round(frame.height * WIDTH / frame.width / 2) * 2
            small = frame.reformat(WIDTH, height, "rgb24", interpolation="AREA").to_ndarray()
            out.append(torch.from_numpy(small).permute(2, 0, 1)[None] / 255)
            if len(out) == frames:
                break
    return out


@torch.inference_mode()
def measure(plan: Plan, frames: list[Tensor], strip: Path | None = None) -> Row:
    """Runs a clip both ways."""
    once = Once(plan.segmenter.call)
    plan = replace(plan, segmenter=replace(plan.segmenter, call=once))
    off, _ = _mattes(replace(plan, steady="off"), frames)
    held, seconds = _mattes(replace(plan, steady="matte"), frames)
    seen = [Seen.of(frame, 0) for frame in frames]
    steps = [now.since(before).motion for before, now in pairwise(seen)]
    common = sum(int((a & b).sum()) for a, b in zip(off, held, strict=True))
    if strip is not None:
        _draw(frames, off, held, strip)
    return Row(
        _flicker(off, steps),
        _flicker(held, steps),
        common / max(1, sum(int(one.sum()) for one in off)),
        common / max(1, sum(int(one.sum()) for one in held)),
        1e3 * float(np.median(seconds)),
        1e3 * float(np.median(once.seconds)),
    )


def _mattes(plan: Plan, frames: list[Tensor]) -> tuple[list[Tensor], list[float]]:
    """Returns the mattes ``(H,W)`` of all routes together, and seconds beside the segmentation."""
    stream, out, seconds = Stream(plan), [], []
    for frame in frames:
        begun = time.perf_counter()
        scores = stream.score(frame, plan)
        seconds.append(time.perf_counter() - begun)
        size = (frame.shape[2], frame.shape[3])
        out.append(plan.regions(scores.logits, size)[0].sum(0) > 0.5)
    return out, seconds


def _flicker(mattes: list[Tensor], steps: list[Tensor]) -> float:
    found = []
    for before, now, motion in zip(mattes, mattes[1:], steps, strict=False):
        size = (now.shape[0], now.shape[1])
        larger = resized(motion, size) * (size[1] / motion.shape[3])
        carried = warped(before[None, None].float(), larger)[0, 0] > 0.5
        if union := int((carried | now).sum()):
            found.append(1 - int((carried & now).sum()) / union)
    return float(np.mean(found)) if found else 0.0


def _draw(frames: list[Tensor], off: list[Tensor], held: list[Tensor], path: Path) -> None:
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
        for mattes in (off, held)
    ]
    picture = torch.cat(rows, 1).permute(1, 2, 0).mul(255).byte().numpy()
    Image.fromarray(picture).save(path)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--strips", type=Path)
    given = parser.parse_intermixed_args()
    clips = sorted(given.folder.glob("*.mp4"))
    if given.strips:
        untaken(parser, *(given.strips / f"{path.stem}.png" for path in clips))
        given.strips.mkdir(parents=True, exist_ok=True)
    if not given.folder.is_dir():
        print(f"no folder {given.folder}: nothing measured")
        return 0
    usual = ["accelerator=eager", "precision=fp32", "device=cpu"]
    config = compose([*usual, *given.words])
    plan = workshop.plan(config, device=torch.device("cpu"), dtype=torch.float32)
    print("| clip | flicker: off | matte | ratio | recall | precision | step, ms | segment, ms |")
    print("|---|---|---|---|---|---|---|---|")
    for path in clips:
        strip = given.strips / f"{path.stem}.png" if given.strips else None
        row = measure(plan, clip(path, given.frames), strip)
        ratio = f"{row.held / row.off:.2f}" if row.off else "-"
        print(
            f"| {path.stem} | {100 * row.off:.1f}% | {100 * row.held:.1f}% | {ratio} "
            f"| {row.recall:.2f} | {row.precision:.2f} "
            f"| {row.step_ms:.0f} | {row.segment_ms:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
