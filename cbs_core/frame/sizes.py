"""At what size a frame is segmented, and at what it is styled: read without torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cbs_core.contract.errors import ConfigError

NEAR = 0.8
"""Share of a frame's sides from which on it is taken as it is: nothing is won then."""

STEP = 32
"""Pixels: what is made smaller has sides of multiples of it, which nets take as they are, and
frames of nearly one shape have one size in common."""


@dataclass(frozen=True, slots=True)
class Fit:
    """No larger than what a net is good at.

    A person of 1500 pixels is none that a segmenter has seen, and strokes are lost in one.
    """

    height: int
    width: int
    """Pixels of a picture that it is good at; their product counts, whatever the frame's shape."""

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the picture that is made of a frame ``(H, W)``.

        Example:
            >>> Fit(384, 512)(853, 1280), Fit(384, 512)(512, 512)
            ((352, 544), (512, 512))
        """
        share = math.sqrt(self.height * self.width / (height * width))
        if share >= NEAR:
            return height, width
        rows, columns = (max(1, round(side * share / STEP)) * STEP for side in (height, width))
        return min(rows, height), min(columns, width)


Scale: TypeAlias = float | tuple[int, int] | Fit | None
"""Of the picture that is segmented, or styled: a share of the frame's sides, (h, w), as large as
the net is good at, or as the frame is."""

Auto: TypeAlias = Literal["auto"]
"""As large as the plugin says that it is good at, where it says so."""


def parse_size(spec: object, key: str = "segment_size") -> Scale | Auto:
    """Reads the ``segment_size`` or ``style_size`` value of the configuration.

    Args:
        spec: ``[h, w]`` in pixels, a share of the frame's sides in (0, 1], ``auto``, or None.
        key: which, for the error.

    Raises:
        ConfigError: a value of another form.

    Example:
        >>> parse_size([256, 512]), parse_size(0.5), parse_size(None)
        ((256, 512), 0.5, None)
    """
    if spec is None or spec == "auto":
        return spec
    if isinstance(spec, int | float) and not isinstance(spec, bool) and 0 < spec <= 1:
        return float(spec)
    if isinstance(spec, Sequence) and not isinstance(spec, str) and len(spec) == 2:
        height, width = spec
        if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
            return height, width
    raise ConfigError(
        f"{key}={spec} is neither a height and a width in pixels, {key}=[256,512], nor a share of "
        f"the frame's sides in 0..1, {key}=0.5, nor auto"
    )


def size_of(scale: Scale, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of the picture that is made of a frame ``(H, W)``."""
    if isinstance(scale, float):
        return max(1, round(height * scale)), max(1, round(width * scale))
    if isinstance(scale, Fit):
        return scale(height, width)
    return scale or (height, width)
