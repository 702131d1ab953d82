"""What a person sees while a net is trained: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

from cbs_core.progress import PLAIN_EVERY

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
    start = time.monotonic()

    def words(done: int, losses: Mapping[str, float]) -> str:
        pace = (time.monotonic() - start) / max(1, done - first)
        figures = " · ".join(f"{name} {value:.4g}" for name, value in losses.items())
        return f"{figures} · {pace:.2f} s/step"

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

    last = start

    def tick(done: int, losses: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY:
            last = now
            left = (now - start) / max(1, done - first) * (steps - done) / 60
            line = f"step {done}/{steps} · {words(done, losses)} · {left:.0f} min left"
            console.print(line, markup=False)

    yield tick
