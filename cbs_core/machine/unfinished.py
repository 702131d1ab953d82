"""Files and folders that are being written, and what is left of them where a run was killed.

Such a one is hidden, named after the output and by chance (``.out.mp4.cbs-3f9c...``), and locked
while its process lives. It has the output's suffix too (``....mp4``) from when it can be shown. So
a later run knows which are left over, whoever's number the dead process had, and a second run that
would write the same output is refused.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from cbs_core.contract.errors import SinkError
from cbs_core.machine.files import reason, settle
from cbs_core.machine.locks import HAS_LOCKS, is_locked, lock, wait_for

_LONGEST = 255 - len(".") - len(".cbs-") - 16
"""Bytes of a name that are left where chance has 16; file systems hold 255."""


class Unfinished:
    """A file under a name of chance, beside the one it will have.

    A file that has the final name now is replaced in the end (whoever begins has asked whether it
    may be); one that somebody puts there meanwhile is not.

    Args:
        final: that name. Its folder is made.

    Raises:
        SinkError: nothing can be written there, or another run writes the same file.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        """The name it will have, or has once it is finished."""
        self.path = _path(final)
        self._over = os.path.lexists(final)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with _alone(final):
                # Exclusive, and following no link: nobody else's file is opened.
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
                self._handle = os.open(self.path, flags, 0o666)
                lock(self._handle)
        except OSError as error:
            raise _refused(final, error) from error

    @property
    def size(self) -> int:
        """Bytes that are written, whatever became of its name."""
        return os.fstat(self._handle).st_size

    def show(self) -> None:
        """Gives the file the output's suffix: from now on it is whole as far as it goes."""
        shown = self.path.with_name(self.path.name + self.final.suffix)
        with suppress(OSError):
            self.path.rename(shown)
            self.path = shown

    def finish(self) -> tuple[str, ...]:
        """Gives the file its name, when it is on the disk.

        Returns:
            A line where it has another name, because the one that was due was taken meanwhile.

        Raises:
            SinkError: it cannot be renamed.
        """
        due = self.final
        try:
            os.fsync(self._handle)
            self.final = settle(self.path, due, over=self._over)
        except OSError as error:
            raise SinkError(f"cannot write '{due}': {reason(error)}") from error
        finally:
            self._release()
        return () if self.final == due else (elsewhere(due, self.final),)

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
        SinkError: nothing can be written there, or another run writes the same folder.
    """

    def __init__(self, final: Path) -> None:
        self.path = _path(final)
        self._handle: int | None = None
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with _alone(final):
                self.path.mkdir()
                if HAS_LOCKS:
                    self._handle = os.open(self.path, os.O_RDONLY)
                    lock(self._handle)
        except OSError as error:
            raise _refused(final, error) from error

    def release(self) -> None:
        """Lets the folder be: it has its final name, or is gone."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextmanager
def _alone(final: Path) -> Iterator[None]:
    """Lets one process at a time begin in a folder, and only where nobody writes ``final``.

    Raises:
        SinkError: another run does.
    """
    if not HAS_LOCKS:
        yield
        return
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            wait_for(folder)
        if being_written(final):
            raise SinkError(written_already(final))
        yield
    finally:
        os.close(folder)


def written_already(final: Path) -> str:
    """Returns the line for a second run with one output."""
    return f"another run is writing '{final}': wait for its end, or name another output="


def elsewhere(due: Path, final: Path) -> str:
    """Returns the line for a file whose name was taken while it was written."""
    return f"'{due.name}' was put there by somebody else meanwhile: this run's is '{final.name}'"


def _path(final: Path) -> Path:
    return final.with_name(_stem(final) + f".cbs-{secrets.token_hex(8)}")


def _refused(final: Path, error: OSError) -> SinkError:
    above = [str(parent) for parent in final.parents if parent.is_file()]
    why = f"'{above[0]}' is a file, not a folder" if above else reason(error)
    return SinkError(f"cannot write '{final}': {why}; choose another place with output=")


def told(left: list[Path], final: Path) -> tuple[str, ...]:
    """Returns a line for each file or folder that is left over of ``final``."""
    return tuple(
        f"'{path}' is what a run that was killed left of '{final.name}', whole as far as it goes: "
        "it is removed when this run is whole"
        if path.is_dir() or path.suffix == final.suffix
        else f"'{path}' is what a run that was killed left of '{final.name}', of which nothing can "
        "be shown: it is removed when this run is whole"
        for path in left
    )


def remove(left: list[Path], *patterns: str) -> None:
    """Removes what is left over: of a folder some files, by patterns, and it when it is empty."""
    for path in left:
        with suppress(OSError):
            if path.is_dir():
                for file in chain.from_iterable(path.glob(pattern) for pattern in patterns):
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
    return [path for path in _beside(final) if is_locked(path) is False]


def being_written(final: Path) -> bool:
    """Tells whether a run that lives writes ``final``, as far as the file system knows."""
    return any(is_locked(path) for path in _beside(final))


def _beside(final: Path) -> list[Path]:
    if not HAS_LOCKS:
        return []
    stem, suffix = re.escape(_stem(final)), re.escape(final.suffix)
    pattern = re.compile(rf"{stem}\.cbs-[0-9a-f]{{16}}({suffix})?")
    try:
        found = [path for path in final.parent.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return []
    real = [path for path in found if not path.is_symlink()]
    return sorted(path for path in real if path.is_file() or path.is_dir())
