"""Frames as they come, from a device or a server: read in a thread of their own, the newest held.

FFmpeg cannot be called back from a wait: a read of a camera that stalls, or of a server that is
silent, returns when it likes. So whoever wants a frame waits here instead, and may be stopped at
once, and the thread that reads opens anew what was lost and closes what it opened.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Self

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from cbs_core.contract.errors import SourceError, SourceLostError
from cbs_core.contract.live import Heard
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.run.channel import Channel, ClosedError
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.hearing import Hearing, Lateness
from cbs_plugins.formats.media import CONVERSION

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before one and the next attempt to open again what was lost; the last for all others."""

GLANCE = 0.1
"""Seconds that a wait lasts in one piece, so that Ctrl-C is heard."""

POLL = 0.002
"""Seconds after which a device that has no frame yet is asked again."""

LEAVE = 0.25
"""Seconds that `Feed.close` waits for the thread; a read that still waits is left to itself."""

NONBLOCK = "4"
"""FFmpeg's ``AVFMT_FLAG_NONBLOCK``, which has no name among the values of ``fflags``."""

DRIFT = 2.0
"""Seconds by which a stream's own clock may differ from ours before it is set anew."""

log = logging.getLogger("cbs")


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded frame, not yet converted."""

    frame: VideoFrame
    stamp: Fraction | None
    """Its time on the stream's own clock, seconds."""

    captured: float
    """When it was captured, by `time.monotonic`, as far as that is known."""


class _Clock:
    """Turns a stream's own times into seconds from the first frame, strictly growing.

    Where they leap, as after a lost connection, they are set by the time of capture.
    """

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._begun: float | None = None
        self._zero: Fraction | None = None
        self._last = Fraction(-1)

    def __call__(self, shot: Shot) -> Fraction:
        if self._begun is None:
            self._begun = shot.captured
        ours = Fraction(shot.captured - self._begun).limit_denominator(1_000_000)
        time_ = ours
        if shot.stamp is not None:
            if self._zero is None or abs(float(shot.stamp - self._zero - ours)) > self._drift:
                self._zero = shot.stamp - ours
            time_ = shot.stamp - self._zero
        self._last = max(time_, self._last + Fraction(1, 1000))
        return self._last


