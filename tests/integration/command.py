"""What a test says to `cbs-run`, and what it hears."""

import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("cbs-run")

ROUTES = "routes=[building,wall]"
"""Classes that the untrained segmenter sees in `tests.media.picture`."""

WAVE = "styler.style=wave"


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    code: int
    out: str
    err: str
