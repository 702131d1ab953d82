"""Compares two checkouts on one machine: fails where the second lost more than 15% of a ratio.

    python -m benchmarks.compare BASE HEAD

Both are measured as the gate measures (`benchmarks.gate`), in turns, each time in a fresh process.
``BASE`` must hold this same folder ``benchmarks``, so that only the framework differs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gate import LOSS

TURNS = 3

Ratios = dict[str, float]


def main() -> int:
    """Compares; returns 1 where something was lost or not measured."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__.partition("\n")[0])
    parser.add_argument("base", type=Path, help="the checkout to compare with")
    parser.add_argument("head", type=Path, help="the checkout to judge")
    parser.add_argument("--turns", type=int, default=TURNS, help="measurements of each")
    args = parser.parse_args()
    base, head = in_turns(args.base, args.head, measure, turns=args.turns)
    for name in head:
        before = f"{base[name]:.2f}x" if name in base else "not offered"
        print(f"compare: {name}: base {before}, head {head[name]:.2f}x the reference")
    found = faults(base, head)
    for fault in found:
        print(f"compare: FAILED: {fault}", file=sys.stderr)
    return 1 if found else 0


def in_turns(
    base: Path, head: Path, measure: Callable[[Path], Ratios], *, turns: int
) -> tuple[Ratios, Ratios]:
    """Measures both ``turns`` times; returns the medians of each. Who is first alternates."""
    taken: dict[Path, list[Ratios]] = {base: [], head: []}
    for turn in range(turns):
        for tree in (base, head) if turn % 2 == 0 else (head, base):
            taken[tree].append(measure(tree))
    return _medians(taken[base]), _medians(taken[head])


def faults(base: Ratios, head: Ratios) -> list[str]:
    """Returns what speaks against the head, a line each."""
    if not base or not head:
        which = "base" if not base else "head"
        return [f"no benchmark was executed on the {which}"]
    found = [f"{name}: measured on the base, not on the head" for name in base if name not in head]
    for name in base.keys() & head.keys():
        if head[name] < (1 - LOSS) * base[name]:
            found.append(
                f"{name}: {head[name]:.2f}x the reference, {1 - head[name] / base[name]:.0%} below "
                f"the base's {base[name]:.2f}x ({LOSS:.0%} are allowed)"
            )
    return sorted(found)


def measure(tree: Path) -> Ratios:
    """Returns the ratios of a checkout; none where it measured nothing."""
    tree = tree.resolve()
    # Before an editable install, which is one of the two only.
    paths = os.pathsep.join([str(tree), str(tree / "plugins")])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ratios.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.gate", f"--out={out}"],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": paths},
            check=False,
        )
        if not out.exists():
            return {}
        ratios: Ratios = json.loads(out.read_text(encoding="utf-8"))["ratios"]
        return ratios


def _medians(taken: Sequence[Ratios]) -> Ratios:
    # What one turn did not measure is not compared as if it were.
    names = [name for name in taken[0] if all(name in one for one in taken)]
    return {name: statistics.median(one[name] for one in taken) for name in names}


if __name__ == "__main__":
    sys.exit(main())
