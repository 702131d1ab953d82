"""The input file's SHA-256, computed beside the run."""

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

from cbs_core.run.workers import PATIENCE, Worker

CHUNK = 1 << 20
"""Bytes read at once."""


class Fingerprint:
    """Hashes a file in a thread of its own; ends with the run, however that ends.

    Args:
        file: None, or what is no file, has no hash.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._given_up = threading.Event()
        self._digest: str | None = None
        self._worker = Worker(self._work, "cbs-fingerprint")

    def __enter__(self) -> "Fingerprint":
        """Begins."""
        if self._file is not None and self._file.is_file():
            self._worker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Gives up what is not done."""
        self._given_up.set()
        self._worker.wait(PATIENCE)

    def result(self, *, wait: bool) -> str | None:
        """Returns the hexadecimal digest; None where there is none, or not yet.

        Args:
            wait: whether to wait for it; not after Ctrl-C.
        """
        if not wait:
            self._given_up.set()
        with suppress(KeyboardInterrupt):  # the run is done, and only this is not
            self._worker.wait()
        return self._digest

    def _work(self) -> None:
        assert self._file is not None
        digest = hashlib.sha256()
        try:
            with self._file.open("rb") as content:
                while chunk := content.read(CHUNK):
                    if self._given_up.is_set():
                        return
                    digest.update(chunk)
        except OSError:  # the source says so
            return
        self._digest = digest.hexdigest()
