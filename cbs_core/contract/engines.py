"""What does the tasks of a batch, here or on many machines: the engines' interface.

An engine knows nothing of videos: it builds workers, gives each a task as it comes free, and tells
how each task ended. What a task is, whether a failed one is tried again, and what becomes of the
values is for whoever submits them (`cbs_core.batch`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work that any worker may do, and do again with the same result."""

    name: str
    """For people, and of no other task under way: ``clip.mp4 240-360``."""

    what: Any = None
    """Plain values that can be pickled: numbers, texts, paths, bytes, and collections of these."""

    size: int = 1
    """How much it is, for the numbers of a second: frames, or pictures."""


@runtime_checkable
class Worker(Protocol):
    """Does tasks one after another; its nets are built once. It lives where the engine put it."""

    def do(self, task: Task, /) -> Any:
        """Returns the task's value, which can be pickled; a small one: files travel by name.

        Raises:
            Exception: the task failed; the worker can do the next.
        """
        ...

    def close(self) -> None:
        """Frees what it holds; called once, with no task under way."""
        ...


Start = Callable[[], Worker]
"""Builds a worker; can be pickled. An error of it is the engine's, not a task's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended."""

    task: Task

    value: Any = None
    """What `Worker.do` returned."""

    error: Exception | None = None
    """What it raised instead; as a `CbsError` of its text where it could not be pickled."""

    lost: bool = False
    """Whether its worker died of it or beside it: there is neither value nor error."""

    worker: str = ""
    """Which one did it, for people: ``local``, ``2 on 10.0.0.7``."""

    seconds: float = 0.0
    """How long it took there."""


@runtime_checkable
class Engine(Protocol):
    """Has tasks done by workers; a context manager that owns them.

    Built with ``(start, **params)``: `Start`, and what ``engine.KEY=`` says. An engine that dies
    or loses a worker goes on with another, elsewhere where it has to.
    """

    workers: int
    """How many tasks it can have under way at once; known from `__enter__` on, and may change.
    Whoever submits more has them wait in the engine."""

    def __enter__(self) -> Self:
        """Joins or starts what the workers live in.

        Raises:
            EngineError: it cannot be had.
        """
        ...

    def __exit__(self, *exc: object) -> None:
        """Ends the workers, after an error or Ctrl-C with their tasks under way; none is left."""
        ...

    def submit(self, task: Task, /) -> None:
        """Takes a task; it does not wait."""
        ...

    def wait(self) -> Outcome:
        """Returns how the next task ended, in whatever order; each is told once.

        Ctrl-C ends the wait (`KeyboardInterrupt`).

        Raises:
            EngineError: no worker can be had any more, or nothing was submitted.
            CbsError: what `Start` raised.
        """
        ...
