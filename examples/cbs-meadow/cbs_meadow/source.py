"""A clip that is drawn: a balloon flies over hills."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import torch

from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_meadow.scenes import scene


class Hills:
    """Gives a landscape over which a balloon flies once.

    Args:
        path: which landscape, a whole number: ``input=hills:7``.
        frames: how many.
        width: pixels.
        height: pixels.
        rate: frames a second.

    Raises:
        SourceError: ``path`` is no whole number.
        ValueError: a number is not positive.
    """

    def __init__(
        self,
        path: str | None = None,
        frames: int = 50,
        width: int = 320,
        height: int = 192,
        rate: int = 25,
    ) -> None:
        if not (path or "0").isdecimal():
            raise SourceError(f"no landscape '{path}': say input=hills:7, or another whole number")
        if frames < 1:
            raise ValueError(f"frames={frames} must be at least 1")
        self.seed = int(path or 0)
        self.info = StreamInfo(width, height, rate=Fraction(rate), frames=frames, name="hills")

    def __enter__(self) -> Self:
        """Opens nothing: all is drawn."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes nothing."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames."""
        count = self.info.frames or 1
        for index in range(count):
            picture, _ = scene(self.seed, self.info.height, self.info.width, index / count)
            yield RawFrame(torch.from_numpy(picture), index, index / self.info.rate)
