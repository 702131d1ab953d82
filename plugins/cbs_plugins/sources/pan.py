"""A still becomes a clip whose motion is known exactly."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import input_file
from cbs_plugins.formats.pictures import frame_rate, picture_size, read_picture
from cbs_plugins.sources.sample import sample_file

MAX_SPEED = 4
"""Pixels a frame, along each axis, that the default period keeps to."""

_CORNERS = ((0, 0), (1, 1), (1, 0), (0, 1))


class PanSource:
    """Moves a window over a still by whole pixels: nothing is resampled, so the flow is exact.

    The window eases from corner to corner, along both diagonals and up both sides, and is back
    after a period. It shows all of the still where it is at least half as wide and as high.

    Args:
        path: a picture file or ``sample:NAME``, either also behind ``pan:``; none means the
            astronaut.
        frames: how many.
        rate: frames a second; also ``30000/1001``.
        width: of the window in pixels; none means 3/4 of the still's, made even.
        height: likewise.
        period: frames until the path repeats; none means the shortest that moves by at most
            `MAX_SPEED` pixels a frame along each axis.

    Raises:
        SourceError: where there is no such still; from `__enter__`, where it cannot be read or the
            window does not fit into it.
    """

    info: StreamInfo

    def __init__(
        self,
        path: str | None = None,
        frames: int = 100,
        rate: float | str = 25,
        width: int | None = None,
        height: int | None = None,
        period: int | None = None,
    ) -> None:
        for name, value in (
            ("frames", frames),
            ("width", width),
            ("height", height),
            ("period", period),
        ):
            if value is not None and value < 1:
                raise SourceError(f"{name}={value} of source=pan must be at least 1")
        self.path = path
        name = (path or "").removeprefix("pan:")
        self._still: Path = (
            sample_file(name) if not name or name.startswith("sample:") else input_file(name)
        )
        self.frames = frames
        self.rate = frame_rate(rate)
        self.width = width
        self.height = height
        self.period = period

    def __enter__(self) -> Self:
        """Reads the still's header and lays out the path."""
        still = picture_size(self._still)
        width, height = (
            wanted or max(side * 3 // 4 // 2 * 2, 1)
            for wanted, side in zip((self.width, self.height), still, strict=True)
        )
        if width > still[0] or height > still[1]:
            raise SourceError(
                f"a window of {width}x{height} does not fit into the still of "
                f"{still[0]}x{still[1]}: choose a smaller source.width and source.height"
            )
        self._room = (still[0] - width, still[1] - height)
        # The easing's greatest slope is pi/2; rounding may add one pixel to a step.
        slowest = 4 * math.ceil(math.pi / 2 * max(self._room) / (MAX_SPEED - 1))
        self._period = self.period = self.period or max(slowest, 1)
        self.info = StreamInfo(
            width, height, rate=self.rate, frames=self.frames, name=f"{self._still.stem}_pan"
        )
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing: the still is only open while it is read."""

    def offset(self, index: int) -> tuple[int, int]:
        """Returns x and y, in pixels of the still, of the window's top left corner.

        A point at ``p`` of frame ``i`` is at ``p + offset(i) - offset(j)`` of frame ``j``.
        """
        leg, along = divmod(4 * (index % self._period) / self._period, 1)
        ease = (1 - math.cos(math.pi * along)) / 2
        start, end = _CORNERS[int(leg)], _CORNERS[(int(leg) + 1) % 4]
        x, y = (
            round(room * (a + (b - a) * ease))
            for room, a, b in zip(self._room, start, end, strict=True)
        )
        return x, y

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the windows."""
        pixels, alpha = read_picture(self._still)
        for index in range(self.frames):
            x, y = self.offset(index)
            window = (slice(y, y + self.info.height), slice(x, x + self.info.width))
            yield RawFrame(
                pixels[window].contiguous(),
                index,
                index / self.rate,
                None if alpha is None else alpha[window].contiguous(),
            )
