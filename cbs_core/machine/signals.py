"""The signals that end a run: each ends it as Ctrl-C does, so that what is done is kept."""

import signal
import time
from collections.abc import Callable

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGBREAK")

ENDING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Ctrl-C, ``kill``, a closed terminal, Ctrl-\\, a limit of CPU time: those that the system has."""

_LEFT_TO_OTHERS = {"SIGHUP", "SIGQUIT"}
"""Whoever starts a process may have it ignore these: ``nohup`` does, and a script's ``&``."""

_SAID_AGAIN = {"SIGHUP", "SIGXCPU"}
"""The system says these again by itself: to each job of a closed terminal, each second of CPU."""

ECHO = 1.0
"""Seconds in which one signal comes twice and is meant once: ``timeout`` says it to a process, and
then to its group."""


class Presses:
    """Counts the times that somebody means a run to end."""

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    @property
    def some(self) -> bool:
        """Whether one has been heeded."""
        return self._count > 0

    def counts(self, number: int) -> bool:
        """Tells whether a signal is to be heeded: the first ends a run, the second gives it up."""
        name, now = signal.Signals(number).name, time.monotonic()
        if self._count:
            echo = name != "SIGINT" and now - self._since < ECHO
            if echo or name in _SAID_AGAIN or self._count > 1:
                return False
        self._count += 1
        self._since = now
        return True


def listen(handler: Callable[..., object]) -> dict[int, object]:
    """Sets the handler of each that ends a run, unless it is left to others; in the main thread.

    Returns:
        The handlers before, for `restore`.
    """
    found = {number: signal.getsignal(number) for number in ENDING}
    # None: of a program that Python runs within, and cannot be restored.
    before: dict[int, object] = {number: had for number, had in found.items() if had is not None}
    for number, had in before.items():
        if had is not signal.SIG_IGN or signal.Signals(number).name not in _LEFT_TO_OTHERS:
            signal.signal(number, handler)
    return before


def restore(before: dict[int, object]) -> None:
    """Sets handlers as they were."""
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]


def ignore() -> None:
    """Lets a process end with its own exit code, whatever is pressed again and again."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
