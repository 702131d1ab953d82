"""The folder of a training run: whose it is, one run at a time, and what it wrote as its output."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine.files import MARK, reason
from cbs_core.machine.locks import lock
from cbs_core.run.destinations import refuse, writable

NOTE = "run.json"
"""The file by which a run's folder is known, locked while the run lives."""


class RunFolder:
    """A run's folder, held by this process.

    Args:
        path: where checkpoints, curves and previews go; made where it is not there.
        handle: of its note.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def note(self, output: Path) -> None:
        """Notes that ``output`` is what this run wrote."""
        said = {"program": MARK.decode(), "output": _digest(output)}
        text = json.dumps(said).encode()
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text, 0)


@contextmanager
def held(path: Path, output: Path, *, overwrite: bool) -> Iterator[RunFolder]:
    """Takes a run's folder, and refuses what would write over anything but its own output.

    Args:
        path: the folder.
        output: the weight file.
        overwrite: whether one that the run in this folder did not write may be written over.

    Raises:
        ConfigError: the folder or the output is somebody's, or another run is at work there.
        SinkError: nothing can be written there.
    """
    check(path, output, overwrite=overwrite)
    note = path / NOTE
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(note, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise SinkError(f"cannot write '{note}': {reason(error)}") from error
    try:
        if not lock(handle):
            raise ConfigError(
                f"another cbs-train is at work in '{path}': wait for its end, or name another "
                "output="
            )
        yield RunFolder(path, handle)
    finally:
        if [*path.iterdir()] == [note] and not note.stat().st_size:  # nothing came of it
            note.unlink()
            path.rmdir()
        os.close(handle)


def check(path: Path, output: Path, *, overwrite: bool) -> None:
    """Refuses what would write over anything but a run's own output.

    Args:
        path: the run's folder.
        output: the weight file.
        overwrite: whether one that the run in this folder did not write may be written over.

    Raises:
        ConfigError: the folder or the output is somebody's.
        SinkError: nothing can be written there.
    """
    check_made(path)
    if not (os.path.lexists(output) and _digest(output) == _noted(path / NOTE)):
        refuse([output], overwrite)
    writable(output)


def check_made(path: Path) -> None:
    """Refuses a folder that is there and is no run's: whatever its files are called.

    Raises:
        ConfigError: it is somebody's.
    """
    if path.is_dir() and any(path.iterdir()) and not _is_run(path / NOTE):
        raise ConfigError(
            f"'{path}' is there, and no run of cbs-train made it: move it, or name another output="
        )


def _is_run(note: Path) -> bool:
    """Tells whether a run's note is there: nothing in it yet, or what it wrote."""
    try:
        said = note.read_bytes()
        return not said or isinstance(json.loads(said), dict)
    except (OSError, ValueError):
        return False


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def _noted(note: Path) -> str | None:
    try:
        said = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    found = said.get("output") if isinstance(said, dict) else None
    return found if isinstance(found, str) and found else None
