"""Places in a video as people write them: a time or the number of a frame."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from cbs_core.contract.errors import SourceError


@dataclass(frozen=True, slots=True)
class Place:
    """A time or a frame; neither is no bound."""

    text: str
    """As it was given."""

    seconds: Fraction | None = None
    frame: int | None = None

    def reached(self, index: int, time: Fraction) -> bool:
        """Whether frame ``index``, at ``time`` seconds, is this place or lies behind it."""
        if self.frame is not None:
            return index >= self.frame
        return self.seconds is not None and time >= self.seconds

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Span:
    """From a place, with it, to another, without it."""

    start: Place
    end: Place

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.starts_early and self.end == Place("null")

    @property
    def starts_early(self) -> bool:
        """Whether nothing is cut away at the start."""
        return not self.start.seconds and not self.start.frame

    @classmethod
    def read(cls, start: float | str | None, end: float | str | None) -> Self:
        """Reads both ends.

        Raises:
            SourceError: one is neither a time nor a frame, or the end is not behind the start.
        """
        first, last = _place("start", start), _place("end", end)
        if start is None:
            first = Place("0", Fraction(0))
        for a, b in ((first.seconds, last.seconds), (first.frame, last.frame)):
            if a is not None and b is not None and b <= a:
                raise SourceError(
                    f"source.end={last} is not behind source.start={first}: choose a later one"
                )
        return cls(first, last)


def _place(key: str, value: float | str | None) -> Place:
    if value is None:
        return Place("null")
    text = str(value).strip()
    if match := re.fullmatch(r"([0-9]+)f", text):
        return Place(text, frame=int(match[1]))
    if match := re.fullmatch(r"(?:(?:([0-9]+):)?([0-9]{1,2}):)?([0-9]+(?:\.[0-9]*)?)", text):
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return Place(text, hours * 3600 + minutes * 60 + seconds)
    raise SourceError(
        f"source.{key}={text} is no place in a video: give seconds (65.5), a time (00:01:05.5) or "
        "a frame (1638f)"
    )


def seconds_of_tag(clock: str) -> Fraction:
    """Returns the seconds of a Matroska ``HH:MM:SS.nnn`` tag, 0 where it is none."""
    try:
        hours, minutes, seconds = clock.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)
