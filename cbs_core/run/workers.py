"""Threads that a run can wait for with a bound, and sources that it can leave in time."""

import _thread
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from cbs_core.contract.errors import CbsError, SourceError, error_line
from cbs_core.contract.interfaces import Source, Stoppable
from cbs_core.machine.addresses import shown
from cbs_core.run.channel import GLANCE

PATIENCE = 0.6
"""Seconds that a run which is to end waits for a plugin: it ends within one second."""

log = logging.getLogger("cbs")


class Worker(threading.Thread):
    """A daemon thread whose end can be waited for, also where Ctrl-C cuts the wait short.

    `threading.Thread.join` takes a thread for ended where Ctrl-C interrupts it (Python 3.11).

    Args:
        work: what it does.
        name: the thread's name.
        owner: the plugin that it works for.
    """

    def __init__(self, work: Callable[[], None], name: str, owner: object = None) -> None:
        super().__init__(name=name, daemon=True)
        self.owner = owner
        self.begun = False
        self.over = False
        """Whether it has done its work."""
        self._work = work
        self._ended: SimpleQueue[None] = SimpleQueue()

    def start(self) -> None:
        """Starts the thread; returns at once."""
        # From another thread, which no Ctrl-C reaches: in the midst of `threading.Thread.start` it
        # leaves a lock taken that the new thread then waits for.
        start = super().start
        self.begun = True
        _thread.start_new_thread(start, ())

    def run(self) -> None:
        """Works, in the thread."""
        try:
            self._work()
        finally:
            self.over = True
            self._ended.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, at most ``timeout`` seconds; tells whether the thread is gone.

        One that never began is.
        """
        if not self.begun:
            return True
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self.over:
            left = until - time.monotonic()
            if left <= 0:
                return self.over
            with suppress(Empty):
                self._ended.get(timeout=min(left, GLANCE))
        while self.is_alive():
            time.sleep(0.0002)
        return True


def told(
    error: BaseException, part: str, kind: type[CbsError], plugin: object = None
) -> BaseException:
    """Returns what a plugin raised as one line, in an error of a user's.

    Args:
        error: of a thread that works for a plugin, which no Ctrl-C reaches: a `CbsError` stays as
            it is, and a plugin that exits has failed.
        part: ``source``, ``sink``.
        kind: what the error becomes.
        plugin: which one, where that is known.
    """
    if isinstance(error, CbsError):
        return error
    what, package = f"the {part}", _package(plugin)
    if _name(plugin):
        what = named(plugin, part)
    elif package:
        what = f"the {part} {named(plugin)}"
    what += f" of {package}" if package else ""
    line = kind(f"{what} failed ({error_line(error)})")
    line.__cause__ = error
    return line


def stop(source: Source) -> None:
    """Ends the source's wait for a frame, where it can be stopped; never raises or hangs."""
    if not isinstance(source, Stoppable):
        return
    failed: list[BaseException] = []
    if not _within(PATIENCE / 2, source.stop, "cbs-stop", source, failed):
        log.warning("%s: its stop() does not return; its thread is left", named(source))
    elif failed:
        log.warning("%s: its stop() failed (%s)", named(source), error_line(failed[0]))


@contextmanager
def opened(source: Source) -> Iterator[Source]:
    """Enters a source for a run, and leaves it in bounded time.

    Where the source holds a run's reader in a wait that nothing ends, it is left when that wait
    ends: to close a file or a device under the feet of a thread that reads it may crash.

    Raises:
        SourceError: where it cannot be read.
    """
    try:
        source.__enter__()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line = told(error, "source", SourceError, source)
        raise line from line.__cause__
    try:
        yield source
    finally:
        _leave(source, sys.exc_info())


def _leave(source: Source, error: tuple[object, object, object]) -> None:
    readers = [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, Worker) and thread.owner is source
    ]

    def leave() -> None:
        for reader in readers:
            reader.wait()
        source.__exit__(*error)

    failed: list[BaseException] = []
    ended = _within(0 if readers else PATIENCE / 2, leave, "cbs-leave", None, failed)
    if not ended and not readers:  # of a reader that is left the run has told
        log.warning("%s cannot be closed: it does not return; its thread is left", named(source))
    if failed and error[1] is None:
        line = told(failed[0], "source", SourceError, source)
        raise line from line.__cause__


def _within(
    seconds: float,
    call: Callable[[], object],
    name: str,
    owner: object,
    failed: list[BaseException],
) -> bool:
    """Tells whether the call returned in time; what it raised is put into ``failed``."""

    def work() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    worker = Worker(work, name, owner)
    worker.start()
    return worker.wait(seconds)


def named(plugin: object, part: str = "source") -> str:
    """Returns how a plugin is called in a message: ``source 'desk' (Camera)``, or its class.

    Args:
        plugin: a source, whose stream has a name, or a sink, whose file has.
        part: what it is.
    """
    kind, name = type(plugin).__name__, _name(plugin)
    return f"{part} '{name}' ({kind})" if name else kind


def _package(plugin: object) -> str:
    """Returns the package that a plugin is of; nothing of the framework's own."""
    package = "" if plugin is None else type(plugin).__module__.partition(".")[0]
    return "" if package == __name__.partition(".")[0] else package


def _name(plugin: object) -> str:
    try:
        info = getattr(plugin, "info", None)
        name = getattr(plugin, "path", None) if info is None else info.name
        return shown(str(name or ""))
    except (Exception, SystemExit):  # it may be what fails
        return ""
