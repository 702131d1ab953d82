"""How a frame's classes are wanted, in the configuration's words: read without torch."""

from dataclasses import dataclass

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.temporal.wanted import SCENE, Policy, parse_statistics

MATTES = ("argmax", "soft")
"""How a route's matte is taken from the scores (`cbs_core.frame.mattes.Regions`)."""

WHERE = ("frame", "mask")


@dataclass(frozen=True, slots=True)
class Extent:
    """``styler.where`` and ``styler.statistics`` of the configuration."""

    masked: bool
    """Whether only windows around the mattes are restyled."""

    policy: Policy | None
    """When statistics are taken anew; None: they are each frame's own."""

    said: bool = False
    """Whether that was chosen."""


WHOLE = Extent(masked=False, policy=None)
"""Each frame whole, by its own statistics: what a styler is without any of this."""


def parse_matte(spec: object) -> str:
    """Reads the ``matte`` value of the configuration.

    Raises:
        ConfigError: none of `MATTES`.
    """
    mode = str(spec)
    if mode not in MATTES:
        raise ConfigError(
            f"no matte '{mode}'{closest(mode, MATTES)} (there are: {', '.join(MATTES)})"
        )
    return mode


def parse_confidence(spec: object) -> float:
    """Reads the ``confidence`` value of the configuration.

    Raises:
        ConfigError: no number between 0 and 1.

    Example:
        >>> parse_confidence(0.8)
        0.8
    """
    if isinstance(spec, int | float) and not isinstance(spec, bool) and 0 < spec < 1:
        return float(spec)
    raise ConfigError(
        f"confidence={spec} is no number between 0 and 1: 0.5 takes a pixel for what it most "
        "likely is, 0.9 restyles only what is sure"
    )


def parse_extent(where: object, spec: object) -> Extent:
    """Reads ``styler.where`` and ``styler.statistics``; null is ``frame``, and then what fits.

    Raises:
        ConfigError: an unknown value, or two that do not go together.
    """
    text = "frame" if where is None else str(where)
    if text not in WHERE:
        raise ConfigError(
            f"styler.where={text} is neither frame nor mask{closest(text, WHERE)}: mask restyles "
            "only where the classes are"
        )
    masked = text == "mask"
    policy = parse_statistics(("scene" if masked else "frame") if spec is None else spec)
    if masked and policy is None:
        raise ConfigError(
            "styler.statistics=frame takes the whole picture each frame, so that "
            "styler.where=mask would save nothing: say styler.statistics=scene, refresh:N or frozen"
        )
    return Extent(masked, policy, said=spec is not None)


def lasting(extent: Extent) -> Extent:
    """Returns it for strokes that are held: by statistics that last, unless others were chosen.

    Only a `RegionStyler` can do so.
    """
    return extent if extent.said else Extent(extent.masked, extent.policy or SCENE)
