"""``python -m benchmarks.latency``: how old live frames are, and what a style costs that comes new.

A camera that is made up gives a photograph at a rate that this machine holds. Each frame's number
is written into its corner in black and white squares, outside of what is restyled, and read again
from what the studio shows: the age of a frame is from its capture until it is shown. Then every
style that the styler has is chosen, none of which was loaded: how long until it shows, how long
the picture stands still meanwhile, and how old frames are from then on.

    python -m benchmarks.latency [--size 256] [--rate FPS] [--seconds 10] [WORDS ...]

WORDS are as after ``cbs-run``: ``segmenter=dabnet``, ``accelerator=eager``.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import machine
from benchmarks.workloads import compose
from cbs_core.choose import registry
from cbs_core.live.feed import Taken
from cbs_core.live.pictures import Shown, fitted
from cbs_core.live.studio import Studio
from cbs_core.machine.background import in_short_turns
from cbs_core.run import settings
from cbs_core.run.workshop import Workshop

BITS, SQUARE = 16, 6
"""Of a frame's number, and pixels of each bit's square."""

SPARE = 0.7
"""Part of its period that a frame takes, where no rate is said: what a machine holds."""

STALL_S, COMES_S = 0.1, 2.0
"""What must hold: how long the picture may stand still beyond a period, and when a style shows."""

PATIENCE = 60.0


class Camera:
    """Gives a studio's main feed numbered frames.

    Args:
        studio: whose.
        picture: uint8 ``(H,W,3)``.
        rate: frames a second.
    """

    def __init__(self, studio: Studio, picture: Tensor, rate: float) -> None:
        self._studio = studio
        self._picture = picture
        self.rate = rate
        self.captured: list[float] = []
        self.ages: list[float] = []
        self.shown: list[float] = []
        self._last = -1
        self._ended = threading.Event()
        self._untap = studio.main.tap(self._done)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it, when its last frame is shown."""
        self._ended.set()
        self._thread.join()
        end = time.monotonic() + PATIENCE
        while self._last < len(self.captured) - 1 and time.monotonic() < end:
            time.sleep(0.002)
        self._untap()

    def _work(self) -> None:
        begun, index = time.monotonic(), 0
        while not self._ended.wait(max(0.0, begun + index / self.rate - time.monotonic())):
            frame = numbered(self._picture, index)
            self.captured.append(time.monotonic())
            self._studio.put(self._studio.main, Taken(frame, self.captured[-1]))
            index += 1

    def _done(self, shown: Shown) -> None:
        now, self._last = time.monotonic(), number(shown.restyled)
        self.ages.append(now - self.captured[self._last])
        self.shown.append(now)


def numbered(picture: Tensor, index: int) -> Tensor:
    """Returns a copy with a number in its upper left corner."""
    bits = torch.tensor([(index >> bit) & 1 for bit in range(BITS)], dtype=torch.uint8)
    out = picture.clone()
    out[:SQUARE, : BITS * SQUARE] = (255 * bits).repeat_interleave(SQUARE)[None, :, None]
    return out


