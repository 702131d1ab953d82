"""Keeps the workers of an engine busy: hands tasks out, tries again what failed, asks what is next.

It knows neither videos nor pictures; `cbs_core.batch.units` says what is due.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from cbs_core.batch import tasks
from cbs_core.batch.tasks import Bundle, Join, Lasting, Survey, Whole, Window
from cbs_core.batch.units import Entry, Unit
from cbs_core.contract.engines import Engine, Outcome, Task

LOST = "its worker died each time; the memory it needs, or a plugin, may be why"


class Watcher(Protocol):
    """Is told how a batch goes."""

    def task(self, outcome: Outcome) -> None:
        """A task ended well."""
        ...

    def again(self, task: Task, reason: str, tried: int) -> None:
        """A task failed, and is tried again."""
        ...

    def settled(self, entry: Entry) -> None:
        """It is known what became of an item."""
        ...


class Coordinator:
    """Does units by an engine.

    Args:
        engine: was entered, by whoever leaves it too.
        units: what there is to do; begun one after the other, as workers come free.
        tries: how often a task is tried.
        watcher: is told.
    """

    def __init__(
        self, engine: Engine, units: Iterator[Unit], *, tries: int, watcher: Watcher
    ) -> None:
        self._engine = engine
        self._units = units
        self._tries = tries
        self._watcher = watcher
        self._begun: list[Unit] = []
        self._of: dict[str, Unit] = {}
        """Names of tasks under way, or to be tried again, and whose they are."""
        self._again: deque[Task] = deque()
        self._tried: Counter[str] = Counter()
        self._out = 0

    def run(self) -> None:
        """Does all; returns when there is nothing left.

        Raises:
            CbsError: the engine or its workers cannot be had.
        """
        while True:
            while self._out < max(self._engine.workers, 1):
                task = self._next()
                if task is None:
                    break
                self._engine.submit(task)
                self._out += 1
            if not self._out:
                return
            outcome = self._engine.wait()
            self._out -= 1
            self._take(outcome)

    def _next(self) -> Task | None:
        if self._again:
            return self._again.popleft()
        while True:
            for unit in self._begun:
                task = unit.ready()
                if task is not None:
                    self._of[task.name] = unit
                    return task
            unit_now = next(self._units, None)
            if unit_now is None:
                return None
            self._begun.append(unit_now)

    def _take(self, outcome: Outcome) -> None:
        task = outcome.task
        reason = told(outcome)
        if reason is None:
            unit = self._of.pop(task.name)
            self._tried.pop(task.name, None)
            self._watcher.task(outcome)
            self._tell(unit, unit.ended(outcome))
            return
        self._tried[task.name] += 1
        most = 1 if isinstance(reason, Lasting) else self._of[task.name].tries(self._tries)
        if self._tried[task.name] < most:
            self._watcher.again(task, reason, self._tried[task.name])
            self._again.append(_repeated(task))
            return
        unit = self._of.pop(task.name)
        self._tried.pop(task.name)
        self._tell(unit, unit.failed(task, reason))

    def _tell(self, unit: Unit, entries: list[Entry]) -> None:
        for entry in entries:
            self._watcher.settled(entry)
        if unit.over:
            self._begun.remove(unit)


def told(outcome: Outcome) -> str | None:
    """Returns why a task failed, in a line, perhaps a `Lasting` one; None where it did not."""
    if outcome.lost:
        return LOST
    if outcome.error is None:
        return None
    what = outcome.task.what
    item = what.item if isinstance(what, Survey | Window | Join | Whole) else None
    return tasks.reason(outcome.error, item)


def _repeated(task: Task) -> Task:
    """Returns a task to be done again; what it wrote before, if it did, is written over."""
    what: Any = task.what
    if isinstance(what, Bundle):
        what = replace(what, items=tuple(replace(item, over=True) for item in what.items))
    elif isinstance(what, Join | Whole):
        what = replace(what, item=replace(what.item, over=True))
    return replace(task, what=what)
