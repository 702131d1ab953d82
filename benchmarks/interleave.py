"""Times workloads against each other in one run, so that a busy machine slows them alike.

Each round runs every workload once; the order turns by one a round, so that none always follows
the same other, whose caches and clock it would inherit.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

NOISY = 0.25
"""Quartile spread over median from which a measurement is called noisy."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one workload over the rounds."""

    median: float
    lower: float
    """First quartile."""

    upper: float
    """Third quartile."""

    @property
    def noisy(self) -> bool:
        """Whether the quartiles lie too far apart for the median to be trusted."""
        return (self.upper - self.lower) / self.median > NOISY


def interleave(
    workloads: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    warmup: int = 2,
    calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Returns the timing of each workload; a workload waits for its own device.

    Args:
        workloads: by name.
        rounds: how often each is timed, at least 3.
        warmup: rounds before that are not timed.
        calls: of a workload that are timed together, for their mean.
        clock: seconds.

    Raises:
        ValueError: no workload, or too few rounds: nothing would be measured.
    """
    if not workloads or rounds < 3:
        raise ValueError(f"{len(workloads)} workloads in {rounds} rounds: give 1 and 3 at least")
    for _ in range(warmup):
        for run in workloads.values():
            run()
    names = list(workloads)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            start = clock()
            for _ in range(calls):
                workloads[name]()
            taken[name].append(1e3 * (clock() - start) / calls)
    timings = {}
    for name, times in taken.items():
        lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
        timings[name] = Timing(median, lower, upper)
    return timings


def ratio(timings: Mapping[str, Timing], ours: str, reference: str) -> float:
    """Returns how many times as fast as ``reference`` ``ours`` is, by medians."""
    return timings[reference].median / timings[ours].median
