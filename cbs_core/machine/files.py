"""Files that stand under their own name whole, or not at all.

What is written stands beside its place under a hidden name of chance until it is whole: a name that
can be foretold could be a link that somebody put there, and two writers would share it.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cbs_core.contract.errors import SinkError

PREFIX = ".cbs-"
"""Of every temporary name."""


def replace(
    path: Path, write: Callable[[BinaryIO], object], *, advice: str = ": make room there"
) -> None:
    """Writes a file beside ``path``, on the disk, then gives it that name in one step.

    Args:
        path: the file's own name; its folder is made where it is not there.
        write: fills the file.
        advice: ends the error's line.

    Raises:
        SinkError: it cannot be written.
    """
    whole = temporary(path, advice=advice)
    try:
        with whole.open("wb") as file:
            write(file)
        rename(whole, path, advice=advice)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            whole.unlink(missing_ok=True)
        # torch wraps a full disk into a RuntimeError.
        if isinstance(error, SinkError) or not isinstance(error, OSError | RuntimeError):
            raise
        raise SinkError(f"cannot write '{path}' ({reason(error)}){advice}") from error


def temporary(
    final: Path, *, folder: bool = False, advice: str = "; choose another place with output="
) -> Path:
    """Creates an empty hidden file (or folder) beside ``final``, which takes its name when whole.

    It lies in the same folder because only within one file system is a rename atomic. Parent
    folders are created. The name is short: a final name may already have the longest length.

    Args:
        final: the output's own name, whose suffix the temporary one has.
        folder: whether it is one.
        advice: ends the error's line.

    Raises:
        SinkError: where nothing can be written there.
    """
    path = final.with_name(f"{PREFIX}{secrets.token_hex(8)}{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # Both refuse a name that is there already, a link to nowhere too.
        if folder:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
    except OSError as error:
        raise SinkError(
            f"cannot write '{final}': {_obstacle(final) or reason(error)}{advice}"
        ) from error
    return path


def rename(path: Path, final: Path, *, advice: str = "") -> None:
    """Gives a finished file, or folder, its own name; a file of that name is replaced in one step.

    The file is on the disk before it has the name: not even a power cut leaves half of it there.

    Args:
        path: as `temporary` gave it.
        final: the output's own name.
        advice: ends the error's line.

    Raises:
        SinkError: where it cannot be renamed.
    """
    try:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(path, final)
    except OSError as error:
        raise SinkError(f"cannot write '{final}': {reason(error)}{advice}") from error


def free(path: Path) -> Path:
    """Returns ``path``, or the first of ``NAME.2.SUFFIX`` and on, that nobody has.

    Example:
        >>> free(Path("/nowhere/out.preview.png")).name
        'out.preview.png'
    """
    number, found = 1, path
    while found.exists() or found.is_symlink():
        number += 1
        found = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return found


def reason(error: BaseException) -> str:
    """Returns the operating system's own words, without the temporary name they would show."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition("\n")[0]


def _obstacle(final: Path) -> str:
    """Returns which of the folders above a path is a file, if one is."""
    found = [str(parent) for parent in final.parents if parent.is_file()]
    return f"'{found[0]}' is a file, not a folder" if found else ""
