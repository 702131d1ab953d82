"""The part of a video between two places, and times as files write them."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from cbs_core.contract import places
from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.contract.places import Place


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
    try:
        return places.parse(f"source.{key}", value)
    except ConfigError as error:
        raise SourceError(str(error)) from error


def seconds_of_tag(clock: str) -> Fraction:
    """Returns the seconds of a Matroska ``HH:MM:SS.nnn`` tag, 0 where it is none."""
    try:
        hours, minutes, seconds = clock.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)
