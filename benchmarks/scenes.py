"""``make scenes``: how long ``cbs-scene`` takes on real scenes, and how much memory.

Each scene is a process of its own, with all outputs, one after the other. Beside the clock stand
the processor's seconds, which a busy machine changes less.

    python -m benchmarks.scenes FOLDER [--out FOLDER] [WORDS ...] [--only NAME ...]

FOLDER is ``../shared/data/3d``; WORDS are as after ``cbs-scene``: ``grain=0``. With ``--out`` what
is written stays there to be looked at.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("cbs-scene")


@dataclass(frozen=True, slots=True)
class Case:
    """One scene, what is asked of it, and the seconds that it may take on two cores."""

    file: str
    words: tuple[str, ...]
    limit: int | None = None


CASES = {
    "cow": Case("cow.obj", ("routes={material:material_1: wave}",), 60),
    "truck": Case(
        "CesiumMilkTruck.glb",
        ("routes={material:truck: wave, material:glass: starry_night}",),
        60,
    ),
    "duck": Case("Duck.glb", ("routes={rest: starry_night}", "labels=material")),
    "guitar": Case("guitar.compressed.ply", ("routes={rest: wave}",)),
    "biker": Case("biker.spz", ("routes={person: starry_night}", "views=24"), 900),
}


def measured(case: Case, folder: Path, out: Path, words: list[str]) -> dict[str, float]:
    """Runs one scene; returns its seconds by the clock and the processor, memory and RMSE."""
    source = folder / case.file
    target = out / source.stem.split(".")[0] / source.name
    command = [str(COMMAND), f"input={source}", f"output={target}", "overwrite=true", *case.words]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *words], cwd=out)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"cbs-scene ended with {process.returncode} on {source}")
    report = json.loads(target.with_name(f"{target.stem}.report.json").read_text())
    apart = report["consistency"]
    return {
        "clock_s": round(time.perf_counter() - start, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
        **{
            f"rmse_{reach}_{when}": values[when]
            for reach, values in (apart or {}).items()
            for when in ("before", "after")
        },
    }


def main() -> int:
    """Measures and prints; returns 1 where a scene took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES])
    known, words = parser.parse_known_args()
    late = 0
    with tempfile.TemporaryDirectory() as temporary:
        out = (known.out or Path(temporary)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        for name in known.only:
            case = CASES[name]
            if not (known.folder / case.file).is_file():
                print(f"{name}: no {known.folder / case.file}, left out")
                continue
            found = measured(case, known.folder.resolve(), out, words)
            over = case.limit is not None and found["clock_s"] > case.limit
            late += over
            told = f"at most {case.limit} s{': TOO LONG' if over else ''}" if case.limit else ""
            print(f"{name}: {json.dumps(found)} {told}", flush=True)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
