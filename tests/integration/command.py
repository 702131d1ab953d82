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


def with_net(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the arguments with the fixtures' segmenter, unless they choose one or only ask."""
    chosen = any(arg.startswith("segmenter=") for arg in argv)
    asks = any(arg in ("-sc", "--help", "--version") for arg in argv)
    return argv if chosen or asks else (*argv, "segmenter=dabnet")