class Feed:
    """The newest frame of a container that is opened again where it is lost.

    A film, whose length is known, gives every frame, and is not opened again.

    Args:
        connect: opens the container; called in the feed's thread, and again after a loss.
        name: in messages, ``camera 'Desk'``.
        patience_s: seconds without a frame after which it counts as lost.
        reconnect: whether to open it again then.
    """

    def __init__(
        self,
        connect: Callable[[], InputContainer],
        name: str,
        *,
        patience_s: float = 5.0,
        reconnect: bool = True,
    ) -> None:
        self._connect = connect
        self.name = name
        self._patience = patience_s
        self._reconnect = reconnect
        self._stopped = threading.Event()
        self._opened: SimpleQueue[None] = SimpleQueue()
        self._frames: Channel[Shot] | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="cbs-feed", daemon=True)
        self._rgb = VideoReformatter()
        self.listeners: list[Callable[[Heard], object]] = []
        """Who is given the sound of what is no film."""

        self.film = False
        """Whether it has an end."""

        self.sounds = False
        """Whether there is sound that can be heard."""

        self.rate = Fraction(30)
        """Frames a second, as the container says."""

        self.codec = ""

    @property
    def dropped(self) -> int:
        """Frames in whose place a newer one came before anybody took them."""
        return self._frames.dropped if self._frames is not None else 0

    def start(self) -> Shot:
        """Opens it and returns the first frame.

        Raises:
            SourceError: it cannot be opened, or gives no frame.
        """
        self._thread.start()
        while not self._stopped.is_set():
            with suppress(Empty):
                self._opened.get(timeout=GLANCE)
                break
        for shot in self.shots():
            return shot
        raise SourceError(f"{self.name} gave no frame: see whether it is on")

    def shots(self) -> Iterator[Shot]:
        """Yields frames, waiting for each, until the stream ends or is stopped.

        Raises:
            SourceError: it was lost, and is not opened again.
        """
        while self._frames is not None and not self._stopped.is_set():
            try:
                yield self._frames.get(GLANCE)
            except TimeoutError:
                continue
            except ClosedError:
                break
        if self._error is not None and not self._stopped.is_set():
            raise self._error

    def stop(self) -> None:
        """Ends all waits; returns at once."""
        self._stopped.set()
        if self._frames is not None:
            self._frames.close(discard=True)

    def close(self) -> None:
        """Stops, and waits a little for the thread."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(LEAVE)

    def picture(self, shot: Shot) -> Tensor:
        """Returns uint8 ``(H,W,3)``, RGB."""
        rgb = self._rgb.reformat(shot.frame, format="rgb24", interpolation=CONVERSION)
        return torch.from_numpy(rgb.to_ndarray())

    def _work(self) -> None:
        try:
            self._go_on()
        except ClosedError:
            return
        except Exception as error:
            self._error = error
        finally:
            if self._frames is not None:
                self._frames.close()
            self._opened.put(None)

    def _go_on(self) -> None:
        attempt, lost = 0, 0.0
        while not self._stopped.is_set():
            told: Exception
            try:
                with self._connect() as container:
                    for shot in self._decoded(container):
                        if attempt:
                            log.warning("%s is back after %.1f s", self.name, shot.captured - lost)
                            attempt = 0
                        self._put(shot)
                    if self._stopped.is_set() or self.film:
                        return
                told = SourceLostError(f"{self.name} ended")
            except SourceError as error:
                told = error
            except av.ExitError:  # what its own timeout raises
                told = self._silent()
            except (av.FFmpegError, OSError) as error:
                told = SourceLostError(f"{self.name} is lost: {reason(error)}")
            if self._stopped.is_set():
                return
            if self._frames is None or self.film or not self._reconnect:
                raise told
            if not attempt:
                lost = time.monotonic()
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            log.warning("%s; trying again in %g s", told, pause)
            attempt += 1
            self._stopped.wait(pause)

    def _silent(self) -> SourceLostError:
        return SourceLostError(f"{self.name} gave no frame for {self._patience:g} s")

    def _put(self, shot: Shot) -> None:
        if self._frames is None:
            self._frames = Channel(1, freshest=not self.film)
            self._opened.put(None)
            if self._stopped.is_set():  # before there was what it closes
                return
        self._frames.put(shot)

    def _decoded(self, container: InputContainer) -> Iterator[Shot]:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None or stream.codec_context is None:
            raise SourceError(f"{self.name} gives no pictures that this PyAV can decode")
        # Frame threads hold frames back.
        stream.thread_type = "SLICE"
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 30)
        self.codec = stream.codec_context.name
        self.film = container.duration is not None
        tick = Fraction(stream.time_base or Fraction(1, 90_000))
        late = Lateness()
        hearing = Hearing(container, late, self.listeners)
        self.sounds = not self.film and hearing.stream is not None
        read = [stream] if self.film or hearing.stream is None else [stream, hearing.stream]
        last = time.monotonic()
        while not self._stopped.is_set():
            try:
                for packet in container.demux(*read):
                    if packet.stream is not stream and len(read) > 1:
                        hearing(packet)
                        if self._stopped.is_set():
                            return
                        if time.monotonic() - last > self._patience:
                            raise self._silent()
                        continue
                    last = time.monotonic()
                    try:
                        frames = stream.codec_context.decode(packet if packet.size else None)
                    except av.InvalidDataError:  # a stream is often joined between two key frames
                        frames = []
                    for frame in frames:
                        yield _shot(frame, tick, last, late if len(read) > 1 else None)
                    if self._stopped.is_set():
                        return
                return
            except BlockingIOError:
                if time.monotonic() - last > self._patience:
                    raise self._silent() from None
                self._stopped.wait(POLL)


def _shot(frame: VideoFrame, tick: Fraction, now: float, late: Lateness | None) -> Shot:
    """Returns a frame that came ``now``; where sound comes beside it, ``late`` tells how late."""
    stamp = None if frame.pts is None else frame.pts * Fraction(frame.time_base or tick)
    if stamp is not None and late is not None:
        return Shot(frame, stamp, late(stamp, now))
    # Cameras are often stamped by the clock that `time.monotonic` reads.
    known = stamp is not None and 0 <= now - float(stamp) < 1
    return Shot(frame, stamp, float(stamp) if known and stamp is not None else now)


class FeedSource:
    """A live source over a `Feed`; what is opened, and how, is told by those that derive from it.

    It gives the newest frame, with its time of capture, and never holds more than one.
    """

    info: StreamInfo

    def __init__(self) -> None:
        self._feed: Feed | None = None

    @property
    def dropped(self) -> int:
        """Frames in whose place a newer one came before they were asked for."""
        return self._feed.dropped if self._feed else 0

    def feed(self) -> Feed:
        """Returns what frames come from, not yet started."""
        raise NotImplementedError

    def remarks(self, width: int, height: int) -> tuple[str, ...]:
        """Returns what is to be told of what was opened, a line each."""
        return ()

    def __enter__(self) -> Self:
        """Opens it and waits for the first frame, which tells the size.

        Raises:
            SourceError: it cannot be opened.
        """
        self._feed = self.feed()
        try:
            self._first = self._feed.start()
        except BaseException:
            self._feed.close()
            raise
        frame = self._first.frame
        self.info = StreamInfo(
            frame.width,
            frame.height,
            rate=self._feed.rate,
            live=not self._feed.film,
            name=_file_name(self._feed.name.partition("'")[2].rstrip("'")),
            notes=self.remarks(frame.width, frame.height),
        )
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes it."""
        if self._feed is not None:
            self._feed.close()

    @property
    def sounds(self) -> bool:
        """Whether there is sound to hear; known when it is open."""
        return self._feed is not None and self._feed.sounds

    def hear(self, call: Callable[[Heard], object], /) -> None:
        """Has it given the sound, where there is any (`cbs_core.contract.live.HasSound`)."""
        if self._feed is not None:
            self._feed.listeners.append(call)

    def stop(self) -> None:
        """Ends a wait for a frame at once."""
        if self._feed is not None:
            self._feed.stop()

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the newest frame, again and again."""
        assert self._feed is not None
        for note in self.info.notes:
            log.info("%s", note)
        clock = _Clock(drift=math.inf if self._feed.film else DRIFT)
        # A live stream's first frame is old by now.
        shots = chain([self._first], self._feed.shots()) if self._feed.film else self._feed.shots()
        for index, shot in enumerate(shots):
            captured = None if self._feed.film else shot.captured
            yield RawFrame(self._feed.picture(shot), index, clock(shot), captured=captured)


def _file_name(address: str) -> str:
    """Returns a name for an output: an address has slashes and dots, which lead elsewhere."""
    return re.sub(r"[^\w.-]+", "-", address).strip("-.") or "live"
