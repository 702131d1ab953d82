"""Several sinks at once: a window beside a file, a broadcast beside both."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cbs_core.contract.errors import (
    LostError,
    SinkClosedError,
    SinkError,
    SinkLostError,
    error_words,
)
from cbs_core.contract.interfaces import LiveSink, Sink
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.run.channel import SLOTS, Channel, ClosedError
from cbs_core.run.workers import named, told
from cbs_core.run.writing import Writer

SLACK = 8
"""Frames of a live stream that wait for a file: a disk's hiccup holds nothing up."""

log = logging.getLogger("cbs")


class _Branch:
    """One of the sinks, its frames and its thread."""

    def __init__(self, sink: Sink, slots: int, number: int) -> None:
        self.sink = sink
        self.error: BaseException | None = None
        self.complete = True
        show = isinstance(sink, LiveSink) and sink.live
        self.frames: Channel[RawFrame] = Channel(1 if show else slots, freshest=show)
        self.writer = Writer(
            sink,
            self.frames,
            name=f"cbs-output-{number}",
            write=self._write,
            whole=lambda: self.complete,
            failed=self._failed,
            closed=lambda: self.frames.close(discard=True),
        )

    def _write(self, frame: RawFrame) -> bool:
        self.sink.write(frame)
        return True

    def _failed(self, error: BaseException) -> None:
        self.error = self.error or error
        self.frames.close(discard=True)

    def put(self, frame: RawFrame) -> bool:
        """Tells whether the sink still takes frames; waits for room where it is a file."""
        try:
            self.frames.put(frame)
        except ClosedError:
            return False
        return True


class Outputs:
    """A `Sink` over several, each in a thread of its own; one may end without ending the others.

    Every sink but a `LiveSink` is given every frame, and holds the stream up where it is slower for
    long. What becomes of each is told by the rule in `cbs_core.run.writing`: one that fails keeps
    what it can, one whose window is closed is closed. An error is told in one line of the log when
    the run ends; it is raised where no sink is left.

    Args:
        sinks: at least one; they are opened, and closed or aborted, by this one.
        names: what each is called in a message and in the report; None: by its class.

    Raises:
        ValueError: no sink.
    """

    def __init__(self, sinks: Sequence[Sink], names: Sequence[str] | None = None) -> None:
        if not sinks:
            raise ValueError("several sinks are at least one")
        self.sinks = tuple(sinks)
        self.names = tuple(names) if names is not None else tuple(map(named, sinks))
        self._branches: list[_Branch] = []
        self._told = False

    @property
    def dropped(self) -> int:
        """Frames that came too late for a `LiveSink`, of all of them."""
        return sum(branch.frames.dropped for branch in self._branches)

    @property
    def left(self) -> bool:
        """Whether each was closed by a person (`Leavable`), so that nobody looks any more."""
        over = [branch.writer.over and branch.error is None for branch in self._branches]
        return bool(over) and all(over)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sinks say that they could not keep."""
        return tuple(note for sink in self.sinks for note in getattr(sink, "notes", ()))

    @property
    def branches(self) -> tuple[Mapping[str, object], ...]:
        """What became of each, for the report; once all are closed."""
        return tuple(
            {
                "output": name,
                "frames": branch.writer.written,
                "dropped": branch.frames.dropped,
                "failed": None if branch.error is None else error_words(branch.error),
            }
            for name, branch in zip(self.names, self._branches, strict=False)
        )

    def open(self, info: StreamInfo, /) -> None:
        """Opens all; where one cannot be, the others are aborted.

        Raises:
            SinkError: one of them cannot be written.
        """
        opened: list[Sink] = []
        try:
            for sink in self.sinks:
                opened.append(sink)
                sink.open(info)
        except BaseException as error:
            for sink in opened:
                with suppress(Exception):  # it would hide the error that came first
                    sink.abort()
            if not isinstance(error, Exception):
                raise
            line = told(error, "sink", SinkError, opened[-1])
            raise line from line.__cause__
        slots = SLACK if info.live else SLOTS
        self._branches = [_Branch(sink, slots, at) for at, sink in enumerate(self.sinks, 1)]
        for branch in self._branches:
            branch.writer.start()

    def write(self, frame: RawFrame, /) -> None:
        """Gives the frame to all that still take one.

        Raises:
            SinkClosedError: nobody takes one any more, and none failed.
            SinkLostError: likewise, but one failed; another, or it, is closed with what it has.
            SinkError: all failed, and nothing is left of any.
        """
        taken = [branch.put(frame) for branch in self._branches]  # all, not until the first does
        if any(taken):
            return
        self._wait()
        self._raise()
        raise SinkClosedError

    def close(self, *, complete: bool = True) -> None:
        """Closes each, with what it got; all at once, and waits for the last.

        Raises:
            SinkError: all failed, and nothing is left of any.
        """
        for branch in self._branches:
            branch.complete = complete
            branch.frames.close()
        self._wait()
        if not any(branch.writer.kept for branch in self._branches):
            self._raise()
        self._tell()

    def abort(self) -> None:
        """Aborts each that is not closed yet."""
        for branch in self._branches:
            branch.writer.give_up()
        self._wait()
        self._tell()

    def _wait(self) -> None:
        for branch in self._branches:
            branch.writer.wait()

    def _raise(self) -> None:
        failed = [branch.error for branch in self._branches if branch.error is not None]
        if not failed:
            return
        kept = any(branch.writer.kept for branch in self._branches)
        self._tell(but=failed[0])
        if not kept or isinstance(failed[0], LostError):
            raise failed[0] from failed[0].__cause__
        raise SinkLostError(str(failed[0])) from failed[0]

    def _tell(self, but: BaseException | None = None) -> None:
        """Tells each sink's error once; ``but`` is told by whoever catches it."""
        if self._told:
            return
        self._told = True
        for name, branch in zip(self.names, self._branches, strict=True):
            if branch.error is not None and branch.error is not but:
                what = "closed with what it has" if branch.writer.kept else "removed"
                log.warning("%s ended early and is %s: %s", name, what, error_words(branch.error))


def beside(sink: Sink, name: str, more: Sequence[Sink], names: Sequence[str]) -> Outputs:
    """Returns one sink over a sink, or the sinks of an `Outputs`, and more of them.

    Args:
        sink: not opened yet.
        name: what it is called, where it is one.
        more: further sinks.
        names: what these are called.
    """
    if isinstance(sink, Outputs):
        return Outputs([*sink.sinks, *more], [*sink.names, *names])
    return Outputs([sink, *more], [name, *names])
