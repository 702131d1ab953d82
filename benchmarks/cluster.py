"""What ``cbs-batch engine=ray`` costs and gains here, and what a film would take on more.

    python -m benchmarks.cluster --frames 900 --rounds 3

In each round, in turn: ``cbs-run`` on one core, ``cbs-batch engine=ray`` with one worker of one
core, and with two, all of the same clip; the processes are held to cores of their own. The machine
should be idle: its load is told beside the figures.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont

from benchmarks.costs import Estimate, Film, Fleet, Rates, estimate
from benchmarks.machine import RESULTS

WIDTH, HEIGHT, MARGIN = 960, 600, 70
LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115))
MEASURED = (20, 20, 20)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

FILM = 170_000
"""Frames of a film of two hours."""

LOOK = ["routes=[car]", "styler.style=wave", "device=cpu", "quiet=true", "report=null"]


def lengthened(clip: Path, frames: int, output: Path) -> Path:
    """Writes a clip of so many frames, by repeating one."""
    with av.open(str(clip)) as source:
        pictures = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with av.open(str(output), "w") as out:
        height, width = pictures[0].shape[:2]
        stream = out.add_stream("libx264", rate=25, width=width, height=height)
        stream.pix_fmt, stream.gop_size = "yuv420p", 12
        for index in range(frames):
            there, back = divmod(index, len(pictures))
            at = back if there % 2 == 0 else len(pictures) - 1 - back
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[at], format="rgb24")))
        out.mux(stream.encode(None))
    return output


def timed(words: list[str], cores: str, folder: Path) -> float:
    """Runs a command held to cores; returns its seconds."""
    pinned = ["taskset", "-c", cores] if shutil.which("taskset") else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    subprocess.run([*pinned, *words], check=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def measure(clip: Path, rounds: int, window: int, folder: Path) -> dict[str, list[float]]:
    """Returns the seconds of each way, round by round."""
    scripts = Path(sys.executable).parent
    ray = [*LOOK, "engine=ray", "engine.cpus=1", f"window={window}"]
    ways = {
        "cbs-run": ("0", [str(scripts / "cbs-run"), *LOOK, "sheet=null"]),
        "one worker": ("0", [str(scripts / "cbs-batch"), *ray, "engine.workers=1"]),
        "two workers": ("0,1", [str(scripts / "cbs-batch"), *ray, "engine.workers=2"]),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = [*ways][number % 3 :] + [*ways][: number % 3]
        for name in order:
            cores, words = ways[name]
            output = folder / f"{name.replace(' ', '-')}-{number}.mp4"
            took[name].append(timed([*words, f"input={clip}", f"output={output}"], cores, folder))
            output.unlink()
    return took


def curve(film: Film, rates: Rates) -> dict[int, float]:
    """Returns how many times as fast as one worker so many are, by the model."""
    alone = estimate(film, rates, Fleet(1)).seconds
    return {count: alone / estimate(film, rates, Fleet(count)).seconds for count in COUNTS}


def plot(curves: dict[str, dict[int, float]], measured: dict[int, float]) -> Image.Image:
    """Draws speed against workers, both doubling from line to line."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    steps = len(COUNTS) - 1

    def point(workers: float, speed: float) -> tuple[float, float]:
        x, y = (math.log2(value) / steps for value in (workers, speed))
        return MARGIN + x * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN)

    for count in COUNTS:
        across, up = point(count, 1), point(1, count)
        pen.line([across, (across[0], MARGIN)], fill=(225, 225, 225))
        pen.line([up, (WIDTH - MARGIN, up[1])], fill=(225, 225, 225))
        pen.text((across[0], across[1] + 8), str(count), fill="black", font=font, anchor="mt")
        pen.text((up[0] - 8, up[1]), f"{count}x", fill="black", font=font, anchor="rm")
    pen.line([point(1, 1), point(COUNTS[-1], COUNTS[-1])], fill=(170, 170, 170), width=2)
    for number, (name, line) in enumerate(curves.items()):
        colour = LINES[number % len(LINES)]
        pen.line([point(*one) for one in line.items()], fill=colour, width=3)
        pen.text((MARGIN + 20, MARGIN + 14 + 28 * number), name, fill=colour, font=font)
    for workers, speed in measured.items():
        x, y = point(workers, max(speed, 1))
        pen.ellipse([x - 6, y - 6, x + 6, y + 6], fill=MEASURED)
    below = MARGIN + 14 + 28 * len(curves)
    pen.text((MARGIN + 20, below), "dots: measured; grey: ideal", fill=MEASURED, font=font)
    pen.text((WIDTH / 2, HEIGHT - 26), "workers", fill="black", font=font, anchor="mt")
    pen.text((MARGIN - 40, MARGIN - 40), "times as fast as one", fill="black", font=font)
    return picture


def rates_of(took: dict[str, list[float]], frames: int, start: float) -> Rates:
    """Returns a worker's rates by what was measured; looking and joining count as its frames."""
    alone = statistics.median(took["one worker"])
    return Rates(frame=(alone - start) / frames, start=start)


def told(found: Estimate) -> str:
    """Returns an estimate in words."""
    return f"{found.seconds / 3600:.2f} h, {found.busy:.0%} of it restyling"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("--clip", default="../shared/data/video/test_video.mp4")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "cluster.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cbs-cluster-") as made:
        folder = Path(made)
        clip = lengthened(Path(args.clip), args.frames, folder / "clip.mp4")
        tiny = lengthened(Path(args.clip), 2, folder / "tiny.mp4")
        load = os.getloadavg()[0]
        start = statistics.median(measure(tiny, 1, args.window, folder)["one worker"])
        took = measure(clip, args.rounds, args.window, folder)
    middle = {name: statistics.median(times) for name, times in took.items()}
    rates = rates_of(took, args.frames, start)
    facts: dict[str, Any] = {
        "load": round(load, 2),
        "frames": args.frames,
        "window": args.window,
        "seconds": took,
        "start": round(start, 2),
        "overhead of one worker": round(middle["one worker"] / middle["cbs-run"] - 1, 3),
        "two against one": round(middle["one worker"] / middle["two workers"], 3),
        "two against one, without the start": round(
            (middle["one worker"] - start) / max(middle["two workers"] - start, 1e-9), 3
        ),
    }
    print(json.dumps(facts, indent=2))
    film = Film(FILM, run_up=0)
    for workers in COUNTS:
        print(f"{FILM} frames, {workers} workers: {told(estimate(film, rates, Fleet(workers)))}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(facts, indent=2) + "\n")
    curves = {f"a film, {FILM} frames": curve(film, rates)}
    picture = plot(curves, {1: 1.0, 2: facts["two against one"]})
    picture.save(args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
