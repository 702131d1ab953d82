"""Places in a stream as people write them: a time or the number of a frame."""

import re
from dataclasses import dataclass
from fractions import Fraction

from cbs_core.contract.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """A time or a frame; neither is no bound."""

    text: str
    """As it was given."""

    seconds: Fraction | None = None
    frame: int | None = None
    """Counted from 0."""

    def reached(self, index: int, time: Fraction) -> bool:
        """Whether frame ``index``, at ``time`` seconds, is this place or lies behind it."""
        if self.frame is not None:
            return index >= self.frame
        return self.seconds is not None and time >= self.seconds

    def __str__(self) -> str:
        return self.text


def parse(key: str, value: object) -> Place:
    """Reads a place; None is no bound.

    Args:
        key: names it in errors.
        value: seconds, ``HH:MM:SS.mmm``, ``MM:SS``, or a frame, ``240f``.

    Raises:
        ConfigError: it is none of these.

    Example:
        >>> parse("preview", "00:01:05.5").seconds, parse("preview", "240f").frame
        (Fraction(131, 2), 240)
    """
    if value is None:
        return Place("null")
    text = str(value).strip()
    if match := re.fullmatch(r"([0-9]{1,15})f", text):
        return Place(text, frame=int(match[1]))
    if match := re.fullmatch(
        r"(?:(?:([0-9]{1,9}):)?([0-9]{1,2}):)?([0-9]{1,15}(?:\.[0-9]{0,18})?)", text
    ):
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        # 00:99 is a slip: of a minute and 39 seconds, of 59, who knows.
        if (match[2] is None or seconds < 60) and (match[1] is None or minutes < 60):
            return Place(text, hours * 3600 + minutes * 60 + seconds)
    raise ConfigError(
        f"{key}={text[:80]} is no place in a video: give seconds (65.5), a time (00:01:05.5) or "
        "a frame (1638f)"
    )
