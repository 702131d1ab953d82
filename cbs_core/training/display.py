"""What a person sees while a net is trained: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

from cbs_core.run.progress import PLAIN_EVERY

Tick = Callable[[int, Mapping[str, float]], None]
"""Takes the number of steps done and the losses of the last one."""


@contextmanager
def display(console: Console, *, first: int, steps: int) -> Iterator[Tick]:
    """Shows steps, losses, seconds a step and time left.

    Args:
        console: quiet ones show nothing.
        first: steps done before this run.
        steps: steps in all.

    Yields:
        A function to call after each step.
    """
    clock = _Clock(first)

    def words(done: int, losses: Mapping[str, float]) -> str:
        figures = " · ".join(f"{name} {value:.4g}" for name, value in losses.items())
        return f"{figures} · {clock.pace(done):.2f} s/step"

    if console.is_terminal and not console.quiet:
        bar = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(),
            Remaining(),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
        )
        task = bar.add_task("steps", total=steps, completed=first, words="")
        with bar:
            yield lambda done, losses: bar.update(task, completed=done, words=words(done, losses))
        return

    last = time.monotonic()

    def tick(done: int, losses: Mapping[str, float]) -> None:
        nonlocal last
        now, pace = time.monotonic(), clock.pace(done)
        if now - last >= PLAIN_EVERY:
            last = now
            told = words(done, losses)
            left = pace * (steps - done) / 60
            console.print(f"step {done}/{steps} · {told} · {left:.0f} min left", markup=False)

    yield tick


class _Clock:
    """Seconds a step, without the first, in which a net may be compiled.

    Args:
        first: steps done before this run.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._start = self._warm = time.monotonic()

    def pace(self, done: int) -> float:
        """Returns the mean; to be called after the first step, too."""
        now, count = time.monotonic(), done - self._first
        if count <= 1:
            self._warm = now
            return now - self._start
        return (now - self._warm) / (count - 1)
