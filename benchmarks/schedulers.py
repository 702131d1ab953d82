"""``python -m benchmarks.schedulers``: what each scheduler makes of a whole run on this machine.

``cbs-run`` restyles the person in a clip that is decoded and encoded, with every scheduler that the
CPU has, in turn, several times. What is built before the first frame is left out. Close other
programs first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

from benchmarks import machine

SCHEDULERS = ("serial", "pipeline", "auto")

SETTINGS = (
    ("accelerator=openvino", "styler.where=mask"),
    ("accelerator=openvino", "styler.where=frame"),
    ("accelerator=eager", "precision=fp32", "styler.where=frame"),
)
"""The first two fill every core, the last does not."""


def main() -> int:
    """Measures, prints and writes ``schedulers.json``."""
    parser = argparse.ArgumentParser(prog="schedulers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times that each is measured")
    parser.add_argument("--frames", type=int, default=48, help="of the clip")
    parser.add_argument("--out", type=Path, help="a folder in place of the machine's class")
    args = parser.parse_args()
    if args.out:
        machine.untaken(parser, args.out / "schedulers.json")
    facts = machine.facts(torch.device("cpu"))
    results = []
    print("| setting | " + " | ".join(f"{name}, ms a frame" for name in SCHEDULERS) + " |")
    print("|---" * (1 + len(SCHEDULERS)) + "|")
    for words in SETTINGS:
        times: dict[str, list[float]] = {name: [] for name in SCHEDULERS}
        for turn in range(args.rounds):
            for index in range(len(SCHEDULERS)):
                name = SCHEDULERS[(index + turn) % len(SCHEDULERS)]
                times[name].append(milliseconds(args.frames, (*words, f"scheduler={name}")))
        medians = {name: statistics.median(each) for name, each in times.items()}
        cells = [f"{ms:.1f} ({medians['serial'] / ms:.2f}x)" for ms in medians.values()]
        print(f"| `{' '.join(words)}` | {' | '.join(cells)} |", flush=True)
        results.append({"settings": words, "ms_a_frame": medians, "all": times})
    out = args.out or machine.RESULTS / str(facts["class"])
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": facts, "frames": args.frames, "rows": results}, indent=2)
    (out / "schedulers.json").write_text(text + "\n", encoding="utf-8")
    return 0


def milliseconds(frames: int, words: tuple[str, ...]) -> float:
    """Returns those from frame to frame of a run of ``cbs-run``."""
    with tempfile.TemporaryDirectory() as folder:
        typed = (
            *("input=pan:sample:astronaut", f"source.frames={frames}", "routes=[person]"),
            *(f"output={folder}/clip.mp4", "sheet=null", "device=cpu"),
        )
        subprocess.run(
            [Path(sysconfig.get_path("scripts")) / "cbs-run", *typed, *words],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        report = json.loads((Path(folder) / "clip.report.json").read_text(encoding="utf-8"))
    assert report["frames"]["out"] == frames, report["frames"]
    built = report["stages_ms"].get("prepare", {"max": 0})["max"]
    return float((1e3 * report["seconds"] - built) / frames)


if __name__ == "__main__":
    sys.exit(main())
