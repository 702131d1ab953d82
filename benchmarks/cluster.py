"""What ``cbs-batch engine=ray`` costs and gains here, and what a film would take on more.

    python -m benchmarks.cluster --seconds 60 --rounds 3

In each round, in turn: ``cbs-run`` held to one core on a clip of that many seconds of its work, and
``cbs-batch engine=ray`` with one worker, held to one core too; then, on a longer clip, two workers,
each held to a core of its own, and one. Ray's own processes go where there is room. Last, two
``cbs-run`` side by side, each on a core of its own: what two cores of this machine do that share
its memory is the most that two workers can do.

Of the longer clip two figures are told: the whole commands', starts and the join included, and
that of the workers while they were at their tasks, as the report of a batch has it, which is what a
film's length brings the first to. Its frames are a multiple of four groups of pictures, so that two
windows are equally long. The machine should be idle: its load is told beside the figures, and the
seconds of processors by process, which other work changes less.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import psutil
from PIL import Image, ImageDraw, ImageFont

from benchmarks.costs import Estimate, Film, Fleet, Rates, estimate
from benchmarks.machine import RESULTS, untaken

WIDTH, HEIGHT, MARGIN = 960, 600, 70
LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115))
MEASURED = (20, 20, 20)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

ALONE, BESIDE = "cbs-run", "two cbs-run side by side"
ONE, TWO_LONGER, ONE_LONGER = "one worker", "two workers, longer", "one worker, longer"

GROUP = 12
"""Frames from key frame to key frame."""

KINDS = {"ray::Seat": "workers", "gcs_server": "ray", "raylet": "ray", "ray": "ray"}
"""Part of a command line -> what process it is of; the first that fits."""

TICK_S = 0.1

PROBES = 4, 28
"""Frames of two clips by which the time of one is told."""

FILM = 170_000
"""Frames of a film of two hours."""

LOOK = ["routes=[car]", "styler.style=wave", "device=cpu", "quiet=true"]
SCRIPTS = Path(sys.executable).parent


def lengthened(clip: Path, frames: int, output: Path) -> Path:
    """Writes a clip of so many frames, by repeating one."""
    with av.open(str(clip)) as source:
        pictures = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with av.open(str(output), "w") as out:
        height, width = pictures[0].shape[:2]
        stream = out.add_stream("libx264", rate=25, width=width, height=height)
        stream.pix_fmt, stream.gop_size = "yuv420p", GROUP
        for index in range(frames):
            there, back = divmod(index, len(pictures))
            at = back if there % 2 == 0 else len(pictures) - 1 - back
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[at], format="rgb24")))
        out.mux(stream.encode(None))
    return output


@dataclass(slots=True)
class Took:
    """What a command took."""

    seconds: float
    processors: dict[str, float]
    """Processor seconds, by what process: `KINDS`, ``driver`` and ``others``."""

    rate: float = 0.0
    """Frames a second of all workers together, while they were at tasks; of ``cbs-run`` none."""


def kind(command: str) -> str:
    """Returns which process of a batch one is, by its command line."""
    return next((name for part, name in KINDS.items() if part in command), "others")


def watched(words: list[str], folder: Path, *, core: int | None = None) -> Took:
    """Runs a command, and looks at its processes; each worker of Ray is held to a core of its own.

    Args:
        words: the command.
        folder: where it runs.
        core: to which it is held itself; None: to none.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    command = psutil.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    if core is not None:
        command.cpu_affinity([core])
    seen: dict[int, tuple[str, float]] = {}
    held: list[int] = []
    while command.poll() is None:
        for process in _with_children(command):
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                of = "driver" if process.pid == command.pid else kind(line)
                if not line and process.pid in seen:  # it has ended, and nobody has waited for it
                    of = seen[process.pid][0]
                times = process.cpu_times()
                seen[process.pid] = of, times.user + times.system
                if of == "workers" and process.pid not in held:
                    _hold(process, len(held))
                    held.append(process.pid)
        time.sleep(TICK_S)
    seconds = time.perf_counter() - began
    if command.returncode:
        raise SystemExit(f"{words[0]} ended with {command.returncode}")
    sums: dict[str, float] = {}
    for of, spent in seen.values():
        sums[of] = round(sums.get(of, 0) + spent, 2)
    return Took(seconds, sums)


def _hold(process: psutil.Process, number: int) -> None:
    """Holds a process, with the threads that it has, to a core."""
    for thread in process.threads():
        with suppress(OSError):
            os.sched_setaffinity(thread.id, [number % (os.cpu_count() or 1)])


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def alone(clip: Path, output: Path) -> list[str]:
    """Returns the command that does a clip in one process."""
    said = [f"input={clip}", f"output={output}", *LOOK, "report=null", "sheet=null"]
    return [str(SCRIPTS / "cbs-run"), *said]


