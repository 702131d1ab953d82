"""Temporary folders, which a later process removes where the one that made them was killed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from stat import S_ISDIR

from cbs_core.machine.locks import is_locked, lock

OWNED = "owned"
"""A file in such a folder that is locked for as long as its process lives."""

UNLOCKED_S = 24 * 60 * 60
"""Seconds for which nothing changed in a folder without one, from when on nobody has it: it is of a
version that locked none, or of a process that was killed before it could."""


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
    """Removes the folders of processes of this user that were killed."""
    for folder in base.glob(f"{prefix}*"):
        with suppress(OSError):
            stat = folder.lstat()
            if S_ISDIR(stat.st_mode) and stat.st_uid == os.getuid() and _left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _left(folder: Path) -> bool:
    """Tells whether nobody has a folder; one without a lock has somebody while it changes."""
    if (folder / OWNED).exists():
        return is_locked(folder / OWNED) is False  # None: on a system without locks
    paths = [os.path.join(top, name) for top, *below in os.walk(folder) for name in chain(*below)]
    changed = max(os.lstat(path).st_mtime for path in (str(folder), *paths))
    return time.time() - changed > UNLOCKED_S
