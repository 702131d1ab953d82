"""How far a batch is: counted, and shown as a bar in a terminal, as plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from cbs_core.batch.tasks import Join, Surveyed, Window
from cbs_core.batch.units import Entry
from cbs_core.contract.engines import Outcome, Task
from cbs_core.machine.addresses import shown

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""

MANY = 200
"""Outputs from which on only what fails has a line of its own."""


@dataclass(slots=True)
class Pace:
    """What a worker did."""

    tasks: int = 0
    frames: int = 0
    seconds: float = 0.0

    @property
    def fps(self) -> float:
        """Frames a second of its work."""
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Tally:
    """The figures of a run, which grow."""

    items: int
    """How many are to be done."""
    stills: int = 0
    """How many of these are pictures."""

    entries: list[Entry] = field(default_factory=list)
    failed: list[Entry] = field(default_factory=list)
    """Those of them that could not be done."""
    workers: dict[str, Pace] = field(default_factory=dict)
    frames: int = 0
    tried_again: int = 0
    known: int = 0
    """Frames of the videos that were looked at."""
    looked: int = 0
    """How many these are."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the first task."""
        return time.monotonic() - self.begun

    @property
    def fps(self) -> float:
        """Frames a second, of all workers."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def all_frames(self) -> int | None:
        """How many there are; a video that was not looked at counts as the mean of the others."""
        films = self.items - self.stills
        if films and not self.looked:
            return None
        return self.stills + (round(self.known * films / self.looked) if films else 0)

    @property
    def left(self) -> float | None:
        """Seconds, where that can be told."""
        if not self.fps or self.all_frames is None:
            return None
        return max(self.all_frames - self.frames, 0) / self.fps

    def __str__(self) -> str:
        """Returns a line for people."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        rest = "" if self.left is None else f" · {_clock(self.left)} left"
        paces = [f"{name} {pace.fps:.1f}" for name, pace in sorted(self.workers.items())]
        by = f" ({', '.join(paces[:8])}{', ...' if len(paces) > 8 else ''})" if paces[1:] else ""
        return (
            f"{len(self.entries)}/{self.items} outputs{failed} · frame {self.frames}"
            f"{f'/{self.all_frames}' if self.all_frames else ''} · {self.fps:.1f} FPS{by}{rest}"
        )


class Shown:
    """Counts what a batch does and shows it (`cbs_core.batch.coordinator.Watcher`).

    Args:
        console: quiet ones show nothing.
        items: how many are to be done.
        stills: how many of these are pictures.
    """

    def __init__(self, console: Console, items: int, stills: int) -> None:
        self.tally = Tally(items, stills)
        self._console = console
        self._bar: Progress | None = None
        self._last = time.monotonic()

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Shows it for as long as this lasts."""
        self.tally.begun = time.monotonic()
        if not self._console.is_terminal or self._console.quiet:
            yield
            return
        text = TextColumn("{task.description}", markup=False)
        with Progress(SpinnerColumn(), BarColumn(), text, console=self._console) as self._bar:
            self._bar.add_task(str(self.tally), total=None)
            yield
        self._bar = None

    def task(self, outcome: Outcome) -> None:
        """A task ended well."""
        tally, what = self.tally, outcome.task.what
        pace = tally.workers.setdefault(outcome.worker, Pace())
        pace.tasks += 1
        pace.seconds += outcome.seconds
        if isinstance(outcome.value, Surveyed):
            tally.known += outcome.value.frames or 0
            tally.looked += 1
        elif isinstance(what, Window):
            self._count(pace, outcome.value.frames)
        elif not isinstance(what, Join):
            done = outcome.value if isinstance(outcome.value, list) else [outcome.value]
            frames = sum(getattr(one, "frames", 0) for one in done)
            self._count(pace, frames)
        self._show()

    def _count(self, pace: Pace, frames: int) -> None:
        pace.frames += frames
        self.tally.frames += frames

    def again(self, task: Task, reason: str, tried: int) -> None:
        """A task failed, and is tried again."""
        self.tally.tried_again += 1
        self._console.print(f"{task.name}: {reason}; it is tried again ({tried + 1})")

    def settled(self, entry: Entry) -> None:
        """It is known what became of an item."""
        self.tally.entries.append(entry)
        if entry.error is not None:
            self.tally.failed.append(entry)
            self._console.print(f"{shown(entry.item.input)}: failed: {entry.error}")
        elif self.tally.items <= MANY:
            frames = f"{entry.frames} frame{'s' if entry.frames != 1 else ''}"
            self._console.print(f"{entry.output}: {frames}")
            for note in entry.notes:
                self._console.print(f"  {note}")
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            done, total = self.tally.frames, self.tally.all_frames
            for one in self._bar.task_ids:
                self._bar.update(
                    one, description=str(self.tally), completed=done, total=total or None
                )
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            self._console.print(str(self.tally))


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
