"""What a batch consists of: bundles of pictures, and videos in parts. Each knows what is due next.

A unit is asked for tasks as workers come free, and told how each of its own ended. Retrying is not
its matter: it hears of a task that failed for good.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cbs_core.batch.items import Item
from cbs_core.batch.journal import Journal
from cbs_core.batch.pieces import STATE, WHOLE, Part, fit
from cbs_core.batch.tasks import (
    Bundle,
    Done,
    Join,
    Lasting,
    Made,
    Survey,
    Surveyed,
    Whole,
    Window,
)
from cbs_core.contract.engines import Outcome, Task
from cbs_core.machine.addresses import shown


@dataclass(slots=True)
class Entry:
    """What became of an item."""

    item: Item
    frames: int = 0
    seconds: float = 0.0
    """Of workers, all its tasks together."""

    output: str = ""
    """Its path; empty where there is none."""

    error: str | None = None
    notes: tuple[str, ...] = ()
    windows: int = 0
    kept: int = 0
    """Windows that an earlier run of the batch had made."""


class Unit(Protocol):
    """A part of a batch."""

    def ready(self) -> Task | None:
        """Returns a task that can be begun now, if there is one."""
        ...

    def ended(self, outcome: Outcome) -> list[Entry]:
        """Takes what a task of its own returned; returns what is settled by it."""
        ...

    def tries(self, most: int) -> int:
        """Returns how often a task of its own is tried, of so many times, before it has failed."""
        ...

    def failed(self, task: Task, reason: str) -> list[Entry]:
        """Takes that a task failed for good; likewise."""
        ...

    @property
    def over(self) -> bool:
        """Whether no task of it will be ready any more, and none is under way."""
        ...


class Pictures:
    """A bundle of pictures; one that cannot be done is tried again by itself.

    Args:
        items: the pictures.
        journal: notes what is done.
        number: tells the bundle from others.
        tries: how often each is tried.
    """

    def __init__(self, items: Sequence[Item], journal: Journal, number: int, tries: int) -> None:
        self._journal = journal
        self._tries = tries
        self._tried: Counter[str] = Counter()
        self._number = number
        self._due: deque[tuple[Item, ...]] = deque([tuple(items)])
        self._under_way: dict[str, tuple[Item, ...]] = {}
        self._asked = 0

    def ready(self) -> Task | None:
        """Returns the next bundle."""
        if not self._due:
            return None
        items = self._due.popleft()
        self._journal.begin(items)
        first = items[0].name
        name = first if len(items) == 1 else f"{first} and {len(items) - 1} more"
        self._under_way[name] = items
        self._asked += 1
        folder = self._journal.folder / "drafts" / f"{self._number}-{self._asked}"
        return Task(name, Bundle(items, folder), size=len(items))

    def ended(self, outcome: Outcome) -> list[Entry]:
        """Notes those that are done; those that are not are due again, one by one."""
        del self._under_way[outcome.task.name]
        items = outcome.task.what.items  # where it was tried again, what is there is its own
        entries = []
        for item, value in zip(items, outcome.value, strict=True):
            if isinstance(value, Done):
                share = outcome.seconds / len(items)
                output = value.output or str(item.output)
                entries.append(Entry(item, 1, share, output, notes=value.notes))
                continue
            entries += self._again(item, value)
        self._journal.end(noted(entry) for entry in entries if entry.error is None)
        return entries

    def tries(self, most: int) -> int:
        """Returns 1: a bundle is not tried again, its pictures are."""
        return 1

    def failed(self, task: Task, reason: str) -> list[Entry]:
        """Takes the pictures of a bundle one by one: any of them may have been why."""
        items = self._under_way.pop(task.name)
        return [one for item in items for one in self._again(replace(item, over=True), reason)]

    def _again(self, item: Item, reason: str) -> list[Entry]:
        """Has a picture tried again by itself, where that may help and is not done often enough."""
        self._tried[item.name] += 1
        if self._tried[item.name] >= self._tries or isinstance(reason, Lasting):
            return [Entry(item, error=reason)]
        self._due.append((item,))
        return []

    @property
    def over(self) -> bool:
        """Whether all are settled."""
        return not self._due and not self._under_way


@dataclass(slots=True)
class _Progress:
    """How far a video's windows are."""

    plan: Surveyed
    keys: list[str]
    parts: dict[int, Part] = field(default_factory=dict)
    due: deque[int] = field(default_factory=deque)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def settled(self) -> int | None:
        """The first window behind which all statistics are known."""
        return next((at for at in sorted(self.parts) if self.parts[at].settled), None)


