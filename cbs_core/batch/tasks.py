"""What a batch asks of a worker, and what it is answered: values that travel between machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbs_core.batch.items import Item
from cbs_core.batch.pieces import APART, WHOLE, Carry, Span
from cbs_core.contract.errors import ConfigError, SourceError, error_words
from cbs_core.machine.stores import stored


@dataclass(frozen=True, slots=True)
class Hello:
    """Asks what a worker is, with its nets built; answered by plain values for the report."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Asks how an item is to be done; answered by `Surveyed`."""

    item: Item
    window: int
    """Frames of a window."""

    shares: int = 1
    """How many workers would have nothing to do but it: a short one is cut for all of them."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """How an item is to be done."""

    key: str
    """What its parts depend on: the input as it is, and what crosses the cuts."""

    spans: tuple[Span, ...] = (WHOLE,)
    carry: Carry = APART
    frames: int | None = None
    joins: bool = True
    """Whether its sink joins segments; without that it is done in one go, as `cbs-run` does it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Asks for a part; answered by `Made`."""

    item: Item
    span: Span
    file: Path
    """Where its segment goes."""

    key: str
    """`Part.key`."""

    carry: Carry = APART
    state: Path | None = None
    """What it goes on from; None: the stream's start, or a run-up."""

    settled: bool = False
    """Whether of `state` only the statistics are taken."""

    run_up: bool = False
    """Whether the frames from `Span.seek` on are segmented, so that mattes know what was before."""

    keep: bool = False
    """Whether the state behind it is to be kept."""


@dataclass(frozen=True, slots=True)
class Made:
    """A part is there."""

    frames: int
    found: bool = True
    """False: the source does not find the window's first frame by its time, so there is none."""


@dataclass(frozen=True, slots=True)
class Join:
    """Asks for the output; answered by `Done`."""

    item: Item
    files: tuple[Path, ...]
    """The segments, in order."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """Asks for an output in one go; answered by `Done`."""

    item: Item


@dataclass(frozen=True, slots=True)
class Bundle:
    """Asks for pictures; answered by a `Done` of each, or a text that tells why there is none.

    The text is `Lasting` where the picture is not to be tried again.
    """

    items: tuple[Item, ...]
    folder: Path
    """Below it they are written until they have their names."""


@dataclass(frozen=True, slots=True)
class Done:
    """An output is there."""

    frames: int
    notes: tuple[str, ...] = ()
    """What source and sink could not keep."""

    output: str = ""
    """Its path, where that is another than was asked for."""


class Lasting(str):
    """Why there is no output, where another try would find the same: a damaged input."""

    __slots__ = ()


def reason(error: Exception, item: Item | None) -> str:
    """Returns an error in a line, as `Lasting` where no other try would end otherwise.

    What is read from a store may have been lost on its way.
    """
    line = error_words(error) or type(error).__name__
    here = item is not None and stored(item.input) is None
    lasts = here and isinstance(error, SourceError | ConfigError)
    return Lasting(line) if lasts else line


Facts = Mapping[str, Any]
