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
    """Returns the arguments with the fixtures' segmenter, and torch in fp32, unless they choose.

    Trials of accelerators take longer than a test, torch.compile keeps threads of its own, and
    bf16 is hundreds of levels off where an untrained net is all or nothing.
    """
    if any(arg in ("-sc", "--help", "--version") for arg in argv):
        return argv
    usual = ("segmenter=dabnet", "accelerator=eager", "precision=fp32")
    chosen = {arg.partition("=")[0] for arg in argv}
    return (*argv, *(arg for arg in usual if arg.partition("=")[0] not in chosen))
