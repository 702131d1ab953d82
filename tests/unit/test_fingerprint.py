"""The input's SHA-256, beside the run."""

import hashlib
import os
import threading
from pathlib import Path

from cbs_core.run.fingerprint import Fingerprint


def test_it_is_the_files(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(os.urandom(3_000_000))
    with Fingerprint(file) as one:
        assert one.result(wait=True) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_is_no_file_has_none(tmp_path: Path) -> None:
    for path in (None, tmp_path, tmp_path / "nothing"):
        with Fingerprint(path) as one:
            assert one.result(wait=True) is None


def test_it_ends_with_the_run(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(20_000_000_000)  # a hole: no byte of it is on the disk
    before = set(threading.enumerate())
    with Fingerprint(large) as one:
        assert one.result(wait=False) is None
    assert set(threading.enumerate()) == before
