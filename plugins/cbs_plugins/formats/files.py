"""Files as sources find them, and as sinks write them: hidden, then renamed when whole."""

import os
import secrets
import stat
from pathlib import Path

from cbs_core.contract.errors import SinkError, SourceError, closest


def input_file(path: str | Path) -> Path:
    """Returns the path of a file that has content.

    Raises:
        SourceError: where it is missing (with the closest name beside it), a folder, or empty.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise SourceError(f"'{path}' is a folder: name a file in it, or use source=folder")
    if str(path) == "-":
        raise SourceError("'-' is standard input, and only files are read: save it to one first")
    if not path.exists():
        raise SourceError(missing(path))
    # Not even opened: of a pipe without a writer that would never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError(
            f"'{path}' is a pipe or a device, and only files, which can be read again, are taken: "
            "save it to one first"
        )
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"'{path}' is empty: get the file again")
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read: {reason(error)}") from error
    return path


def missing(path: Path) -> str:
    """Returns the message for a path that is not there, with the closest name beside it."""
    if not path.parent.is_dir():
        return f"no file '{path}': there is no folder '{path.parent}'"
    try:
        hint = closest(path.name, (entry.name for entry in path.parent.iterdir()))
    except OSError:
        hint = ""
    return f"no file '{path}'{hint or ': check the path'}"


def temporary(final: Path, *, folder: bool = False) -> Path:
    """Creates an empty hidden file (or folder) beside ``final``, which takes its name when whole.

    It lies in the same folder because only within one file system is a rename atomic. Parent
    folders are created. The name is short: a final name may already have the longest length.

    Raises:
        SinkError: where nothing can be written there.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        path = final.with_name(f".cbs-{secrets.token_hex(4)}{final.suffix}")
        if folder:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
    except OSError as error:
        raise SinkError(
            f"cannot write '{final}': {_obstacle(final) or reason(error)}; choose another place "
            "with output="
        ) from error
    return path


def _obstacle(final: Path) -> str:
    """Returns which of the folders above a path is a file, if one is."""
    found = [str(parent) for parent in final.parents if parent.is_file()]
    return f"'{found[0]}' is a file, not a folder" if found else ""


def rename(path: Path, final: Path) -> None:
    """Gives a finished file its own name; a file of that name is replaced in one step.

    Raises:
        SinkError: where it cannot be renamed.
    """
    try:
        os.replace(path, final)
    except OSError as error:
        raise SinkError(f"cannot write '{final}': {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Returns the operating system's own words, without the temporary name they would show."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition("\n")[0]
