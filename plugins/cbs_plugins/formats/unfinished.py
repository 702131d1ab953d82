"""Files and folders that are being written, and what is left of them where a run was killed.

Such a one is hidden, named after the output and by chance (``.out.mp4.cbs-3f9c....mp4``), and
locked while its process lives. So a later run knows which are left over, whoever's number the
dead process had.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from cbs_core.contract.errors import SinkError
from cbs_plugins.formats.files import reason

try:
    import fcntl
except ImportError:  # Windows: nothing is known to be left over there, and nothing removed
    fcntl = None  # type: ignore[assignment]

_LONGEST = 255 - len(".") - len(".cbs-") - 16
"""Bytes of a name that are left where chance has 16; file systems hold 255."""


class Unfinished:
    """A file under a name of chance, beside the one it will have.

    Args:
        final: that one. Its folder is made.

    Raises:
        SinkError: nothing can be written there.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = _path(final)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            # Exclusive, and following no link: nobody else's file is opened.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            self._handle = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise _refused(final, error) from error
        _lock(self._handle)

    def finish(self) -> None:
        """Gives the file its name, when it is on the disk.

        Raises:
            SinkError: it cannot be renamed.
        """
        try:
            os.fsync(self._handle)
            os.replace(self.path, self.final)
        except OSError as error:
            raise SinkError(f"cannot write '{self.final}': {reason(error)}") from error
        finally:
            self._release()

    def discard(self) -> None:
        """Removes the file."""
        self.unlink()
        self._release()

    def unlink(self) -> None:
        """Takes the file's name away."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class UnfinishedFolder:
    """A folder under a name of chance, beside the one it will be or go into.

    Args:
        final: that one. Its parent is made.

    Raises:
        SinkError: nothing can be written there.
    """

    def __init__(self, final: Path) -> None:
        self.path = _path(final)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
        except OSError as error:
            raise _refused(final, error) from error
        self._handle: int | None = os.open(self.path, os.O_RDONLY) if fcntl is not None else None
        if self._handle is not None:
            _lock(self._handle)

    def release(self) -> None:
        """Lets the folder be: it has its final name, or is gone."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _path(final: Path) -> Path:
    return final.with_name(_stem(final) + f".cbs-{secrets.token_hex(8)}{final.suffix}")


def _refused(final: Path, error: OSError) -> SinkError:
    above = [str(parent) for parent in final.parents if parent.is_file()]
    why = f"'{above[0]}' is a file, not a folder" if above else reason(error)
    return SinkError(f"cannot write '{final}': {why}; choose another place with output=")


def told(left: list[Path], final: Path) -> tuple[str, ...]:
    """Returns a line for each file or folder that is left over of ``final``."""
    return tuple(
        f"'{path}' is what a run that was killed left of '{final.name}', whole as far as it goes: "
        "it is removed when this run is whole"
        for path in left
    )


def remove(left: list[Path], suffix: str) -> None:
    """Removes what is left over; of a folder the files of a suffix, and it when it is empty."""
    for path in left:
        with suppress(OSError):
            if path.is_dir():
                for file in path.glob(f"*{suffix}"):
                    file.unlink()
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def _stem(final: Path) -> str:
    room = _LONGEST - len(os.fsencode(final.suffix))
    name = final.name
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return f".{name}"


def left_over(final: Path) -> list[Path]:
    """Returns the files that runs which were killed left of ``final``."""
    pattern = re.compile(re.escape(_stem(final)) + r"\.cbs-[0-9a-f]{16}" + re.escape(final.suffix))
    try:
        found = [path for path in final.parent.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(path for path in found if _is_abandoned(path))


def _is_abandoned(path: Path) -> bool:
    if fcntl is None or path.is_symlink() or not (path.is_file() or path.is_dir()):
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its process lives
        return False
    finally:
        os.close(handle)
    return True
