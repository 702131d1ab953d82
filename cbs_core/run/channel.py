"""What joins two threads: bounded, and closable from either end or from a third thread."""

import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SLOTS = 2
"""Frames a channel holds: enough to overlap, too few to add latency."""

GLANCE = 0.1
"""Seconds that the main thread waits in one piece: a Ctrl-C that comes just before a wait begins
does not wake it, but is seen when the wait is over."""

_END: Any = object()


class ClosedError(Exception):
    """The channel is closed and holds nothing more."""


class Channel(Generic[T]):
    """A bounded queue between one thread that puts and one that takes.

    It is made of queues that C code locks: Ctrl-C in the midst of a `threading.Condition` can
    leave its lock taken, and whoever waits for it then waits for ever.

    Args:
        slots: how many items it holds.
        freshest: when full, drop the oldest item (a live source) instead of waiting (a file).
    """

    def __init__(self, slots: int = SLOTS, *, freshest: bool = False) -> None:
        self._items: SimpleQueue[T] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(slots):
            self._room.put(None)
        self._freshest = freshest
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Adds an item, waiting for room under the ``every_frame`` policy.

        Raises:
            ClosedError: the channel is closed.
        """
        while not self._closed:
            try:
                self._room.get(block=not self._freshest, timeout=GLANCE)
            except Empty:
                if self._freshest:
                    self._drop_oldest()
                continue
            if not self._closed:
                self._items.put(item)
                return
        raise ClosedError

    def get(self, timeout: float | None = None) -> T:
        """Takes the oldest item, waiting for one for at most ``timeout`` seconds.

        Raises:
            ClosedError: the channel is closed, and empty.
            TimeoutError: none came in time.
        """
        try:
            item = self._items.get(timeout=timeout)
        except Empty:
            raise TimeoutError from None
        if item is _END:
            self._items.put(_END)
            raise ClosedError
        self._room.put(None)
        return item

    def __iter__(self) -> Iterator[T]:
        """Takes items until the channel is closed and empty."""
        with suppress(ClosedError):
            while True:
                yield self.get()

    def close(self, *, discard: bool = False) -> None:
        """Wakes both ends; what is held can still be taken unless ``discard``."""
        self._closed = True
        if discard:
            with suppress(Empty):
                while True:
                    self._items.get_nowait()
        self._items.put(_END)
        self._room.put(None)

    def _drop_oldest(self) -> None:
        try:
            oldest = self._items.get_nowait()
        except Empty:  # it was taken this moment, and its room is about to be given back
            time.sleep(0.0002)
            return
        if oldest is _END:
            self._items.put(_END)
        else:
            self.dropped += 1
            self._room.put(None)
