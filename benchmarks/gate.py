"""``make gate``: fails a change that makes the framework slower.

Measures ours over the reference workload in one run, interleaved, medians, and compares those
ratios with the ones recorded for this class of machines: times themselves differ from machine to
machine and from hour to hour. ``--record`` writes them, on a quiet machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.interleave import interleave, ratio
from benchmarks.workloads import FRAME_BY_FRAME, Nets, NotOfferedError, Scene, ours
from cbs_core.machine import device

LOSS = 0.15
"""Part of a recorded ratio that may be lost: below the noise of a shared machine, repeats taken."""

REPEATS = 2
"""Further measurements of what failed, the best taken: a slow change stays slow."""

ROUNDS = 9
WIDTH = 16
SCENE = Scene(256, 512, 0.25, 2)

CASES: Mapping[str, tuple[str, ...]] = {
    "eager": ("accelerator=eager", "precision=fp32"),
    "eager, mask": ("accelerator=eager", "precision=fp32", "styler.where=mask"),
    "openvino": ("accelerator=openvino", "precision=bf16"),
    "openvino, mask": ("accelerator=openvino", "precision=bf16", "styler.where=mask"),
}
"""What is typed after ``cbs-run``, by the name that it is recorded under. Not ``accelerator=auto``,
whose choice may differ from run to run."""

Workload = Callable[[], object]

REFERENCE = "reference"


@dataclass(slots=True)
class Verdict:
    """What was measured, and what speaks against it."""

    ratios: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    noisy: set[str] = field(default_factory=set)
    """Workloads whose latest measurement, or whose reference's, spread too far."""


def judge(
    workloads: Mapping[str, Workload],
    reference: Workload,
    recorded: Mapping[str, float],
    *,
    rounds: int = ROUNDS,
) -> Verdict:
    """Measures workloads and compares their ratios with the recorded ones.

    Args:
        workloads: by name.
        reference: what each is measured over, in the same run.
        recorded: by name; a workload without a record is measured and not compared.
        rounds: of each measurement.
    """
    if not workloads:
        return Verdict(faults=["no benchmark was executed"])
    verdict = Verdict()
    lost = dict(workloads)
    for _ in range(1 + REPEATS):
        timings = interleave({REFERENCE: reference, **lost}, rounds=rounds)
        for name in lost:
            now = ratio(timings, name, REFERENCE)
            verdict.ratios[name] = max(now, verdict.ratios.get(name, 0.0))
            unsure = timings[name].noisy or timings[REFERENCE].noisy
            (verdict.noisy.add if unsure else verdict.noisy.discard)(name)
        lost = {
            name: lost[name]
            for name in lost
            if verdict.ratios[name] < (1 - LOSS) * recorded.get(name, 0.0)
        }
        if not lost:
            break
    for name in lost:
        now, before = verdict.ratios[name], recorded[name]
        verdict.faults.append(
            f"{name}: {now:.2f}x the reference, {1 - now / before:.0%} below the recorded "
            f"{before:.2f}x ({LOSS:.0%} are allowed)"
        )
    verdict.faults += [
        f"{name}: recorded at {recorded[name]:.2f}x, and not measured now"
        for name in recorded
        if name not in workloads
    ]
    return verdict


def main() -> int:
    """Measures and compares or records; returns 1 where something was lost or not measured."""
    parser = argparse.ArgumentParser(prog="gate", description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="write what is measured, for others")
    parser.add_argument("--out", type=Path, help="write it there; nothing is compared")
    args = parser.parse_args()
    if args.out:
        machine.untaken(parser, args.out)
    facts = machine.facts(device.choose("cpu").device)
    path = machine.RESULTS / str(facts["class"]) / "gate.json"
    target = args.out or (path if args.record else None)
    recorded: dict[str, float] = {}
    if target is None and path.exists():
        recorded = json.loads(path.read_text(encoding="utf-8"))["ratios"]
    with tempfile.TemporaryDirectory() as folder:
        nets = Nets(Path(folder))
        workloads: dict[str, Workload] = {}
        for name, words in CASES.items():
            try:
                workloads[name] = ours(nets, SCENE, WIDTH, (*FRAME_BY_FRAME, *words))
            except NotOfferedError as error:
                print(f"gate: {name} is not offered here: {error}")
        reference = nets.reference(SCENE)
        verdict = judge(workloads, reference, recorded)
        if target is not None and not verdict.faults:  # one run may be a lucky one
            more = [judge(workloads, reference, {}).ratios for _ in range(REPEATS)]
            for name, now in verdict.ratios.items():
                verdict.ratios[name] = statistics.median([now, *(one[name] for one in more)])
    for name, now in verdict.ratios.items():
        before = f", recorded {recorded[name]:.2f}x" if name in recorded else ", no record"
        noisy = ", noisy: close other programs" if name in verdict.noisy else ""
        print(f"gate: {name}: {now:.2f}x the reference{before}{noisy}")
    for fault in verdict.faults:
        print(f"gate: FAILED: {fault}", file=sys.stderr)
    if verdict.faults:
        return 1
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": facts, "ratios": verdict.ratios}, indent=2)
        target.write_text(text + "\n", encoding="utf-8")
        print(target)
    elif not recorded:
        print(f"gate: nothing is recorded for {facts['class']}: measured, and not compared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
