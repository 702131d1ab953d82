"""The owner's outputs: the live picture sent on to a virtual camera, a broadcast, a file.

They are given the newest frame, at the time at which it was captured, and the source's sound beside
it, and never hold the picture up. All keep the size that the first frame had, whatever size is
chosen later.
"""

import logging
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import CbsError, SinkClosedError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.live.feed import Feed
from cbs_core.live.pictures import Shown
from cbs_core.run import sinks
from cbs_core.run.channel import Channel, ClosedError
from cbs_core.run.hearing import Hearing
from cbs_core.run.outputs import Outputs
from cbs_core.run.settings import Look, Settings
from cbs_core.run.workers import Worker

TICK = 90_000
"""Of a second, to which times are rounded."""

log = logging.getLogger("cbs")


class Sending:
    """What a feed shows, written to sinks that stay open as long as the studio is.

    Args:
        feed: whose frames.
        outputs: the sinks, each with its ``path``.
        info: of the frames.
        look: the owner's.
        folder: where a file goes that has no place of its own.
        sounds: whether there is sound beside them.

    Raises:
        CbsError: a sink cannot be had or opened, or would write over something.
    """

    def __init__(
        self,
        feed: Feed,
        outputs: tuple[Choice, ...],
        info: StreamInfo,
        look: Look,
        folder: Path,
        *,
        sounds: bool = False,
    ) -> None:
        nothing = Choice("")
        settings = Settings(look, nothing, nothing, nothing, outputs=outputs)
        sink, _, _ = sinks.built(settings, info, folder)
        assert isinstance(sink, Outputs)
        self._outputs = sink
        self._hearing = Hearing()
        self._size = info.height, info.width
        self._first: float | None = None
        self._last = Fraction(-1)
        self.frames = 0
        """How many were handed on."""

        self._outputs.open(replace(info, sound=self._hearing) if sounds else info)
        # A file that is slow holds up who writes to it, and that is not to be the picture.
        self._frames: Channel[RawFrame] = Channel(2, freshest=True)
        self._worker = Worker(self._work, "cbs-sending")
        self._worker.start()
        self._ends = [feed.overhear(self._hearing.put), feed.tap(self._put)]

    def close(self) -> None:
        """Closes all."""
        for end in self._ends:
            end()
        self._frames.close()
        self._worker.wait()
        try:
            self._outputs.close()
        except CbsError as error:
            log.warning("%s", error)

    def _put(self, shown: Shown) -> None:
        """Hands a frame on, in the thread that made it."""
        if self._first is None:
            self._first = shown.captured
        pts = Fraction(round((shown.captured - self._first) * TICK), TICK)
        if pts <= self._last:
            return
        self._last = pts
        self._hearing.at(shown.captured, pts)
        pixels = _sized(torch.from_numpy(shown.restyled), self._size)
        with suppress(ClosedError):
            self._frames.put(RawFrame(pixels, shown.index, pts, captured=shown.captured))

    def _work(self) -> None:
        """Writes, until all is over."""
        try:
            for frame in self._frames:
                self._outputs.write(frame)
                self.frames += 1
        except SinkClosedError:
            log.info("the outputs are closed; the studio goes on without them")
        except CbsError as error:
            log.warning("%s; the studio goes on without it", error)
        finally:
            self._frames.close(discard=True)


def _sized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns uint8 ``(H,W,3)`` of another height and width."""
    if tuple(pixels.shape[:2]) == size:
        return pixels
    image = pixels.permute(2, 0, 1)[None]
    return F.interpolate(image, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
