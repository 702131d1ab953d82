"""What a person sees while frames go by: a bar in a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

from cbs_core.machine.meter import Meter

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""


class _Lines(logging.Handler):
    """Prints what a slow plugin tells of its progress; warnings have a way of their own."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self.addFilter(lambda record: record.levelno == logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), markup=False)


@contextmanager
def progress(console: Console, meter: Meter, frames: int | None) -> Iterator[Callable[[], None]]:
    """Shows frames, FPS, time left and milliseconds a stage.

    Args:
        console: quiet ones show nothing.
        meter: the figures.
        frames: how many will come, where known.

    Yields:
        A function to call after each frame, from any thread.
    """
    log = logging.getLogger("cbs")
    lines = _Lines(console)
    log.addHandler(lines)
    try:
        if console.is_terminal and not console.quiet:
            with _bar(console, meter, frames) as tick:
                yield tick
        else:
            yield _plain(console, meter, frames)
    finally:
        log.removeHandler(lines)


@contextmanager
def _bar(console: Console, meter: Meter, frames: int | None) -> Iterator[Callable[[], None]]:
    bar = Progress(
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[fps]:.1f} FPS"),
        Remaining(),
        TextColumn("{task.fields[stages]}", markup=False),
        console=console,
    )
    task = bar.add_task("frames", total=frames, fps=0.0, stages="")
    with bar:
        yield lambda: bar.update(
            task, completed=meter.frames_out, fps=meter.fps, stages=_stages(meter)
        )


def _plain(console: Console, meter: Meter, frames: int | None) -> Callable[[], None]:
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY:
            last = time.monotonic()
            console.print(_line(meter, frames), markup=False)

    return tick


def _line(meter: Meter, frames: int | None) -> str:
    left = ""
    if frames and meter.fps:
        left = f" · {max(frames - meter.frames_out, 0) / meter.fps:.0f} s left"
    done = f"{meter.frames_out}/{frames}" if frames else str(meter.frames_out)
    return f"frame {done} · {meter.fps:.1f} FPS{left} · {_stages(meter)}"


def _stages(meter: Meter) -> str:
    told = [f"{name} {ms:.0f} ms" for name, ms in meter.last().items()]
    return " · ".join([*told, *([meter.chosen] if meter.chosen else [])])
