"""The working folder, which is the user's: relative paths are of it, those of the output too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def staying() -> Iterator[None]:
    """Puts the working folder back where a plugin changes it: its output would lie elsewhere."""
    try:
        before = os.getcwd()
    except OSError:  # it is gone
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            if os.getcwd() != before:
                os.chdir(before)