def run(way: str, clip: Path, folder: Path, window: int) -> Took:
    """Does a clip in one of the ways: ``cbs-run``, two of these, or so many workers."""
    output = folder / "out.mp4"
    if way == ALONE:
        took = watched(alone(clip, output), folder, core=0)
    elif way == BESIDE:
        took = beside(clip, folder)
    else:
        ray = ["engine=ray", "engine.cpus=1", f"engine.workers={way}", f"window={window}"]
        said = [f"input={clip}", f"output={output}", *LOOK, *ray]
        took = watched([str(SCRIPTS / "cbs-batch"), *said], folder)
        report = folder / "out.report.json"
        workers = json.loads(report.read_text())["workers"].values()
        took.rate = sum(one["fps"] for one in workers if one["frames"])
        report.unlink()
    output.unlink(missing_ok=True)
    print(f"{clip.stem}, {way}: {took.seconds:.1f} s, processors {took.processors}", flush=True)
    return took


def beside(clip: Path, folder: Path) -> Took:
    """Does a clip twice at once, each on a core of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    both = []
    for core in range(2):
        words = alone(clip, folder / f"beside {core}.mp4")
        both.append(psutil.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL))
        both[-1].cpu_affinity([core])
    ended = [one.wait() for one in both]
    seconds = time.perf_counter() - began
    if any(ended):
        raise SystemExit(f"cbs-run ended with {max(ended)}")
    for core in range(2):
        (folder / f"beside {core}.mp4").unlink()
    return Took(seconds, {})


def frames_of(source: Path, seconds: float, folder: Path) -> int:
    """Returns how many frames of a clip ``cbs-run`` does in so many seconds, on one core."""
    few, more = PROBES
    times = [
        run(ALONE, lengthened(source, count, folder / f"{count} frames.mp4"), folder, 0).seconds
        for count in (more, few, more)  # the first tries what is fastest, and that is kept
    ][1:]
    frame = (times[1] - times[0]) / (more - few)
    return max(round((seconds - times[0]) / frame) + few, more)


def halved(frames: float) -> int:
    """Returns about as many frames, whose halves end at key frames.

    Example:
        >>> halved(138), halved(150)
        (144, 144)
    """
    return round(frames / (2 * GROUP)) * 2 * GROUP


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


def told(found: Estimate) -> str:
    """Returns an estimate in words."""
    return f"{found.seconds / 3600:.2f} h, {found.busy:.0%} of it restyling"


def figures(took: dict[str, list[Took]], counts: tuple[int, int]) -> dict[str, Any]:
    """Returns what is told of all rounds."""

    def middle(way: str) -> float:
        return statistics.median(one.seconds for one in took[way])

    short, long = counts
    frame = (middle(ONE_LONGER) - middle(ONE)) / (long - short)
    two = middle(ONE_LONGER) / middle(TWO_LONGER)
    rates = {way: statistics.median(one.rate for one in took[way]) for way in took}
    return {
        "frames": short,
        "frames of the longer clip": long,
        "seconds": {way: [round(one.seconds, 2) for one in every] for way, every in took.items()},
        "processor seconds": {way: every[-1].processors for way, every in took.items()},
        "a frame": round(frame, 4),
        "start": round(middle(ONE) - frame * short, 2),
        "overhead of one worker": round(middle(ONE) / middle(ALONE) - 1, 3),
        "two against one": round(two, 3),
        "two against one, at their tasks": round(rates[TWO_LONGER] / rates[ONE_LONGER], 3),
        "two cores against one, this machine": round(2 * middle(ALONE) / middle(BESIDE), 3),
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Measures all ways; returns the figures."""
    took: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory(prefix="cbs-cluster-") as made:
        folder, load = Path(made), os.getloadavg()[0]
        if args.frames:  # the first run tries what is fastest, and that is kept
            run(ALONE, lengthened(args.clip, PROBES[1], folder / "first.mp4"), folder, 0)
        short = args.frames or frames_of(args.clip, args.seconds, folder)
        long = halved(short * args.longer)
        clip = lengthened(args.clip, short, folder / "clip.mp4")
        longer = lengthened(args.clip, long, folder / "longer.mp4")
        ways = {
            ALONE: (ALONE, clip),
            ONE: ("1", clip),
            TWO_LONGER: ("2", longer),
            ONE_LONGER: ("1", longer),
            BESIDE: (BESIDE, clip),
        }
        for _ in range(args.rounds):
            for name, (way, file) in ways.items():
                took.setdefault(name, []).append(run(way, file, folder, args.window))
    return {"load": round(load, 2), **figures(took, (short, long))}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("--clip", default="../shared/data/video/solidWhiteRight.mp4", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of cbs-run on one core")
    parser.add_argument("--frames", type=int, help="of that clip, where they are known")
    parser.add_argument("--longer", type=float, default=3, help="times as long, for two workers")
    parser.add_argument("--window", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "cluster.json")
    args = parser.parse_args()
    if args.output != RESULTS / "cluster.json":
        untaken(parser, args.output, args.output.with_suffix(".png"))
    facts = measured(args)
    print(json.dumps(facts, indent=2))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(facts, indent=2) + "\n")
    if facts["a frame"] <= 0:
        raise SystemExit("the clip is too short to tell a frame's time: say more --seconds")
    rates = Rates(frame=facts["a frame"], start=facts["start"])
    film = Film(FILM, run_up=0)
    for workers in COUNTS:
        print(f"{FILM} frames, {workers} workers: {told(estimate(film, rates, Fleet(workers)))}")
    curves = {f"a film, {FILM} frames": curve(film, rates)}
    picture = plot(curves, {1: 1.0, 2: facts["two against one"]})
    picture.save(args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
