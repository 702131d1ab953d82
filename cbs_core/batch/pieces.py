"""A video in windows of frames: where it is cut, what crosses the cuts, and what each part holds.

A part is a segment of the pictures and, beside it, a small file that is written when the segment is
whole. So a part is there or is not, whoever wrote it and whatever became of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cbs_core.contract.types import Segment
from cbs_core.machine import files

if TYPE_CHECKING:
    from cbs_core.contract.windows import Index

VERSION = 1

LEAST = 48
"""Frames of a window that is shorter than asked for, so that all workers have one: with fewer the
run-up of steady mattes would be most of it."""

NEAR = 8
"""A cut is moved by up to a window's length over this to a frame that is decoded by itself."""

STATE = ".state"


@dataclass(frozen=True, slots=True)
class Carry:
    """What of a stream's state crosses a cut between two windows."""

    chained: bool = False
    """Whether each window goes on from the state behind the one before."""

    settles: tuple[str, ...] = ()
    """Styles whose statistics are taken once, and are then every later window's."""

    run_up: int = 0
    """Frames before a window that are segmented so that its mattes are as if it were no cut."""

    whole: bool = False
    """Whether nothing may be cut: a plugin does not tell its state."""


@dataclass(frozen=True, slots=True)
class Span:
    """A window of frames."""

    first: int = 0
    """Number of its first frame."""

    frames: int | None = None
    """How many it has; None where that is not known."""

    start: Fraction | None = None
    """Time of its first frame, seconds on the stream's clock; None: the stream's start."""

    end: Fraction | None = None
    """Time of the next window's first frame; None: the stream's end."""

    seek: Fraction | None = None
    """Time of the frame from which on it is read."""

    def __str__(self) -> str:
        """Returns ``240-480``, the numbers of its frames."""
        return f"{self.first}-{'' if self.frames is None else self.first + self.frames}"


WHOLE = Span()

APART = Carry()
"""Nothing crosses."""


def shared(window: int, frames: int, shares: int) -> int:
    """Returns how many frames a window has where so many workers are to have one.

    Example:
        >>> shared(240, 300, 2), shared(240, 100, 4), shared(240, 3000, 4), shared(20, 100, 4)
        (150, 48, 240, 20)
    """
    return min(window, max(LEAST, -(-frames // shares))) if shares > 1 else window


def cut(index: "Index", window: int, run_up: int) -> tuple[Span, ...]:
    """Cuts a stream into windows.

    Args:
        index: of its frames.
        window: about how many frames each has; a last one of less than half as many is none.
        run_up: as in `Carry`.
    """
    count = len(index.times)
    starts = [0]
    while count - starts[-1] >= window * 1.5:
        due = starts[-1] + window
        reach = window // NEAR
        near = [at for at in range(due - reach, due + reach + 1) if at in index.keys]
        starts.append(min(near, key=lambda at: (abs(at - due), at), default=due))
    return tuple(
        _span(index, first, last, run_up)
        for first, last in zip(starts, [*starts[1:], count], strict=True)
    )


def _span(index: "Index", first: int, last: int, run_up: int) -> Span:
    times = index.times
    if not first:
        end = times[last] if last < len(times) else None
        return Span(0, last, end=end)
    # The frame before tells whether the place was found; at a frame that is decoded by itself
    # that would cost all frames from the one like it before.
    before = run_up or (0 if first in index.keys else 1)
    return Span(
        first,
        last - first,
        times[first],
        times[last] if last < len(times) else None,
        times[max(first - before, 0)],
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A window that is done."""

    file: Path
    """Its segment; what is said here stands beside it, as ``.json``."""

    key: str
    """What it was made of: `Surveyed.key` and the span."""

    times: tuple[Fraction, ...]
    duration: Fraction | None
    """Of the last frame, where the source states it."""

    last: str
    """`cbs_core.run.parts.digest` of the source's last frame."""

    before: str | None = None
    """Likewise of the frame before its first, where that was read."""

    state: bool = False
    """Whether the stream's state behind it is kept, in a file ``.state``."""

    settled: bool = False
    """Whether that state has all statistics of `Carry.settles`."""

    notes: tuple[str, ...] = ()
    """What source and sink could not keep."""

    @property
    def segment(self) -> Segment:
        """Returns it as a sink joins it."""
        return Segment(self.file, self.times, self.duration)

    def write(self) -> None:
        """Notes that the segment is whole.

        Raises:
            SinkError: it cannot be written.
        """
        kept = {
            "version": VERSION,
            "key": self.key,
            "times": [str(time) for time in self.times],
            "duration": None if self.duration is None else str(self.duration),
            "last": self.last,
            "before": self.before,
            "state": self.state,
            "settled": self.settled,
            "notes": list(self.notes),
        }
        text = json.dumps(kept).encode()
        files.replace(self.file.with_suffix(".json"), lambda file: file.write(text))

    @classmethod
    def read(cls, file: Path, key: str) -> Self | None:
        """Returns the part of a segment's path; None where there is none, or another's."""
        try:
            kept = json.loads(file.with_suffix(".json").read_bytes())
            if kept["version"] != VERSION or kept["key"] != key or not file.is_file():
                return None
            if kept["state"] and not file.with_suffix(STATE).is_file():
                return None
            return cls(
                file,
                key,
                tuple(map(Fraction, kept["times"])),
                None if kept["duration"] is None else Fraction(kept["duration"]),
                kept["last"],
                kept["before"],
                kept["state"],
                kept["settled"],
                tuple(kept["notes"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def fit(parts: Sequence[Part]) -> bool:
    """Tells whether parts follow each other: that seeking found the frames that decoding gives."""
    return all(
        after.before in (None, before.last) and after.times[0] > before.times[-1]
        for before, after in pairwise(parts)
    )