class Film:
    """A video: looked at, done in windows, and joined.

    Args:
        item: the video.
        journal: notes that it is done; the parts are in its folder.
        window: frames of a window.
        shares: as in `Survey`.
    """

    def __init__(self, item: Item, journal: Journal, window: int, shares: int = 1) -> None:
        self.item = item
        self._journal = journal
        self._folder = journal.parts(item)
        self._entry = Entry(item)
        self._next: Task | None = Task(
            f"{item.name} as it is", Survey(item, window, shares), size=0
        )
        self._under_way: dict[str, int | None] = {}
        """Names of tasks -> the window; None for the others."""
        self._windows: _Progress | None = None

    @property
    def frames(self) -> int | None:
        """How many it has, where that is known."""
        return None if self._windows is None else self._windows.plan.frames

    @property
    def over(self) -> bool:
        """Whether it is settled."""
        return self._next is None and not self._under_way and not self._may_go_on()

    def ready(self) -> Task | None:
        """Returns its next task, if that can be begun."""
        task = self._next or self._ready_window()
        self._next = None
        if task is not None:
            what = task.what
            at = self._at(what) if isinstance(what, Window) else None
            self._under_way[task.name] = at
        return task

    def _at(self, what: Window) -> int:
        assert self._windows is not None
        return self._windows.keys.index(what.key)

    def ended(self, outcome: Outcome) -> list[Entry]:
        """Goes on by what a task returned."""
        at = self._under_way.pop(outcome.task.name)
        self._entry.seconds += outcome.seconds
        value = outcome.value
        if isinstance(value, Surveyed):
            self._plan(value)
        elif isinstance(value, Done):
            return [self._whole(value)]
        elif isinstance(value, Made) and at is not None:
            self._made(at, found=value.found)
        return self._settle()

    def tries(self, most: int) -> int:
        """Returns all of them."""
        return most

    def failed(self, task: Task, reason: str) -> list[Entry]:
        """Names what could not be done; other windows are still made, for a later run."""
        at = self._under_way.pop(task.name)
        if at is None and isinstance(task.what, Window):  # of a cut that was given up
            return self._settle()
        if at is None or self._windows is None:
            return [self._error(reason)]
        self._windows.failed[at] = reason
        return self._settle()

    def _plan(self, found: Surveyed) -> None:
        if not found.joins:
            self._journal.begin([self.item])
            self._next = Task(self.item.name, Whole(self.item), size=found.frames or 1)
            return
        keys = [f"{found.key} {span}" for span in found.spans]
        self._windows = windows = _Progress(found, keys)
        for at in range(len(keys)):
            part = self._journal.part(self._file(at), keys[at])
            if part is None:
                windows.due.append(at)
            else:
                windows.parts[at] = part
        self._entry.windows, self._entry.kept = len(keys), len(windows.parts)

    def _file(self, at: int) -> Path:
        assert self._windows is not None
        # A window of a cut that was given up may still be under way: the whole has another name.
        return self._folder / f"{self._windows.plan.spans[at]}{self.item.output.suffix}"

    def _ready_window(self) -> Task | None:
        windows = self._windows
        if windows is None or not self._may_go_on():
            return None
        at = windows.due.popleft()
        plan, span = windows.plan, windows.plan.spans[at]
        settled = windows.settled
        by_settled = settled is not None and settled < at and not plan.carry.chained
        chain = plan.carry.chained or (bool(plan.carry.settles) and not by_settled)
        state: Path | None = None
        if by_settled and plan.carry.settles:
            assert settled is not None
            state = self._file(settled).with_suffix(STATE)
        elif chain and at:
            state = self._file(at - 1).with_suffix(STATE)
        return Task(
            f"{self.item.name} {span}",
            Window(
                self.item,
                span,
                self._file(at),
                windows.keys[at],
                plan.carry,
                state,
                settled=state is not None and not chain,
                run_up=bool(plan.carry.run_up) and not (chain and at),
                keep=chain and at + 1 < len(plan.spans),
            ),
            size=span.frames or plan.frames or 1,
        )

    def _may_go_on(self) -> bool:
        """Whether a window can be begun."""
        windows = self._windows
        if windows is None or not windows.due:
            return False
        at, carry = windows.due[0], windows.plan.carry
        if not at or not (carry.chained or carry.settles):
            return True
        if not carry.chained and windows.settled is not None and windows.settled < at:
            return True
        return at - 1 in windows.parts

    def _made(self, at: int, *, found: bool) -> None:
        windows = self._windows
        assert windows is not None
        part = self._journal.part(self._file(at), windows.keys[at]) if found else None
        if found and part is None:
            windows.failed[at] = f"its part is not where it was written: '{self._file(at)}'"
        elif part is None and windows.plan.spans[at].seek is None:
            windows.failed[at] = "the input holds no frame: choose another"
        elif part is None:
            self._in_one_piece()
        else:
            windows.parts[at] = part

    def _in_one_piece(self) -> None:
        """Gives the windows up: what seeking finds is not what decoding from the start gives."""
        windows = self._windows
        assert windows is not None
        plan = replace(windows.plan, spans=(WHOLE,), key=f"{windows.plan.key} whole")
        self._windows = _Progress(plan, [f"{plan.key} {WHOLE}"], due=deque([0]))
        self._entry.windows, self._entry.kept = 1, 0
        # What is under way is another cut's; it ends, and counts for nothing.
        self._under_way = dict.fromkeys(self._under_way)
        self._entry.notes = ("it cannot be sought exactly, so it was done in one piece",)

    def _settle(self) -> list[Entry]:
        """Goes on to the join, or to the end, where no window is due or under way."""
        windows = self._windows
        if windows is None or self._next is not None or self._under_way or self._may_go_on():
            return []
        if windows.failed or windows.due:
            spans = windows.plan.spans
            told = [f"frames {spans[at]}: {why}" for at, why in sorted(windows.failed.items())]
            return [self._error("; ".join(told))]
        parts = [windows.parts[at] for at in range(len(windows.keys))]
        if not fit(parts) and len(parts) > 1:
            self._in_one_piece()
            return []
        self._journal.begin([self.item])
        files = tuple(part.file for part in parts)
        self._next = Task(
            f"{self.item.name} joined", Join(self.item, files, tuple(windows.keys)), 0
        )
        return []

    def _whole(self, done: Done) -> Entry:
        entry = self._entry
        entry.frames, entry.output = done.frames, done.output or str(self.item.output)
        entry.notes += done.notes
        self._journal.end([noted(entry)])
        self._journal.forget_parts(self.item)
        return entry

    def _error(self, reason: str) -> Entry:
        self._windows = None
        self._entry.error = reason
        return self._entry


def units(
    items: Sequence[Item],
    journal: Journal,
    *,
    window: int,
    pictures: int,
    tries: int,
    workers: int = 1,
) -> Iterator[Unit]:
    """Yields what is to be done of items, in order; pictures that follow each other in bundles."""
    films = sum(not item.still for item in items)
    # As it was at first: what was made of another cut would be made anew.
    shares = journal.shares(-(-workers // films)) if films else 1
    bundle: list[Item] = []
    count = 0
    for item in items:
        if item.still:
            bundle.append(item)
        if bundle and (len(bundle) == pictures or not item.still):
            count += 1
            yield Pictures(bundle, journal, count, tries)
            bundle = []
        if not item.still:
            yield Film(item, journal, window, shares)
    if bundle:
        yield Pictures(bundle, journal, count + 1, tries)


def noted(entry: Entry) -> dict[str, object]:
    """Returns what the journal says of an output that is whole."""
    item = entry.item
    return {
        "name": item.name,
        "input": shown(item.input),
        "stamp": item.stamp,
        "output": entry.output,
        "frames": entry.frames,
        "seconds": round(entry.seconds, 3),
    }
