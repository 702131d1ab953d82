"""A folder beside an output that tells how far it is, for one process at a time."""

import os
from pathlib import Path

from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine import files
from cbs_core.machine.locks import lock

LOCK = "lock"


class HeldFolder:
    """Is made where it is not there, and held until it is given back.

    Args:
        folder: that one.
        index: the file in it that tells the rest; where it lacks, what is there is another's.
        output: what it is of.
        who: ``run`` or ``batch``, for errors.
        keeps: what the folder is for, likewise: ``resume=true keeps its parts``.

    Raises:
        ConfigError: other things lie there, or another process has it.
        SinkError: nothing can be written there.
    """

    def __init__(self, folder: Path, index: str, *, output: Path, who: str, keeps: str) -> None:
        self._lock = folder / LOCK
        names = (one.name for one in folder.iterdir()) if folder.is_dir() else ()
        there = {name for name in names if not files.is_temporary(name)}
        if there - {LOCK} and index not in there:
            raise ConfigError(
                f"'{folder}' is where {keeps}, and holds other things: move it, or choose another "
                "output="
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = self._taken()
        except OSError as error:
            raise SinkError(
                f"cannot write '{folder}': {files.reason(error)}; choose another output="
            ) from error
        if handle is None:
            raise ConfigError(
                f"another {who} is writing '{output}': wait for it, or choose another output="
            )
        self._handle: int | None = handle

    def _taken(self) -> int | None:
        """Returns the lock, which the system gives back whatever ends this process."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(self._lock, flags, 0o666)
            if not lock(handle):
                os.close(handle)
                return None
            if os.fstat(handle).st_nlink:
                return handle
            os.close(handle)  # whoever had it has removed it meanwhile: it keeps nobody out

    def give_back(self) -> None:
        """Lets others have it; may be called again."""
        if self._handle is not None:
            self._lock.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
