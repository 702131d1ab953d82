"""Locks on open files, which the system gives back whatever ends a process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is known to be left over there, and nothing removed
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None


def lock(handle: int) -> bool:
    """Locks an open file for this process's life; tells whether no other process has it."""
    return fcntl is None or _locks(handle) is not False


def wait_for(handle: int) -> None:
    """Locks an open file as soon as no other process has it.

    Raises:
        OSError: on a file system without locks.
    """
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool | None:
    """Tells whether the process that locked a file lives; None where that cannot be known."""
    with _tried(path) as got:
        return None if got is None else not got


def remove_left(path: Path) -> None:
    """Removes a file unless a process has it locked, or that cannot be known.

    It is ours meanwhile: one that has just been made, and is to be locked, is told from its lock.

    Raises:
        OSError: it cannot be removed.
    """
    with _tried(path) as got:
        if got:
            path.unlink()


@contextmanager
def _tried(path: Path) -> Iterator[bool | None]:
    """Holds a file's lock, where it yields True; False: another has it; None: it is not known."""
    if fcntl is None:
        yield None
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield _locks(handle)
    finally:
        os.close(handle)


def _locks(handle: int) -> bool | None:
    """Locks an open file unless another process has; None on a file system without locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
