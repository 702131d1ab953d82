"""Files as sources find them, and as sinks write them (`cbs_core.machine.files`)."""

from pathlib import Path
from typing import BinaryIO

from cbs_core.contract.stored import Stored
from cbs_core.machine import stores
from cbs_core.machine.files import reason, rename
from cbs_core.machine.inputs import input_file, missing

__all__ = [
    "input_file",
    "located",
    "missing",
    "opened",
    "reason",
    "rename",
    "size",
]


def located(path: str | Path) -> Path | Stored:
    """Returns where a file lies: a path, or in a store."""
    return stores.stored(path) or Path(path).expanduser()


def opened(file: Path | Stored) -> BinaryIO:
    """Opens a file, of a store one that is read by ranges."""
    return stores.opened(file) if isinstance(file, Stored) else file.open("rb")


def size(file: Path | Stored) -> int:
    """Returns how many bytes it has."""
    return stores.size(file) if isinstance(file, Stored) else file.stat().st_size
