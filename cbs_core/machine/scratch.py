"""Temporary folders, which a later process removes where the one that made them was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from cbs_core.machine.locks import is_locked, lock

OWNED = "owned"
"""A file in such a folder that is locked for as long as its process lives."""


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Yields an empty folder that is gone afterwards; another one's that was left is removed.

    Args:
        prefix: of its name, and of theirs.
    """
    clear(Path(tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        handle = own(Path(made))
        try:
            files = Path(made) / "files"  # apart from the lock, whatever they are called
            files.mkdir()
            yield files
        finally:
            os.close(handle)


def own(folder: Path) -> int:
    """Returns the handle of a folder's `OWNED`, which is locked before another process sees it."""
    hidden = folder / f".{OWNED}"
    handle = os.open(hidden, os.O_RDWR | os.O_CREAT, 0o600)
    lock(handle)
    hidden.rename(folder / OWNED)
    return handle


def clear(base: Path, prefix: str) -> None:
    """Removes the folders of processes of this user that were killed; without a lock one stays."""
    for folder in base.glob(f"{prefix}*"):
        with suppress(OSError):
            left = is_locked(folder / OWNED) is False  # None: on a system without locks
            stat = folder.lstat()
            if left and S_ISDIR(stat.st_mode) and stat.st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
