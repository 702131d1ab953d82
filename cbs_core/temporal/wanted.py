"""What is wanted of a stream of frames, in the configuration's words: read without torch."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from cbs_core.contract.errors import ConfigError, closest

STEADY = ("off", "matte", "full")
"""What may be held from frame to frame."""

MOST_AHEAD = 30
"""Frames, at most, of ``lookahead``: each is kept in memory, and costs as much as a belief does."""

Wanted: TypeAlias = int | tuple[int, int]
"""The number of an object by size, from 1, the largest; or the x and y of a point in it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When statistics are taken anew."""

    every: int | None = None
    """Frames that show the style from one time to the next; None: not by number."""

    on_cut: bool = False
    """Whether at each scene cut."""


SCENE = Policy(on_cut=True)
"""Once a scene."""


def parse_every(spec: object) -> int:
    """Reads the ``segment_every`` value of the configuration.

    Raises:
        ConfigError: no whole number of 1 or more.

    Example:
        >>> parse_every(3)
        3
    """
    if not isinstance(spec, int) or isinstance(spec, bool) or spec < 1:
        raise ConfigError(f"segment_every={spec} is no whole number of 1 or more")
    return spec


def parse_select(spec: object) -> Wanted | None:
    """Reads the ``select`` value of the configuration.

    Args:
        spec: ``all`` or None; ``largest``; a number from 1; ``"x,y"`` or ``[x, y]`` in pixels.

    Returns:
        None for all objects.

    Raises:
        ConfigError: a value of another form.

    Example:
        >>> [parse_select(spec) for spec in ("largest", "2", "320,200", [320, 200], "all")]
        [1, 2, (320, 200), (320, 200), None]
    """
    text = "all" if spec is None else str(spec)
    if text == "all":
        return None
    if text == "largest":
        return 1
    if re.fullmatch(r"0*[1-9]\d{0,8}", text):
        return int(text)
    if point := re.fullmatch(r"\[?\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*\]?", text):
        return int(point[1]), int(point[2])
    raise ConfigError(
        f"select={text[:80]} is none of all, largest, an object's number by size from 1 (select=2) "
        "or the pixel x,y of a point in it (select=320,200)"
    )


def check_inside(wanted: Wanted | None, height: int, width: int) -> None:
    """Refuses a point that is not in a picture.

    Raises:
        ConfigError: with what would be.
    """
    if not isinstance(wanted, tuple):
        return
    x, y = wanted
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigError(
            f"select={x},{y} is outside the picture of {width}x{height}: give x in "
            f"0..{width - 1} and y in 0..{height - 1}"
        )


def parse_steady(spec: object) -> str | None:
    """Reads the ``steady`` value of the configuration; null is left to what the input is.

    Raises:
        ConfigError: none of `STEADY`.

    Example:
        >>> parse_steady("matte"), parse_steady(False), parse_steady(None)
        ('matte', 'off', None)
    """
    if spec is None:
        return None
    mode = "off" if spec is False else str(spec)  # YAML reads `off` as false
    if mode not in STEADY:
        raise ConfigError(f"steady={mode} is none of {', '.join(STEADY)}{closest(mode, STEADY)}")
    return mode


def parse_lookahead(spec: object, every: object = 1, mode: object = None) -> int:
    """Reads the ``lookahead`` value of the configuration.

    Args:
        spec: how many frames after each one are used.
        every: ``segment_every``,
        mode: and ``steady``, which it has to go with.

    Raises:
        ConfigError: no whole number from 0 to `MOST_AHEAD`, or what it does not go with.

    Example:
        >>> parse_lookahead(3)
        3
    """
    if not isinstance(spec, int) or isinstance(spec, bool) or not 0 <= spec <= MOST_AHEAD:
        raise ConfigError(f"lookahead={spec} is no whole number from 0 to {MOST_AHEAD}")
    if spec and every != 1:
        raise ConfigError(
            f"lookahead={spec} goes by what is seen in each frame, and segment_every={every} "
            "leaves frames out: say one of them"
        )
    if spec and mode in ("off", False):
        raise ConfigError(f"lookahead={spec} is for mattes that are held: leave out steady=off")
    return spec


def parse_statistics(spec: object) -> Policy | None:
    """Reads the ``styler.statistics`` value of the configuration.

    Args:
        spec: ``frame``, ``frozen``, ``scene`` or ``refresh:N``.

    Returns:
        None for each frame's own.

    Raises:
        ConfigError: a value of another form.

    Example:
        >>> parse_statistics("refresh:30"), parse_statistics("frame")
        (Policy(every=30, on_cut=True), None)
    """
    text = str(spec)
    if text == "frame":
        return None
    if text == "frozen":
        return Policy()
    if text == "scene":
        return SCENE
    if match := re.fullmatch(r"refresh:0*([1-9]\d{0,8})", text):
        return Policy(every=int(match[1]), on_cut=True)
    raise ConfigError(
        f"styler.statistics={text[:80]} is none of frame (each frame's own), frozen (the first "
        "frame's), scene (anew at scene cuts) or refresh:N (and every N frames, below 10^9)"
    )
