"""The sound of a live source, laid beside its frames by the time at which both were captured.

A restyled frame is done later than its sound is heard, by the picture's own latency; the sound
waits here until the frame that it belongs to is written.
"""

from collections import deque
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cbs_core.contract.live import SOUND_RATE, Heard

KEPT = 4096
"""Pieces that wait, a minute and more; before the oldest of them is lost."""

SLIP = SOUND_RATE // 50
"""Samples, of 20 ms, by which a piece may be off its place: it is joined to the one before."""

MOST = 10 * SOUND_RATE
"""Samples that are given at once: where a source was away for an hour, that is silence."""

GRACE = 1
"""Seconds that sound may come later than its picture, before there is silence in its place."""


class Track:
    """Sound without gaps, from the first frame on (`cbs_core.contract.live.Sound`)."""

    def __init__(self) -> None:
        self.zero: float | None = None
        """When the first frame was captured, as far as is known."""

        self._waiting: deque[Heard] = deque(maxlen=KEPT)
        self._placed: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._end = 0
        self._given = 0

    def put(self, piece: Heard) -> None:
        """Takes a piece, from whichever thread hears it."""
        self._waiting.append(piece)

    def until(self, seconds: Fraction, /) -> NDArray[np.float32]:
        """Returns what comes next, ``(2,n)``, at the most up to ``seconds`` behind the start."""
        self._place()
        wanted = int(seconds * SOUND_RATE)
        there = max(self._end, wanted - GRACE * SOUND_RATE)
        stop = max(min(wanted, there, self._given + MOST), self._given)
        found = np.zeros((2, stop - self._given), np.float32)
        while self._placed and self._placed[0][0] < stop:
            at, samples = self._placed.popleft()
            first, last = max(at, self._given), min(at + samples.shape[1], stop)
            if first < last:
                found[:, first - self._given : last - self._given] = samples[
                    :, first - at : last - at
                ]
            if last < at + samples.shape[1]:
                self._placed.appendleft((last, samples[:, last - at :]))
        self._given = stop
        return found

    def _place(self) -> None:
        """Gives what waits its place in samples behind the start."""
        if self.zero is None:
            return
        while self._waiting:
            piece = self._waiting.popleft()
            at = round((piece.captured - self.zero) * SOUND_RATE)
            if abs(at - self._end) <= SLIP:
                at = self._end
            samples = piece.samples[:, max(self._end - at, 0) :]
            if samples.shape[1]:
                at = max(at, self._end)
                self._placed.append((at, samples))
                self._end = at + samples.shape[1]


class Hearing:
    """What each sink is given to hear (`cbs_core.contract.types.StreamInfo.sound`)."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._first: Fraction | float | None = None

    def __call__(self) -> Track:
        """Returns a sink's own."""
        track = Track()
        self._tracks.append(track)
        return track

    def put(self, piece: Heard) -> None:
        """Takes a piece, from whichever thread hears it."""
        for track in self._tracks:
            track.put(piece)

    def at(self, captured: float, pts: Fraction | float) -> None:
        """Notes when a frame was captured that the sinks are given; called for each.

        A stream's first seconds tell ever better how late it is, and so when that was.
        """
        self._first = pts if self._first is None else self._first
        for track in self._tracks:
            track.zero = captured - float(pts - self._first)
