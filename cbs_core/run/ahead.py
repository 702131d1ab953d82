"""Frames that are given with those after them, for mattes that go by these too (``lookahead``)."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cbs_core.contract.interfaces import Choosing, Closable, Scheduler
from cbs_core.contract.types import RawFrame


class Ahead:
    """A `Scheduler` over another, which is given each frame with those after it.

    Args:
        scheduler: does the frames.
        count: how many follow each as `RawFrame.ahead`.
    """

    def __init__(self, scheduler: Scheduler, count: int) -> None:
        self._scheduler = scheduler
        self._count = count
        self._read: deque[RawFrame] = deque()

    @property
    def choice(self) -> str:
        """What the scheduler chose."""
        scheduler = self._scheduler
        return scheduler.choice if isinstance(scheduler, Choosing) else type(scheduler).__name__

    def submit(self, raw: RawFrame, /) -> None:
        """Takes a frame, and gives on that one whose frames to come are there."""
        self._read.append(raw)
        if len(self._read) > self._count:
            self._next()

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done."""
        return self._scheduler.ready()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way, and does the last frames, which have fewer to come."""
        while self._read:
            self._next()
            yield from self._scheduler.ready()
        yield from self._scheduler.drain()

    def close(self) -> None:
        """Closes the scheduler."""
        if isinstance(self._scheduler, Closable):
            self._scheduler.close()

    def _next(self) -> None:
        first = self._read.popleft()
        self._scheduler.submit(replace(first, ahead=tuple(self._read)))


def with_next(frames: Iterable[RawFrame], count: int) -> Iterator[RawFrame]:
    """Yields frames, each with the next ones as `RawFrame.ahead`, fewer at the end.

    Args:
        frames: in order.
        count: how many; with 0 each frame leaves as it comes.
    """
    read: deque[RawFrame] = deque()
    for frame in frames:
        read.append(frame)
        if len(read) > count:
            first = read.popleft()
            yield replace(first, ahead=tuple(read)) if count else first
    while read:
        first = read.popleft()
        yield replace(first, ahead=tuple(read))
