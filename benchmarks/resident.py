"""``python -m benchmarks.resident``: frames that are on a CUDA device already and stay there.

The promise of real time is made for 1024x2048 in fp16, from a frame in device memory, for each
accelerator that is installed: one frame after the other, and by ``scheduler=streams``, by which the
device need not wait while the host plans, and which takes each frame to the host besides. Then the
same from the host, and the device memory of a long run. Writes ``cuda.json`` to
``benchmarks/results/MACHINE_CLASS``.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks import floor, machine
from benchmarks.workloads import Nets, NotOfferedError, Ours, Scene, ours
from cbs_core.contract.tensors import to_pixels
from cbs_core.contract.types import RawFrame

ACCELERATORS = ("auto", "cudagraph", "compile", "eager")

SCHEDULERS = ("serial", "streams")

WIDTH = 32
WARM_UP = 20
FRAMES = 300


@dataclass(frozen=True, slots=True)
class Row:
    """A promise for one H200."""

    name: str
    scene: Scene
    must: float
    """Frames a second."""

    aim: float
    words: tuple[str, ...] = ()
    p95_ms: float | None = None
    """At most, where it is promised."""


ROWS = (
    Row("dense", Scene(1024, 2048), 150, 300, p95_ms=10),
    Row("matte", Scene(1024, 2048, 0.10, 2), 300, 600, ("styler.where=mask",)),
    Row(
        "matte, segmented at half its size",
        Scene(1024, 2048, 0.10, 2),
        300,
        600,
        ("styler.where=mask", "styler.halo=32", "segment_size=0.5"),
    ),
)


def main() -> int:
    """Measures, prints and writes; returns 1 where there is no device."""
    parser = argparse.ArgumentParser(prog="resident", description=__doc__.partition("\n")[0])
    parser.add_argument("--long", type=int, default=10_000, help="frames of the run for memory")
    parser.add_argument(
        "--accelerators",
        nargs="+",
        choices=ACCELERATORS,
        default=ACCELERATORS,
        metavar="NAME",
        help=f"to measure, of {', '.join(ACCELERATORS)}; the run for memory takes the first",
    )
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("resident: there is no CUDA device here: nothing is measured", file=sys.stderr)
        return 1
    device = torch.device("cuda")
    facts = machine.facts(device)
    rate = floor.rate(torch.float16, device)
    results: dict[str, Any] = {"machine": facts, "weights": "random", "rows": []}
    out = machine.RESULTS / str(facts["class"]) / "cuda.json"
    out.parent.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        nets = Nets(Path(folder))
        for row in ROWS:
            results["rows"].append(measure(row, nets, rate, args.accelerators))
            print("\n".join(table(results["rows"][-1])), flush=True)
            write()
        results["streams"] = streamed(nets, args.long, args.accelerators[0])
    print(", ".join(f"{name} {value:.4g}" for name, value in results["streams"].items()))
    write()
    print(out)
    return 0


def measure(
    row: Row, nets: Nets, rate: float, accelerators: Sequence[str] = ACCELERATORS
) -> dict[str, Any]:
    """Returns a row's frames a second and latencies, by accelerator.

    Args:
        row: the promise.
        nets: the weights.
        rate: of the device (`benchmarks.floor.rate`).
        accelerators: by name.
    """
    scene = row.scene
    floor_ms = 1e3 * sum(floor.gflop(scene.height, scene.width, WIDTH).values()) / rate
    measured: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name, scheduler in product(accelerators, SCHEDULERS):
        words = ("device=cuda", f"scheduler={scheduler}", "precision=fp16", f"accelerator={name}")
        try:
            run = ours(nets, scene, WIDTH, (*words, *row.words))
        except NotOfferedError as error:
            absent[name] = str(error)
            continue
        how = timed(resident(run)) if scheduler == "serial" else overlapped(run)
        measured[f"{name} {scheduler}"] = how | {"share": run.share}
        run.close()
    return asdict(row) | {"floor_ms": floor_ms, "measured": measured, "not_offered": absent}


def resident(run: Ours) -> Callable[[], torch.Tensor]:
    """Returns a frame of the pipeline, uint8 ``(H,W,3)`` to the same, on the device."""
    stream = run.stream
    raw = RawFrame(run.raw.pixels.to(stream.device), 0)
    return lambda: to_pixels(stream(stream.upload(raw)).image)


def timed(frame: Callable[[], object]) -> dict[str, float]:
    """Returns frames a second over all of them, and the latency of one by events on its stream."""
    for _ in range(WARM_UP):
        frame()
    pairs = []
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(FRAMES):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        frame()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    each = [begin.elapsed_time(end) for begin, end in pairs]
    p95 = statistics.quantiles(each, n=20)[-1]
    return {"fps": FRAMES / seconds, "p50_ms": statistics.median(each), "p95_ms": p95}


def overlapped(run: Ours) -> dict[str, float]:
    """Returns the same of a stream, the latency by the host's clock, until a frame is there."""
    raw = RawFrame(run.raw.pixels.to(run.stream.device), 0)
    for _ in drive(run, raw, WARM_UP):
        pass
    each = []
    start = time.perf_counter()
    for _, begun in drive(run, raw, FRAMES):
        each.append(1e3 * (time.perf_counter() - begun))
    seconds = time.perf_counter() - start
    p95 = statistics.quantiles(each, n=20)[-1]
    return {"fps": FRAMES / seconds, "p50_ms": statistics.median(each), "p95_ms": p95}


