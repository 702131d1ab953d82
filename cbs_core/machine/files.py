"""Files that stand under their own name whole, or not at all.

What is written stands beside its place under a hidden name of chance until it is whole: a name that
can be foretold could be a link that somebody put there, and two writers would share it. It is
locked meanwhile, so that what a process that was killed left is known, and removed by the next one
that writes in that folder.
"""

import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cbs_core.contract.errors import SinkError
from cbs_core.machine.locks import HAS_LOCKS, lock, remove_left

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

TAG = ".cbs-tmp-"
"""In every temporary name: ``.out.report.json.cbs-tmp-3f9c...``."""

LONGEST = 255
"""Bytes of a name that file systems hold."""

_ALONE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

MARK = b"class-based-styling"
"""In the first bytes of what this program writes beside an output: report, sheet."""

HEAD = 512
"""Bytes in which it is looked for."""


def replace(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    advice: str = ": make room there",
    over: bool = True,
) -> Path:
    """Writes a file beside ``path``, on the disk, then gives it that name in one step.

    Args:
        path: the file's own name; its folder is made where it is not there.
        write: fills the file.
        advice: ends the error's line.
        over: whether a file of that name is replaced.

    Returns:
        The name that it has: `free`'s where ``path`` is taken and is not to be replaced.

    Raises:
        SinkError: it cannot be written.
    """
    whole, handle = _created(path, advice)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            if HAS_LOCKS:  # until it has its name; Windows renames nothing that is open
                return rename(whole, path, advice=advice, over=over)
        return rename(whole, path, advice=advice, over=over)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            whole.unlink(missing_ok=True)
        # torch wraps a full disk into a RuntimeError.
        if isinstance(error, SinkError) or not isinstance(error, OSError | RuntimeError):
            raise
        raise SinkError(f"cannot write '{path}' ({reason(error)}){advice}") from error


def _created(final: Path, advice: str) -> tuple[Path, int]:
    """Creates an empty hidden file beside ``final``, which takes its name when whole; locks it.

    It lies in the same folder because only within one file system is a rename atomic. Parent
    folders are created.

    Raises:
        SinkError: nothing can be written there.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final.parent)
        while True:
            path = final.with_name(_hidden(final))
            # Refuses a name that is there already, a link to nowhere too.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _ALONE, 0o666)
            if lock(handle) and os.fstat(handle).st_nlink:
                return path, handle
            os.close(handle)  # taken for one that was left, before it was locked
    except OSError as error:
        raise SinkError(
            f"cannot write '{final}': {_obstacle(final) or reason(error)}{advice}"
        ) from error


def _hidden(final: Path) -> str:
    tail, name = f"{TAG}{secrets.token_hex(8)}", final.name
    while len(os.fsencode(f".{name}{tail}")) > LONGEST:  # a final name may have that already
        name = name[:-1]
    return f".{name}{tail}"


def is_temporary(name: str) -> bool:
    """Tells whether a file's name is one of those under which `replace` writes."""
    return _TEMPORARY.fullmatch(name) is not None


_TEMPORARY = re.compile(rf"\..+{re.escape(TAG)}[0-9a-f]{{16}}", re.S)

_swept: set[Path] = set()


def _sweep(folder: Path) -> None:
    """Removes, once a process, what those that were killed left in a folder."""
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:  # one may write where one may not look
        for entry in entries:
            if is_temporary(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    remove_left(Path(entry.path))


def rename(path: Path, final: Path, *, advice: str = "", over: bool = True) -> Path:
    """Gives a finished file, or folder, its own name; a file of that name is replaced in one step.

    The file is on the disk before it has the name: not even a power cut leaves half of it there.

    Args:
        path: beside it.
        final: the output's own name.
        advice: ends the error's line.
        over: whether a file of that name is replaced.

    Returns:
        The name that it has, as of `settle`.

    Raises:
        SinkError: where it cannot be renamed.
    """
    try:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        return settle(path, final, over=over)
    except OSError as error:
        raise SinkError(f"cannot write '{final}': {reason(error)}{advice}") from error


def settle(path: Path, final: Path, *, over: bool) -> Path:
    """Renames a file, or a folder; what has the name already is replaced only where it may be.

    Returns:
        ``final``, or `free`'s where that is taken and may not be replaced.

    Raises:
        OSError: it cannot be renamed.
    """
    if over and (path.is_dir() or not final.is_dir()):  # a folder was made there meanwhile
        os.replace(path, final)
        return final
    while True:
        try:
            _rename_new(path, final)
        except FileExistsError:
            final = free(final)
        else:
            return final


def _rename_new(path: Path, final: Path) -> None:
    """Renames, unless the name is taken: in one step, where the file system can."""
    if path.is_dir() and not path.is_symlink():
        if os.path.lexists(final):  # of a folder that is not empty the system says so itself
            raise FileExistsError(final)
        path.rename(final)
        return
    try:
        os.link(path, final, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # no links there, as on FAT
        if os.path.lexists(final):
            raise FileExistsError(final) from None
        path.rename(final)
    else:
        path.unlink()


def alike(name: str) -> str:
    r"""Returns what names have in common that are one to some file systems.

    Macs' and Windows' tell no case apart, and Macs' no two spellings of an accent.

    Example:
        >>> alike("\u00c9t\u00e9.PNG") == alike("e\u0301te\u0301.png")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def free(path: Path) -> Path:
    """Returns ``path``, or the first of ``NAME.2.SUFFIX`` and on, that nobody has.

    Example:
        >>> free(Path("/nowhere/out.preview.png")).name
        'out.preview.png'
    """
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return found


def marked() -> "PngInfo":
    """Returns what makes a PNG one that this program wrote (`MARK`), for Pillow's ``pnginfo``."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", MARK.decode())
    return info


def is_marked(path: Path) -> bool:
    """Tells whether a file is a report or a sheet that this program wrote (`MARK`)."""
    try:
        with path.open("rb") as file:
            return MARK in file.read(HEAD)
    except OSError:
        return False


def reason(error: BaseException) -> str:
    """Returns the operating system's own words, without the temporary name they would show."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition("\n")[0]


def _obstacle(final: Path) -> str:
    """Returns which of the folders above a path is a file, if one is."""
    found = [str(parent) for parent in final.parents if parent.is_file()]
    return f"'{found[0]}' is a file, not a folder" if found else ""
