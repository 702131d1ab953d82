"""A visitor's camera up and the restyled picture down by WebRTC, where aiortc is installed.

The offer comes through the visitor's WebSocket, which the `Gate` let in, and ends with it. No other
host has a part in it: there is no STUN or TURN server, and whatever addresses an offer names, this
one speaks to the address alone from which the visitor came.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.live.feed import Feed, Taken
from cbs_core.live.pictures import fitted
from cbs_core.live.studio import Studio

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack, RTCPeerConnection
    from av import VideoFrame

THERE = find_spec("aiortc") is not None

MISSING = "WebRTC needs aiortc: pip install 'class-based-styling[webrtc]'"

OFFER = 32_768
"""Characters of an offer at most."""

CANDIDATES = 16
"""Ways to a visitor that are tried at most."""

CLOCK = 90_000
"""Ticks a second of WebRTC's pictures."""

CANDIDATE = re.compile(
    r"^a=candidate:(\S{1,64}) 1 udp (\d{1,10}) \S+ (\d{1,5}) typ (?:host|srflx|prflx)\b.*$", re.I
)

log = logging.getLogger("cbs")


def addressed(offer: str, visitor: str) -> str:
    """Returns an offer whose candidates all have the visitor's own address; others are left out.

    Behind a router, or where a browser hides its address, the port may be another one; then it is
    the visitor's packets that tell.

    Raises:
        ConfigError: there is more in it than one camera. Each further part would be sockets here,
            and what comes by it, such as sound, would wait for ever to be taken.
    """
    lines, ways = [], 0
    for line in offer.splitlines():
        if not line.startswith("a=candidate"):
            lines.append(line)
        elif (found := CANDIDATE.match(line)) and ways < CANDIDATES:
            ways += 1
            name, priority, port = found.groups()
            lines.append(f"a=candidate:{name} 1 udp {priority} {visitor} {port} typ host")
    if sum(line.startswith("m=") for line in lines) > 1:
        raise ConfigError("the offer has more in it than one camera: leave out sound and data")
    return "\r\n".join(lines) + "\r\n"


class Call:
    """One visitor's connection.

    Args:
        studio: whose.
        feed: the visitor's own.
        pixels: that a frame of the camera may have.
        changed: called in the event loop where `connected` is another.
    """

    def __init__(
        self, studio: Studio, feed: Feed, *, pixels: int, changed: Callable[[], object]
    ) -> None:
        if not THERE:
            raise ConfigError(MISSING)
        self._studio = studio
        self._feed = feed
        self._most = pixels
        self._changed = changed
        self._peer: RTCPeerConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._down: MediaStreamTrack | None = None
        self._newest: tuple[VideoFrame, float] | None = None
        self._come = asyncio.Event()
        self.view = "restyled"
        """What is sent down."""

    @property
    def connected(self) -> bool:
        """Whether pictures go this way."""
        return self._peer is not None and self._peer.connectionState == "connected"

    async def answer(self, offer: str, visitor: str) -> str:
        """Takes an offer and returns the answer, both as SDP.

        Args:
            offer: of the visitor's page.
            visitor: the address that it came from.

        Raises:
            ConfigError: it is no offer with a camera in it.
        """
        from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

        asked = addressed(offer[:OFFER], visitor)
        await self.close()
        # None in the place of an empty list would be a server of Google's.
        self._peer = peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.on("connectionstatechange", self._changed)
        peer.on("track", self._track)
        try:
            await peer.setRemoteDescription(RTCSessionDescription(asked, "offer"))
            if not self._tasks:
                raise ConfigError("the offer has no camera in it")
            await peer.setLocalDescription(await peer.createAnswer())
        except ConfigError:
            await self.close()
            raise
        except Exception as error:  # what a parser makes of anything
            await self.close()
            raise ConfigError(f"this is no WebRTC offer: {str(error)[:100]}") from error
        return str(peer.localDescription.sdp)

    async def close(self) -> None:
        """Hangs up."""
        peer, self._peer = self._peer, None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if self._down is not None:  # a peer that never connected does not stop it
            self._down.stop()
            self._down = None
        if peer is not None:
            with suppress(Exception):  # whatever state the other end left it in
                await peer.close()

    def _track(self, track: "MediaStreamTrack") -> None:
        if track.kind != "video" or self._peer is None or self._tasks:
            return
        self._down = restyled(self._feed, lambda: self.view)
        self._peer.addTrack(self._down)
        self._tasks = [
            asyncio.ensure_future(self._receive(track)),
            asyncio.ensure_future(self._read()),
        ]

    async def _receive(self, track: "MediaStreamTrack") -> None:
        """Takes every frame, for what is not taken queues; the newest is what is kept."""
        from aiortc.mediastreams import MediaStreamError

        with suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                self._feed.dropped += self._newest is not None
                self._newest = frame, time.monotonic()
                self._come.set()

    async def _read(self) -> None:
        """Gives the feed the newest frame, as often as it can be converted."""
        while True:
            await self._come.wait()
            self._come.clear()
            if self._newest is None:
                continue
            (frame, captured), self._newest = self._newest, None
            if frame.width * frame.height > self._most:
                self._passed_over(
                    f"a frame of {frame.width}x{frame.height} is too large: at most {self._most} "
                    "pixels are taken"
                )
                continue
            size = self._feed.wish.size
            try:
                pixels = await anyio.to_thread.run_sync(_pixels, frame, size)
            except Exception as error:  # of a frame; the next may be well
                line = " ".join(str(error).split())[:100]
                self._passed_over(f"a frame of the camera cannot be read: {line}")
                continue
            self._studio.put(self._feed, Taken(pixels, captured))

    def _passed_over(self, why: str) -> None:
        self._feed.fail(why)
        self._feed.tell()


def _pixels(frame: "VideoFrame", size: int) -> torch.Tensor:
    return fitted(torch.from_numpy(frame.to_ndarray(format="rgb24")), size)


def restyled(feed: Feed, view: Callable[[], str]) -> "MediaStreamTrack":
    """Returns a track of a feed's newest frames; what comes while one is sent takes its place."""
    from aiortc import MediaStreamTrack
    from av import VideoFrame

    class Restyled(MediaStreamTrack):
        kind = "video"

        def __init__(self) -> None:
            super().__init__()
            self._last = 0
            self._ticks = -1
            self._begun = time.monotonic()
            self._new = asyncio.Event()
            loop = asyncio.get_running_loop()

            def wake() -> None:
                with suppress(RuntimeError):  # the server is closed
                    loop.call_soon_threadsafe(self._new.set)

            self._unlisten = feed.listen(wake)

        async def recv(self) -> VideoFrame:
            while (shown := feed.shown) is None or shown.index <= self._last:
                await self._new.wait()
                self._new.clear()
            self._last = shown.index
            pixels = await anyio.to_thread.run_sync(shown.picture, view())
            # Sides are even, as 4:2:0 wants them.
            pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
            grey = pixels.ndim == 2
            frame = VideoFrame.from_ndarray(pixels.copy(), "gray" if grey else "rgb24")
            ticks = round((shown.captured - self._begun) * CLOCK)
            self._ticks = max(self._ticks + 1, ticks)
            frame.pts, frame.time_base = self._ticks, Fraction(1, CLOCK)
            return frame

        def stop(self) -> None:
            super().stop()
            self._unlisten()

    return Restyled()
