"""A run: a reader thread, the calling thread (alone to launch device work) and a writer thread.

They are joined by bounded, closable channels. Whoever fails closes both channels with its error;
the others stop, the output is removed, and the first error is raised in the caller. Where the
source or the device is lost, or Ctrl-C is pressed, the output is closed with the frames so far.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from cbs_core.contract.errors import (
    CbsError,
    DeviceLostError,
    LostError,
    SinkError,
    SourceError,
    SourceLostError,
)
from cbs_core.contract.interfaces import Closable, Scheduler, Sink, Source
from cbs_core.contract.types import RawFrame
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter

T = TypeVar("T")

SLOTS = 2
"""Frames a channel holds: enough to overlap, too few to add latency."""

POLICIES = ("every_frame", "freshest")


class ClosedError(Exception):
    """The channel is closed and holds nothing more."""


class Channel(Generic[T]):
    """A bounded queue between two threads that either end can close.

    Args:
        slots: how many items it holds.
        freshest: when full, drop the oldest item (a live source) instead of waiting (a file).
    """

    def __init__(self, slots: int = SLOTS, *, freshest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._slots = slots
        self._freshest = freshest
        self._closed = False
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, item: T) -> None:
        """Adds an item, waiting for room under the ``every_frame`` policy.

        Raises:
            ClosedError: the channel is closed.
        """
        with self._changed:
            while len(self._items) >= self._slots and not self._closed:
                if self._freshest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Takes the oldest item, waiting for one.

        Raises:
            ClosedError: the channel is closed, and empty.
        """
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if not self._items:
                raise ClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[T]:
        """Takes items until the channel is closed and empty."""
        with suppress(ClosedError):
            while True:
                yield self.get()

    def close(self, *, discard: bool = False) -> None:
        """Wakes both ends; what is held can still be taken unless ``discard``."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    interrupted: bool
    """Whether Ctrl-C ended it; the output then holds the frames so far."""


class Runner:
    """Drives a source through a scheduler into a sink.

    Args:
        source: opened and closed by the run.
        scheduler: holds the pipeline; closed by the run, where it is `Closable`.
        sink: opened, and then closed or aborted, by the run.
        meter: counts frames; times ``decode`` and ``encode``.
        policy: ``every_frame`` (files) or ``freshest`` (live: late frames are dropped, counted).
        progress: called in the writer thread after each frame.

    Raises:
        ValueError: another policy.
    """

    def __init__(
        self,
        source: Source,
        scheduler: Scheduler,
        sink: Sink,
        *,
        meter: Meter,
        policy: str = "every_frame",
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy}")
        self._source = source
        self._scheduler = scheduler
        self._sink = sink
        self._meter = meter
        self._progress = progress
        self._input: Channel[RawFrame] = Channel(freshest=policy == "freshest")
        self._output: Channel[RawFrame] = Channel()
        self._error: BaseException | None = None
        self._lost: LostError | None = None
        self._interrupted = False
        self._lock = threading.Lock()

    def run(self) -> Outcome:
        """Runs to the end of the source; the source must be entered already.

        Raises:
            LostError: the source or the device was lost; the output holds the frames so far, and
                is removed where there are none.
            CbsError: the first failure of source, pipeline or sink; the output is removed.
        """
        reader = threading.Thread(target=self._read, name="cbs-reader", daemon=True)
        writer = threading.Thread(target=self._write, name="cbs-writer", daemon=True)
        try:
            self._open()
            reader.start()
            writer.start()
            try:
                self._compute()
                self._output.close()
                _join(reader, writer)
            except KeyboardInterrupt:
                self._interrupted = True
                self._input.close(discard=True)
                self._output.close()
                _join(reader, writer)
            if self._error is not None:
                raise self._error
        except BaseException as error:
            first = self._stop(error)
            _join(reader, writer)
            with suppress(Exception):  # it would hide the error that came first
                self._sink.abort()
            raise first from first.__cause__
        finally:
            self._meter.dropped = self._input.dropped
            if isinstance(self._scheduler, Closable):
                self._scheduler.close()
        if self._lost is not None:
            raise self._lost from self._lost.__cause__
        return Outcome(self._interrupted)

    def _open(self) -> None:
        try:
            self._sink.open(self._source.info)
        except Exception as error:
            told = _told(error, "sink", SinkError)
            raise told from told.__cause__

    def _compute(self) -> None:
        try:
            for raw in self._input:
                self._scheduler.submit(raw)
                for done in self._scheduler.ready():
                    self._output.put(done)
            for done in self._scheduler.drain():
                self._output.put(done)
        except ClosedError:  # the writer failed and says so in self._error
            return
        except torch.AcceleratorError as error:
            self._lose(
                DeviceLostError(
                    f"the device failed ({str(error).splitlines()[0]}): run `cbs-doctor`, and "
                    "start again when it finds the device in order"
                ),
                error,
            )
        except torch.OutOfMemoryError as error:
            info = self._source.info
            raise MemoryLimitError(
                f"a frame of {info.width}x{info.height} does not fit into the device's memory "
                f"({str(error).partition('. ')[0]}): make it smaller, or use a smaller net"
            ) from error

    def _read(self) -> None:
        try:
            frames = iter(self._source)
            while True:
                with self._meter.stage("decode"):
                    raw = next(frames)
                self._meter.frames_in += 1
                self._input.put(raw)
        except StopIteration:
            self._input.close()
        except ClosedError:
            return
        except BaseException as error:
            told = _told(error, "source", SourceLostError)
            if self._interrupted or self._lost is not None:  # nobody waits for more frames then
                return
            if isinstance(told, LostError):
                self._lose(told)
            else:
                self._stop(told)

    def _write(self) -> None:
        # Closing happens here too, so that a Ctrl-C, which only the main thread sees, cannot
        # cut it short.
        try:
            for frame in self._output:
                with self._meter.stage("encode"):
                    self._sink.write(frame)
                self._meter.frame_out()
                self._progress()
            if self._error is None:
                self._finish()
        except BaseException as error:
            self._stop(_told(error, "sink", SinkError))

    def _finish(self) -> None:
        early = self._interrupted or self._lost is not None
        if self._meter.frames_out:
            self._sink.close(complete=not early)
        elif early:
            self._sink.abort()
        else:
            raise SourceError("the input holds no frame: choose another")

    def _lose(self, error: LostError, cause: BaseException | None = None) -> None:
        """Ends the stream here: what was read before a source was lost is still restyled."""
        error.__cause__ = error.__cause__ or cause
        self._lost = error
        self._input.close(discard=isinstance(error, DeviceLostError))

    def _stop(self, error: BaseException) -> BaseException:
        """Ends all three threads' work; returns the first error of the run."""
        with self._lock:
            first = self._error = self._error or error
        self._input.close(discard=True)
        self._output.close(discard=True)
        return first


def _join(*threads: threading.Thread) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def _told(error: BaseException, part: str, kind: type[CbsError]) -> BaseException:
    if isinstance(error, CbsError) or not isinstance(error, Exception):
        return error
    told = kind(f"the {part} failed ({type(error).__name__}: {' '.join(str(error).split())})")
    told.__cause__ = error
    return told
