"""Files that stand under their own name whole, or not at all."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cbs_core.contract.errors import SinkError


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
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        # torch wraps a full disk into a RuntimeError.
        if not isinstance(error, OSError | RuntimeError):
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise SinkError(f"cannot write '{path}' ({reason}){advice}") from error