def number(pixels: NDArray[np.uint8]) -> int:
    """Returns the number in a picture's corner."""
    middles = pixels[SQUARE // 2, SQUARE // 2 : BITS * SQUARE : SQUARE].mean(-1) > 127
    return int((middles << np.arange(BITS)).sum())


def until(camera: Camera, frames: int) -> None:
    """Waits for so many more frames."""
    wanted, end = len(camera.shown) + frames, time.monotonic() + PATIENCE
    while len(camera.shown) < wanted:
        if time.monotonic() > end:
            raise SystemExit("nothing is shown")
        time.sleep(0.002)


def processing(studio: Studio, picture: Tensor) -> list[float]:
    """Returns the seconds that frames take which come one after the other."""
    camera = Camera(studio, picture, 0.8)
    until(camera, 3)
    camera.close()
    slow = max(camera.ages[1:])
    camera = Camera(studio, picture, min(10.0, 0.5 / slow))
    until(camera, 12)
    camera.close()
    return camera.ages[1:]


def steady(studio: Studio, picture: Tensor, rate: float, seconds: float) -> dict[str, object]:
    """Returns ages at a rate, seconds; the first frames are left out."""
    dropped = studio.main.dropped
    camera = Camera(studio, picture, rate)
    until(camera, max(3, round(rate * seconds)))
    camera.close()
    gaps = [b - a for a, b in pairwise(camera.shown[2:])]
    return {
        "frames": len(camera.shown),
        "dropped": studio.main.dropped - dropped,
        **quantiles("age", camera.ages[2:]),
        **quantiles("gap", gaps),
    }


def comes(studio: Studio, picture: Tensor, rate: float, style: str) -> dict[str, object]:
    """Returns when a style that is new shows, and the longest pause meanwhile, in seconds."""
    camera = Camera(studio, picture, rate)
    until(camera, 8)
    asked = time.monotonic()
    studio.change(studio.main, {"routes": {"person": style}})
    while studio.main.building:
        time.sleep(0.001)
        if time.monotonic() > asked + PATIENCE:
            raise SystemExit("the style does not come")
    ready = time.monotonic()
    until(camera, max(3, round(rate)))
    camera.close()
    shown = next(b for a, b in pairwise(camera.shown) if a > ready)  # begun after it was ready
    then = [age for age, at in zip(camera.ages, camera.shown, strict=True) if at >= shown]
    gaps = [b - a for a, b in pairwise(camera.shown) if b > asked]
    return {
        "style": style,
        "comes": shown - asked,
        "pause": max(gaps),
        "stall": max(gaps) - 1 / rate,
        "then": statistics.median(then),
    }


def quantiles(name: str, values: list[float]) -> dict[str, float]:
    """Returns the median, the 95th of a hundred and the largest."""
    return {
        f"{name}_p50": statistics.median(values),
        f"{name}_p95": float(np.percentile(values, 95)),
        f"{name}_max": max(values),
    }


def main() -> int:
    """Measures and prints; fails where a bound does not hold."""
    parser = argparse.ArgumentParser(prog="latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256, help="longest side of the live picture")
    parser.add_argument("--rate", type=float, help="of the camera; else what the machine holds")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path, help="a file for the figures, as JSON")
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args()
    usual = ["routes={person: starry_night}", "matte=soft", "device=cpu"]
    base = settings.look(compose([*usual, *given.words]))
    with registry.sources.create("sample", path="astronaut") as source:
        picture = fitted(next(iter(source)).pixels, given.size)
    workshop = Workshop.on("cpu", "fp32")
    studio = Studio(base, workshop, size=given.size)
    studio.prepare(base, picture)  # as `cbs-live` does
    studio.start()
    try:
        took = quantiles("took", processing(studio, picture))
        rate = given.rate or min(30.0, SPARE / took["took_p95"])
        ages = steady(studio, picture, rate, given.seconds)
        others = [one for one in studio.catalog.styles if one != "starry_night"]
        styles = [comes(studio, picture, rate, one) for one in others]
    finally:
        studio.close()
    bound = 2 / rate + took["took_p95"]
    told = {
        "machine": machine.facts(torch.device("cpu")),
        "size": given.size,
        "words": given.words,
        "rate": rate,
        "bound": bound,
        **took,
        **ages,
        "styles": styles,
    }
    print(lines(told))
    if given.out is not None:
        given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    held = [float(one["comes"]) <= COMES_S and float(one["stall"]) <= STALL_S for one in styles]  # type: ignore[arg-type]
    return 0 if all(held) and float(told["age_p95"]) <= bound else 1  # type: ignore[arg-type]


def lines(told: dict[str, object]) -> str:
    """Returns the figures as Markdown, in milliseconds."""

    def ms(key: str, where: dict[str, object] = told) -> str:
        return f"{1e3 * float(where[key]):.0f}"  # type: ignore[arg-type]

    styles = told["styles"]
    assert isinstance(styles, list)
    head = (
        f"{told['size']} px, a frame takes {ms('took_p50')} ms (p95 {ms('took_p95')}), a camera of "
        f"{float(told['rate']):.1f} FPS: {told['frames']} frames shown, {told['dropped']} dropped"  # type: ignore[arg-type]
    )
    return "\n".join(
        [
            head,
            f"age: p50 {ms('age_p50')}, p95 {ms('age_p95')}, most {ms('age_max')} ms (two periods "
            f"and a frame: {ms('bound')}); from one to the next: p50 {ms('gap_p50')}, p95 "
            f"{ms('gap_p95')}, most {ms('gap_max')} ms (a period: {1e3 / float(told['rate']):.0f})",  # type: ignore[arg-type]
            "",
            "| style, never loaded | shows after, ms | longest pause, ms | beyond a period, ms | "
            "age then, ms |",
            "|---|---|---|---|---|",
            *(
                f"| {one['style']} | {ms('comes', one)} | {ms('pause', one)} | {ms('stall', one)} |"
                f" {ms('then', one)} |"
                for one in styles
            ),
        ]
    )


if __name__ == "__main__":
    with in_short_turns():  # as `cbs-live` has them
        sys.exit(main())
