"""What a screen shows, by mss (extra ``[screen]``)."""

import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor

from cbs_core.contract.errors import SourceError, SourceLostError
from cbs_core.contract.types import RawFrame, StreamInfo

INSTALL = "pip install 'class-based-styling[screen]'"


class ScreenSource:
    """Gives pictures of a monitor or of a part of it, as they are when they are asked for.

    Args:
        path: the monitor's number from 1, as ``cbs-doctor`` lists them; None or empty: the first.
        region: ``X,Y,WIDTH,HEIGHT`` in pixels of that monitor; None: all of it.
        rate: pictures a second, at the most.

    Raises:
        SourceError: no such monitor or region, or there is no screen.
        SourceLostError: the screen cannot be read any more.
    """

    info: StreamInfo

    def __init__(
        self, path: str | int | None = None, region: str | None = None, rate: float = 30
    ) -> None:
        word = "" if path is None else str(path)
        word = "" if word == "screen" else word
        if word and not (word.isdecimal() and int(word) > 0):
            raise SourceError(f"'{word}' is no monitor: say its number, screen:1")
        if region is not None and not re.fullmatch(r"\d+,\d+,[1-9]\d*,[1-9]\d*", str(region)):
            raise SourceError(f"source.region={region} is no X,Y,WIDTH,HEIGHT")
        if not 0 < rate <= 1000:
            raise SourceError(f"source.rate={rate:g} is outside 0..1000 pictures a second")
        self.monitor = int(word or 1)
        self.region = None if region is None else [int(part) for part in str(region).split(",")]
        self.rate = rate
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        """Takes a first picture, which tells the size."""
        try:
            with _mss() as screen:
                self._box = self._chosen(screen.monitors)
                height, width = _grab(screen, self._box).shape[:2]
        except SourceError:
            raise
        except Exception as error:  # each system's part raises its own
            raise SourceError(
                f"the screen cannot be read ({' '.join(str(error).split())}): run it where there "
                "is a screen (Linux: an X11 session, with DISPLAY set), and allow this program to "
                "record the screen"
            ) from error
        rate = Fraction(self.rate).limit_denominator(1001)
        self.info = StreamInfo(width, height, rate=rate, live=True, name="screen")
        return self

    def _chosen(self, monitors: list[dict[str, int]]) -> dict[str, int]:
        # The first entry is all of them together.
        if self.monitor >= len(monitors):
            raise SourceError(f"no monitor {self.monitor}: there are {len(monitors) - 1}")
        box = monitors[self.monitor]
        if self.region is None:
            return box
        left, top, width, height = self.region
        if left + width > box["width"] or top + height > box["height"]:
            raise SourceError(
                f"source.region is not inside of monitor {self.monitor}, which has "
                f"{box['width']}x{box['height']} pixels"
            )
        return {
            "left": box["left"] + left,
            "top": box["top"] + top,
            "width": width,
            "height": height,
        }

    def __exit__(self, *exc: object) -> None:
        """Nothing is open between pictures."""

    def stop(self) -> None:
        """Ends the wait for the next picture."""
        self._stopped.set()

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields pictures, ``rate`` a second."""
        index, begun = 0, time.monotonic()
        due = begun
        with _mss() as screen:  # it belongs to the thread that made it
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                captured = time.monotonic()
                due = max(due + 1 / self.rate, captured)
                try:
                    pixels = _grab(screen, self._box)
                except Exception as error:
                    line = " ".join(str(error).split())
                    raise SourceLostError(f"the screen cannot be read any more: {line}") from error
                pts = Fraction(captured - begun).limit_denominator(1_000_000)
                yield RawFrame(pixels, index, pts, captured=captured)
                index += 1


def _mss() -> Any:
    try:
        import mss
    except ImportError as error:
        raise SourceError(f"screens are read by mss, which is not installed: {INSTALL}") from error
    return mss.MSS()


def _grab(screen: Any, box: dict[str, int]) -> Tensor:
    """Returns uint8 ``(H,W,3)``, RGB."""
    shot = screen.grab(box)
    bgra = torch.frombuffer(bytearray(shot.raw), dtype=torch.uint8)
    return bgra.view(shot.height, shot.width, 4)[..., [2, 1, 0]].contiguous()
