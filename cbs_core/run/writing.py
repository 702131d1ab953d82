"""What becomes of a sink: written, and then closed or aborted, in a thread of its own.

The rule, for a run of one sink and for each of several: **what is done stays**. However a stream
ends (its end, Ctrl-C, an error of the source, of a plugin, of the device), the frames that were
written are kept: the sink is closed, with ``complete=False`` where the stream was cut. Only a sink
that cannot keep them is aborted: one that failed by itself (`SinkError`, or a stranger's exception,
after which nobody knows what its file holds), or whose `close` fails. A sink that fails and knows
that what it holds is whole raises `SinkLostError`, and is closed like the others. Without a frame
there is no output.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from cbs_core.contract.errors import LostError, SinkClosedError, SinkError
from cbs_core.contract.interfaces import CountsKept, Sink
from cbs_core.contract.live import Leavable
from cbs_core.contract.types import RawFrame
from cbs_core.run.channel import GLANCE, Channel, ClosedError
from cbs_core.run.workers import Worker, told


class Writer(Worker):
    """Writes a channel's frames, and closes the sink: here, where no Ctrl-C can cut it short.

    Args:
        sink: opened already.
        frames: what to write, until it is closed.
        name: the thread's.
        write: writes one frame; tells whether it did.
        whole: asked at the end of the frames: whether the stream came to its own end.
        failed: told each error of the sink; the first may come before the last frame.
        closed: told that nobody looks any more (`SinkClosedError`).
    """

    def __init__(
        self,
        sink: Sink,
        frames: Channel[RawFrame],
        *,
        name: str,
        write: Callable[[RawFrame], bool],
        whole: Callable[[], bool],
        failed: Callable[[BaseException], None],
        closed: Callable[[], None],
    ) -> None:
        super().__init__(self._drive, name, sink)
        self._sink = sink
        self._frames = frames
        self._write = write
        self._whole = whole
        self._failed = failed
        self._closed = closed
        self._given_up = threading.Event()
        self.written = 0
        self.kept = 0
        """Frames in the closed output."""

    def give_up(self) -> None:
        """Aborts the sink as soon as it returns from what it is at."""
        self._given_up.set()
        self._frames.close(discard=True)

    def abort(self) -> None:
        """Removes what the sink wrote."""
        with suppress(Exception, SystemExit):  # it would hide the error that came first
            self._sink.abort()

    def _drive(self) -> None:
        error: BaseException | None = None
        cut = False
        try:
            for frame in self._taken():
                self.written += self._write(frame)
        except SinkClosedError:
            cut = True
            self._closed()
        except BaseException as raised:
            error = told(raised, "sink", SinkError, self._sink)
            self._failed(error)
        if not self._keep(error, cut):
            self.abort()

    def _taken(self) -> Iterator[RawFrame]:
        """Yields the frames; between them it looks whether the sink was left.

        Raises:
            SinkClosedError: it was, while none came: a camera may stall for long.
        """
        if not isinstance(self._sink, Leavable):
            yield from self._frames
            return
        with suppress(ClosedError):
            while True:
                try:
                    yield self._frames.get(GLANCE)
                except TimeoutError:
                    if self._sink.left:
                        raise SinkClosedError from None

    def _keep(self, error: BaseException | None, cut: bool) -> bool:
        if error is not None and not isinstance(error, LostError):
            return False
        if not self.written or self._given_up.is_set():
            return False
        whole = error is None and not cut and self._whole()
        failure = self._close(complete=whole)
        if isinstance(failure, LostError):
            failure = self._close(complete=False)
        if failure is not None:
            return False
        own = self._sink.kept if isinstance(self._sink, CountsKept) else None
        self.kept = self.written if own is None else own
        return True

    def _close(self, *, complete: bool) -> BaseException | None:
        try:
            self._sink.close(complete=complete)
        except BaseException as raised:
            error = told(raised, "sink", SinkError, self._sink)
            self._failed(error)
            return error
        return None