def drive(run: Ours, raw: RawFrame, count: int) -> Iterator[tuple[int, float]]:
    """Sends a frame through a scheduler so many times; yields each, and when it was submitted."""
    begun = []
    for index in range(count):
        begun.append(time.perf_counter())
        run.scheduler.submit(replace(raw, index=index))
        for done in run.scheduler.ready():
            run.meter.frame_out()
            yield done.index, begun[done.index]
    for done in run.scheduler.drain():
        run.meter.frame_out()
        yield done.index, begun[done.index]


def streamed(nets: Nets, frames: int, accelerator: str = "auto") -> dict[str, float]:
    """Runs whole frames from host to host by ``scheduler=streams``.

    Returns:
        Frames a second, the share of the stages' time that their overlap saves, and by how many
        MiB the device memory that torch reserved grew after the first hundred frames.
    """
    words = ("device=cuda", "scheduler=streams", "precision=fp16")
    run = ours(nets, ROWS[0].scene, WIDTH, (*words, f"accelerator={accelerator}"))

    for _ in drive(run, run.raw, 100):
        pass
    before = torch.cuda.memory_reserved()
    start = time.perf_counter()
    for _ in drive(run, run.raw, frames):
        pass
    fps = frames / (time.perf_counter() - start)
    grown = (torch.cuda.memory_reserved() - before) / 2**20
    overlap = run.meter.overlap
    run.close()
    saved = 0.0 if overlap is None else overlap.saved
    return {"frames": frames, "fps": fps, "overlap_saved": saved, "grown_mib": grown}


def table(row: dict[str, Any]) -> list[str]:
    """Returns a row's table in Markdown, the fastest first."""
    scene = row["scene"]
    named = " ".join(("", *(f"`{word}`" for word in row["words"])))
    late = "" if row["p95_ms"] is None else f" with p95 at most {row['p95_ms']:g} ms"
    lines = [
        f"**{scene['height']}x{scene['width']}, width {WIDTH}, fp16, matte {scene['share']:.0%}**"
        f"{named}: must {row['must']:g} FPS{late}, aim {row['aim']:g}; a whole frame's arithmetic "
        f"takes {row['floor_ms']:.2f} ms",
        "",
        "| accelerator and scheduler | FPS | p50 ms | p95 ms | of the floor's rate | |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in sorted(row["measured"].items(), key=lambda item: -item[1]["fps"]):
        held = one["fps"] >= row["must"] and one["p95_ms"] <= (row["p95_ms"] or float("inf"))
        verdict = ("aim" if one["fps"] >= row["aim"] else "must") if held else "below"
        share = one["fps"] * row["floor_ms"] / 1e3
        lines.append(
            f"| {name} | {one['fps']:.0f} | {one['p50_ms']:.2f} | {one['p95_ms']:.2f} | "
            f"{share:.0%} | {verdict} |"
        )
    for name, reason in row["not_offered"].items():
        lines.append(f"| {name} | | | | | not offered here: {reason.replace('|', '/')} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
