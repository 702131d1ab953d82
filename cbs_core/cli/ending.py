"""The end of a process, which nothing that a plugin leaves behind holds up.

What a run wrote is closed by then. A plugin's thread that is no daemon would keep the process for
ever, with Ctrl-C ignored; and while a plugin hangs in the code of a library, Python calls no
handler of a signal at all. So a thread of our own looks on: the operating system's handler writes
each signal's number into a socket (`signal.set_wakeup_fd`), whatever the main thread does.

Nor does what a library leaves behind change the code that a command has ended with: Python ends
its daemon threads by unwinding them, which aborts a process where one of them is in C++ at that
moment (pytorch/pytorch#38228). So the last thing that is called at the end is the system's exit.

A plugin's own `os._exit` is heard too (`exits_heard`); of what ends a process in C, by a signal of
the machine, Python lists the calls (`cbs_core.machine.dumps`).
"""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import NoReturn

from cbs_core.machine import dumps
from cbs_core.machine.signals import ENDING

PATIENCE = 5.0
"""Seconds for a thread to end, and for a second Ctrl-C to be heard."""

LONGEST = 60.0
"""Seconds that a process may take to end with no such thread."""

INSISTED = 2 * PATIENCE
"""Seconds after the second Ctrl-C, from when on a third is for a plugin that will not be ended: one
that catches whatever is raised in it."""

HEARD = 1.0
"""Seconds between a signal and its handler, or else the main thread does not hear it."""

HELD = (
    "interrupted, while a plugin or a library did not return: what is finished of the output has a "
    "hidden name beside it, which the next run tells"
)

_exit = os._exit
"""The system's, whatever a plugin is given in its place."""

END = 0
"""Where a signal's number would be: the process is ending."""


class Ending:
    """Looks on; one a process (`watch`)."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._presses = 0
        self._second = 0.0
        self._heard = 0
        self._handled = 0.0
        self._handler: object = None
        self._code = 1  # of a process that ends by what is raised
        self.left = False
        """Whether `leave` has been called."""
        self._process = os.getpid()
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        # A child's signals are no business of this process.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        # Called when the interpreter begins to wait for threads, as it is for pools of them.
        threading._register_atexit(self._end)  # type: ignore[attr-defined]
        threading.Thread(target=self._watch, name="cbs-ending", daemon=True).start()

    def listens(self, handler: object) -> None:
        """Names the handler that calls `handled`; others' signals are their own affair."""
        self._handler = handler

    def handled(self) -> None:
        """Notes that the main thread has heard a signal."""
        self._heard += 1
        self._handled = time.monotonic()

    def leave(self, code: int) -> NoReturn:
        """Ends the process with a code, whatever is left behind."""
        self._code = code
        self.left = True
        sys.exit(code)

    def _leave_last(self) -> None:
        """Has all be called that is to be at the end, and ends the process with its code."""
        atexit.unregister(self._leave_last)
        with exits_heard(self._command):
            atexit._run_exitfuncs()
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except OSError:
            return  # Python's own end tells it
        _exit(self._code)

    def _end(self) -> None:
        if os.getpid() == self._process:  # and no fork of it
            self._write.send(bytes([END]))
            if self.left:
                # The last that is registered is called first, and calls the others.
                atexit.register(self._leave_last)

    def _watch(self) -> None:
        while numbers := self._read.recv(64):
            for number in numbers:
                if number == END:
                    self._wait_for_threads()
                elif self._is_heard_by_us(number):
                    self._pressed(number)

    def _is_heard_by_us(self, number: int) -> bool:
        return number in ENDING and signal.getsignal(number) is self._handler

    def _pressed(self, number: int) -> None:
        """Ends a process whose main thread hears not even the second Ctrl-C, which gives all up."""
        self._presses += 1
        pressed = time.monotonic()
        if self._presses < 2:
            return
        self._second = self._second or pressed
        insists = number in (signal.SIGINT, signal.SIGTERM)
        if insists and pressed > self._second + INSISTED:
            self._leave_now(HELD, 130)
        time.sleep(PATIENCE)
        # Two at once are one call of the handler; and this thread may have been told late.
        if self._heard < self._presses and self._handled < pressed - HEARD:
            self._leave_now(HELD, 130)

    def _wait_for_threads(self) -> None:
        time.sleep(PATIENCE)
        left = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        if left:
            self._leave_now(
                f"a plugin has left a thread behind that does not end ({', '.join(left)}): it is "
                "ended with this process",
                self._code,
            )
        time.sleep(LONGEST)
        self._leave_now("what a plugin does at the end does not end: it is left", self._code)

    def _leave_now(self, why: str, code: int) -> None:
        os.write(2, f"{self._command}: {why}\n".encode(errors="backslashreplace"))
        _exit(code)


@cache
def watch(command: str) -> Ending:
    """Begins to look on, once a process; to be called by the main thread."""
    dumps.enable()
    return Ending(command)


@contextmanager
def exits_heard(command: str) -> Iterator[None]:
    """Makes a plugin's `os._exit` in a call of ours a `SystemExit`, which is told as any failure.

    In a thread of its own nobody would hear one: there the process ends, with a line. A fork ends
    as it likes, and who leaves in C is not heard.
    """
    process, before = os.getpid(), os._exit

    def leave(status: int) -> NoReturn:
        if os.getpid() != process:
            _exit(status)
        frame: FrameType | None = sys._getframe(1)
        assert frame is not None
        told = f"{frame.f_globals.get('__name__', '?')} called os._exit({status})"
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith("cbs_core."):
                raise SystemExit(told)
            frame = frame.f_back
        why = f"{told}, in a thread: a plugin or a library has ended the program"
        os.write(2, f"{command}: error: {why}\n".encode(errors="backslashreplace"))
        _exit(status or 2)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = before
