"""A feed written to a file, at the times at which frames and sound were captured.

It never holds the picture up: of frames that the encoder is too slow for, the newest are written.
"""

import shutil
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import torch

from cbs_core.choose import registry, streams
from cbs_core.contract.errors import CbsError, SinkError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.live.feed import Feed
from cbs_core.live.pictures import Shown
from cbs_core.run.channel import Channel, ClosedError
from cbs_core.run.hearing import Track
from cbs_core.run.workers import told
from cbs_core.run.writing import Writer

SUFFIX = ".mp4"

LONGEST = 3600.0
"""Seconds after which a recording ends by itself: a visitor may forget it."""

ROOM = 64 * 2**20
"""Bytes of the disk that stay free: a recording ends before, so that it can be closed."""

TICK = 90_000
"""Of a second, to which times are rounded."""


class Recording:
    """A file that grows.

    Args:
        feed: what is recorded.
        folder: where, as the owner said.

    Raises:
        SinkError: it cannot be written.
        CbsError: nothing has been shown yet.
    """

    def __init__(self, feed: Feed, folder: Path) -> None:
        shown = feed.shown
        if shown is None:
            raise CbsError("nothing is shown yet that could be recorded")
        if _nearly_full(folder):
            raise SinkError(f"the disk is nearly full: {ROOM >> 20} MB and more are due to record")
        self.path = _free(folder)
        self.feed = feed
        self.error: str | None = None
        """Why there is no file."""

        self.note = ""
        """Why it ended by itself."""

        self._first: float | None = None
        self._last = Fraction(-1)
        self._frames: Channel[RawFrame] = Channel(2, freshest=True)
        height, width = shown.restyled.shape[:2]
        self._sink = registry.sinks.create(streams.sink_for(str(self.path)), path=str(self.path))
        self._track = Track()
        info = StreamInfo(
            width,
            height,
            rate=Fraction(25),
            live=True,
            name=self.path.stem,
            sound=(lambda: self._track) if feed.sounding else None,
        )
        try:
            self._sink.open(info)
        except Exception as error:
            line = told(error, "sink", SinkError, self._sink)
            raise line from line.__cause__
        self._writer = Writer(
            self._sink,
            self._frames,
            name="cbs-recording",
            write=self._write,
            whole=lambda: True,
            failed=self._failed,
            closed=lambda: self._frames.close(discard=True),
        )
        self._writer.start()
        self._taps = feed.overhear(self._track.put), feed.tap(self._put)

    @property
    def frames(self) -> int:
        """How many are written."""
        return self._writer.written

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(0.0, float(self._last))

    @property
    def over(self) -> bool:
        """Whether the file is closed."""
        return self._writer.over

    def close(self) -> None:
        """Ends it and waits for the file."""
        self._untap()
        self._frames.close()
        self._writer.wait()
        if self._writer.kept and self.error is not None:
            self.note, self.error = self.error, None
        if not self.frames and self.error is None:
            self.error = "no frame came while it was recorded, so that there is no file"

    def _untap(self) -> None:
        for end in self._taps:
            end()

    def _put(self, shown: Shown) -> None:
        if self._first is None:
            self._first = self._track.zero = shown.captured
        pts = Fraction(round((shown.captured - self._first) * TICK), TICK)
        if pts <= self._last:
            return
        if pts > LONGEST:
            self._end("an hour is the most")
            return
        if int(pts) > int(self._last) and _nearly_full(self.path.parent):
            self._end("the disk is nearly full")
            return
        self._last = pts
        try:
            self._frames.put(RawFrame(torch.from_numpy(shown.restyled), shown.index, pts))
        except ClosedError:
            self._untap()

    def _end(self, why: str) -> None:
        self.note = why
        self._untap()
        self._frames.close()

    def _write(self, frame: RawFrame) -> bool:
        self._sink.write(frame)
        return True

    def _failed(self, error: BaseException) -> None:
        # Visitors read it, and need not know where the owner's files are.
        self.error = str(error).replace(str(self.path), self.path.name)
        self._frames.close(discard=True)


def _nearly_full(folder: Path) -> bool:
    """Tells whether there is little room where a folder is, or will be."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free < ROOM


def _free(folder: Path) -> Path:
    """Returns a name for a new file, which tells when it was made."""
    stem = datetime.now().strftime("cbs-%Y%m%d-%H%M%S")
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    paths = (folder / f"{name}{SUFFIX}" for name in names)
    return next(path for path in paths if not path.exists())
