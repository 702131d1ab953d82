"""A run: a reader thread, the calling thread (alone to launch device work) and a writer thread.

They are joined by bounded, closable channels. Whoever fails closes them; the others stop, the
output is closed with the frames so far (or aborted: the rule is in `cbs_core.run.writing`), and the
first error is raised in the caller. Whatever ends a run, it ends within a second: a source is
stopped, and a plugin that does not return is left behind in its daemon thread, with a warning.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from cbs_core.contract.errors import (
    DeviceLostError,
    PluginContractError,
    SinkError,
    SourceError,
    SourceLostError,
    StreamError,
    error_line,
    error_words,
)
from cbs_core.contract.interfaces import Closable, Scheduler, Sink, Source
from cbs_core.contract.live import CountsDrops
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter
from cbs_core.run.channel import GLANCE, SLOTS, Channel, ClosedError
from cbs_core.run.settings import POLICIES
from cbs_core.run.workers import PATIENCE, Worker, named, stop, told
from cbs_core.run.writing import Writer

POLL = 0.002
"""Seconds after which a scheduler that has frames under way is asked again for finished ones."""

log = logging.getLogger("cbs")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    interrupted: bool
    """Whether Ctrl-C ended it; the output then holds the frames so far."""


class Runner:
    """Drives a source through a scheduler into a sink.

    Args:
        source: entered and left by the caller (`cbs_core.run.workers.opened`).
        scheduler: holds the pipeline; closed by the run, where it is `Closable`.
        sink: opened, and then closed or aborted, by the run.
        meter: counts frames; times ``decode`` and ``encode``, and the frames' age.
        policy: ``every_frame`` (files) or ``freshest`` (live: late frames are dropped, counted, and
            no more than one waits on each side).
        progress: called in the writer thread after each frame.
        timeout_s: seconds that the source may take for a frame before it counts as lost.
        max_age_ms: of ``freshest``: a frame that was captured longer ago when it is due, to be
            computed or to be written, is dropped and counted.
        info: what the sink is told of the frames; None: what the source says of its own.
        writes: called in the writer thread before each frame is written, with it.

    Raises:
        ValueError: another policy, or ``max_age_ms`` without ``freshest``.
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
        timeout_s: float | None = None,
        max_age_ms: float | None = None,
        info: StreamInfo | None = None,
        writes: Callable[[RawFrame], object] = lambda frame: None,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy}")
        freshest = policy == "freshest"
        if max_age_ms is not None and not freshest:
            raise ValueError("max_age_ms drops frames: it needs policy=freshest")
        self._source = source
        self._scheduler = scheduler
        self._sink = sink
        self._meter = meter
        self._progress = progress
        self._timeout_s = timeout_s
        self._max_age_ms = max_age_ms
        self._info = info
        self._writes = writes
        slots = 1 if freshest else SLOTS
        self._input: Channel[RawFrame] = Channel(slots, freshest=freshest)
        self._output: Channel[RawFrame] = Channel(slots)
        self._reader = Worker(self._read, "cbs-reader", source)
        self._writer = Writer(
            sink,
            self._output,
            name="cbs-writer",
            write=self._write,
            whole=lambda: not self._cut,
            failed=self._sink_failed,
            closed=self._end_early,
        )
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._interrupted = False
        self._closed = False
        self._waiting: float | None = None
        """Since when the reader has been waiting for the source."""
        self._under_way = 0
        self._given = 0
        self._stale_in = 0
        self._stale_out = 0

    @property
    def kept(self) -> int:
        """How many frames the closed output holds, also where `run` raised; 0: there is none."""
        return self._writer.kept

    def run(self) -> Outcome:
        """Runs to the end of the source, once; the source must be entered already.

        The first Ctrl-C ends the stream here and closes the output; the second gives it up.

        Raises:
            CbsError: the first failure of source, pipeline, device or sink. The output holds the
                frames so far, wherever the sink can keep them; `kept` tells how many.
            KeyboardInterrupt: Ctrl-C before the stream began, or a second one; the output is
                removed.
        """
        try:
            self._go()
        except BaseException as error:
            self._fail(error)
            self._writer.give_up()
        finally:
            try:
                self._leave()
            finally:
                self._count_drops()
                if isinstance(self._scheduler, Closable):
                    self._scheduler.close()
        if self.kept and isinstance(self._error, KeyboardInterrupt):  # pressed when all was done
            self._interrupted, self._error = True, None
        if not self._ending and not self._meter.frames_out:
            self._error = self._nothing()
        if self._error is not None:
            if self.kept:
                self._error.add_note(f"the output is closed, with {self.kept} frames")
            raise self._error from self._error.__cause__
        return Outcome(self._interrupted)

    @property
    def _cut(self) -> bool:
        return self._interrupted or self._error is not None

    @property
    def _ending(self) -> bool:
        """Whether nobody waits for more frames."""
        return self._cut or self._closed

    def _go(self) -> None:
        self._open()
        self._reader.start()
        self._writer.start()
        try:
            self._compute()
            self._output.close()
            self._writer.wait()
        except KeyboardInterrupt:
            self._interrupted = True
            self._input.close(discard=True)
            self._output.close()
            self._writer.wait()

    def _open(self) -> None:
        try:
            self._sink.open(self._info or self._source.info)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = told(error, "sink", SinkError, self._sink)
            raise line from line.__cause__

    def _compute(self) -> None:
        """Drives the scheduler until the stream ends; an error ends it here."""
        try:
            for raw in self._due():
                self._scheduler.submit(raw)
                self._under_way += 1
                self._pass_on(self._scheduler.ready())
            self._pass_on(self._scheduler.drain())
        except ClosedError:  # the sink is closed, or failed and said so
            return
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, RuntimeError) and isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None  # what `threading` makes of it in its own locks
            self._fail(self._explained(error))
            self._input.close(discard=True)

    def _due(self) -> Iterator[RawFrame]:
        """Yields the frames to compute; meanwhile finished ones leave as soon as they are."""
        while True:
            try:
                raw = self._input.get(POLL if self._under_way else GLANCE)
            except ClosedError:
                return
            except TimeoutError:
                if self._under_way:
                    self._pass_on(self._scheduler.ready())
                if self._timed_out():
                    return
                continue
            if self._stale(raw):
                self._stale_in += 1
            else:
                yield raw

    def _timed_out(self) -> bool:
        since = self._waiting
        if self._timeout_s is None or since is None:
            return False
        if time.monotonic() - since < self._timeout_s:
            return False
        self._fail(
            SourceLostError(
                f"{named(self._source)} gave no frame for {self._timeout_s:g} s: see whether it is "
                "connected and not used by another program"
            )
        )
        self._input.close()
        return True

    def _pass_on(self, done: Iterator[RawFrame]) -> None:
        for frame in done:
            self._under_way -= 1
            self._output.put(frame)

    def _stale(self, frame: RawFrame) -> bool:
        if self._max_age_ms is None or frame.captured is None:
            return False
        return (time.monotonic() - frame.captured) * 1e3 > self._max_age_ms

    def _explained(self, error: BaseException) -> BaseException:
        line: BaseException
        if isinstance(error, torch.AcceleratorError):
            line = DeviceLostError(
                f"the device failed ({str(error).splitlines()[0]}): run `cbs-doctor`, and start "
                "again when it finds the device in order"
            )
        elif isinstance(error, torch.OutOfMemoryError):
            info = self._source.info
            line = MemoryLimitError(
                f"a frame of {info.width}x{info.height} does not fit into the device's memory "
                f"({str(error).partition('. ')[0]}): make it smaller, or use a smaller net"
            )
        elif isinstance(error, SystemExit):
            line = PluginContractError(f"a plugin tried to end the program ({error_line(error)})")
        else:
            return error
        line.__cause__ = error
        return line

    def _read(self) -> None:
        try:
            live = self._source.info.live
            self._waiting = time.monotonic()
            frames = iter(self._source)
            while True:
                with self._meter.stage("decode"):
                    raw = next(frames)
                self._waiting = None
                self._given += 1
                self._meter.frames_in = self._given + self._missed
                if live and raw.captured is None:
                    raw = replace(raw, captured=time.monotonic())
                self._input.put(raw)
                self._waiting = time.monotonic()
        except StopIteration:
            self._input.close()
        except ClosedError:
            return
        except BaseException as error:
            if not self._ending:  # else it was stopped
                self._fail(told(error, "source", SourceLostError, self._source))
                self._input.close()  # what was read before is still restyled

    def _write(self, frame: RawFrame) -> bool:
        if self._stale(frame):
            self._stale_out += 1
            return False
        self._writes(frame)
        with self._meter.stage("encode"):
            self._sink.write(frame)
        self._count_drops()
        self._meter.frame_out(frame.captured)
        self._progress()
        return True

    def _count_drops(self) -> None:
        missed = self._missed
        self._meter.frames_in = self._given + missed
        self._meter.dropped = self._input.dropped + self._stale_in + self._stale_out + missed

    @property
    def _missed(self) -> int:
        """Frames that the source itself dropped, for newer ones."""
        return self._source.dropped if isinstance(self._source, CountsDrops) else 0

    def _end_early(self) -> None:
        self._closed = True
        self._input.close(discard=True)
        self._output.close(discard=True)

    def _sink_failed(self, error: BaseException) -> None:
        self._fail(error)
        self._input.close(discard=True)
        self._output.close(discard=True)

    def _fail(self, error: BaseException) -> None:
        """Notes what ended the run; what follows from it, or comes beside it, is only told."""
        with self._lock:
            first, self._error = self._error, self._error or error
        if first is not None and not isinstance(error, KeyboardInterrupt):
            log.warning("and then: %s", error_words(error) or type(error).__name__)

    def _nothing(self) -> StreamError:
        if self._stale_in or self._stale_out:
            return StreamError(
                f"every frame was older than max_age_ms={self._max_age_ms:g} when it was due: "
                "allow more, or make it faster (a smaller size, a smaller net)"
            )
        return SourceError("the input holds no frame: choose another")

    def _leave(self) -> None:
        """Ends what is still at work; waits a bounded time."""
        until = time.monotonic() + PATIENCE
        while True:
            # Pressed again meanwhile, Ctrl-C could only cut the tidying short.
            with suppress(KeyboardInterrupt):
                self._input.close(discard=True)
                if self._ending and not self._reader.wait(0):
                    stop(self._source)
                read = self._reader.wait(max(0, until - time.monotonic()))
                written = self._writer.wait(max(0, until - time.monotonic()))
                break
        if not read:
            log.warning("%s does not return; its thread is left", named(self._source))
        if not written:
            log.warning("%s does not return; its thread is left", named(self._sink, "sink"))
        elif not self._writer.over:  # it never began
            self._writer.abort()
