"""A visitor's WebSocket: frames down, newest first; with a camera of one's own, frames up too.

Down go frames (binary: a big-endian length, a JSON header, then a JPEG a view) and states (JSON).
Up come ``{"shown": N}`` for each frame and ``{"views": [...]}``, and of a camera binary frames: a
big-endian number, then a JPEG. No more than `AHEAD` frames are sent before one is said to be shown,
so that nothing queues on the way, and who reads nothing is sent nothing.

With a camera, ``{"offer": SDP}`` asks for WebRTC, and ``{"answer": SDP}`` comes back, or
``{"unanswered": "why"}``. While that is connected a single view goes down by it, and no JPEG.
"""

import asyncio
import json
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from torch import Tensor

from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.live.calling import OFFER, THERE, Call
from cbs_core.live.feed import Feed, Taken
from cbs_core.live.gate import Rate
from cbs_core.live.pictures import VIEWS, Shown, decode, fitted
from cbs_core.live.studio import Studio
from cbs_core.live.wish import parsed
from cbs_core.machine.meter import latency

AHEAD = 2
"""Frames on the way to a visitor."""

EVERY = 0.5
"""Seconds between two states."""

PATIENCE = 10.0
"""Seconds after which a visitor who takes nothing is left."""

CAMERA_PIXELS = 1920 * 1088
"""Of a frame of a visitor's camera."""

MESSAGES = 250.0
"""A second, that a visitor may send; a second's more at once. Cameras give 60 frames, and as many
are said to be shown."""

AGAIN = 1.0
"""Seconds between two offers that are answered: each costs keys and sockets."""

State = Callable[[Feed], dict[str, object]]


class Watching:
    """One visitor.

    Args:
        socket: accepted already.
        studio: what is looked at.
        feed: which of its feeds.
        state: tells a feed's state.
        camera: whether the feed's pictures come from this visitor.
    """

    def __init__(
        self, socket: WebSocket, studio: Studio, feed: Feed, state: State, *, camera: bool
    ) -> None:
        self._socket = socket
        self._studio = studio
        self._feed = feed
        self._state = state
        self._camera = camera
        self._views: tuple[str, ...] = ("restyled",)
        self._woken = asyncio.Event()
        self._group: TaskGroup
        self._sent: dict[int, float] = {}
        self._heard = time.monotonic()
        self._latest = 0
        self._ages: deque[float] = deque(maxlen=60)
        self._decoding = False
        self._next: tuple[int, bytes, float] | None = None
        self._call: Call | None = None
        self._answering = False
        self._offer: str | None = None
        self._pace = Rate(MESSAGES, 2 * MESSAGES)

    async def run(self) -> None:
        """Serves the visitor until either end leaves."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the server is closed
                loop.call_soon_threadsafe(self._woken.set)

        unlisten = self._feed.listen(wake)
        try:
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self._until_left, self._send)
                self._group.start_soon(self._until_left, self._receive)
        finally:
            unlisten()
            if self._call is not None:
                with anyio.move_on_after(2, shield=True):
                    await self._call.close()
            with anyio.move_on_after(1, shield=True), suppress(Exception):
                await self._socket.close(1001)

    async def _until_left(self, work: Callable[[], Awaitable[None]]) -> None:
        """Works until either end leaves, and then ends the rest too."""
        try:
            await work()
        except (WebSocketDisconnect, TimeoutError, OSError):
            pass
        except RuntimeError:  # what Starlette makes of a message to who has left
            states = self._socket.client_state, self._socket.application_state
            if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
                raise
        self._group.cancel_scope.cancel()

    async def _send(self) -> None:
        due = 0.0
        look: object = None
        while True:
            with anyio.move_on_after(EVERY):
                await self._woken.wait()
            self._woken.clear()
            now = time.monotonic()
            if self._sent and now - self._heard > PATIENCE:
                return
            state = (self._feed.wish, self._feed.building, self._feed.error)
            if now >= due or state != look:
                due, look = now + EVERY, state
                offered = {"webrtc": self._camera and THERE}
                await self._text({**self._state(self._feed), **self._figures(), **offered})
            shown = self._feed.shown
            if shown is None or shown.index <= self._latest:
                continue
            if self._called:
                self._latest = shown.index
            elif len(self._sent) < AHEAD:
                await self._frame(shown)

    @property
    def _called(self) -> bool:
        """Whether pictures go down by WebRTC: a single view, not two of the same frame."""
        return self._call is not None and self._call.connected and len(self._views) == 1

    async def _frame(self, shown: Shown) -> None:
        views = self._views
        files = await anyio.to_thread.run_sync(lambda: [shown.jpeg(view) for view in views])
        head = {"frame": shown.index, "tag": shown.tag, "views": views, "sizes": [*map(len, files)]}
        header = json.dumps(head).encode()
        self._latest = shown.index
        self._sent[shown.index] = shown.captured
        if len(self._sent) == 1:
            self._heard = time.monotonic()
        message = b"".join((struct.pack(">I", len(header)), header, *files))
        with anyio.fail_after(PATIENCE):
            await self._socket.send_bytes(message)

    async def _text(self, message: Mapping[str, object]) -> None:
        with anyio.fail_after(PATIENCE):
            await self._socket.send_text(json.dumps(message))

    def _figures(self) -> dict[str, object]:
        """Returns the latency from capture to what the visitor said to be shown, milliseconds."""
        told = latency(self._ages) if self._ages else None
        return {
            "latency_p50": round(told.p50) if told else None,
            "latency_p95": round(told.p95) if told else None,
        }

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            # Who floods it would keep all others waiting.
            if message["type"] == "websocket.disconnect" or not self._pace(""):
                return
            data = message.get("bytes")
            if data is not None:
                self._picture(data, time.monotonic())
            elif message.get("text") is not None:
                self._said(message["text"])

    def _said(self, text: str) -> None:
        try:
            said = parsed(text) if len(text) < OFFER else None
        except ConfigError:
            return
        if not isinstance(said, dict):
            return
        offer = said.get("offer")
        if self._camera and isinstance(offer, str):
            self._offer = offer
            if not self._answering:
                self._answering = True
                self._group.start_soon(self._answer)
        views = said.get("views")
        if isinstance(views, list) and 0 < len(views) <= 2 and all(v in VIEWS for v in views):
            self._views = tuple(views)
            if self._call is not None:
                self._call.view = self._views[0]
        shown = said.get("shown")
        if isinstance(shown, int):
            captured = self._sent.pop(shown, None)
            self._heard = time.monotonic()
            if captured is not None:
                self._ages.append((self._heard - captured) * 1e3)
            self._woken.set()

    async def _answer(self) -> None:
        """Answers what asks for WebRTC; of what comes meanwhile, the newest."""
        try:
            while self._offer is not None:
                offer, self._offer = self._offer, None
                told = await self._answered(offer)
                with suppress(WebSocketDisconnect, TimeoutError, OSError, RuntimeError):
                    await self._text(told)
                await asyncio.sleep(AGAIN)
        finally:
            self._answering = False

    async def _answered(self, offer: str) -> Mapping[str, object]:
        try:
            if self._call is None:
                woken = self._woken.set
                pixels = CAMERA_PIXELS
                self._call = Call(self._studio, self._feed, pixels=pixels, changed=woken)
                self._call.view = self._views[0]
            client = self._socket.client
            return {"answer": await self._call.answer(offer, client.host if client else "")}
        except ConfigError as error:
            return {"unanswered": str(error)}

    def _picture(self, data: bytes, captured: float) -> None:
        """Takes a frame of the visitor's camera; while one is read, the newest waits."""
        if not self._camera or len(data) < 5:
            return
        (tag,) = struct.unpack(">I", data[:4])
        if self._next is not None:
            self._feed.dropped += 1
        self._next = (tag, data[4:], captured)
        if not self._decoding:
            self._decoding = True
            self._group.start_soon(self._decode)

    async def _decode(self) -> None:
        try:
            while self._next is not None:
                (tag, data, captured), self._next = self._next, None
                size = self._feed.wish.size
                try:
                    pixels = await anyio.to_thread.run_sync(_read, data, size)
                except CbsError as error:
                    self._feed.fail(str(error))
                    self._feed.tell()
                    continue
                self._studio.put(self._feed, Taken(pixels, captured, tag))
        finally:
            self._decoding = False


def _read(data: bytes, size: int) -> Tensor:
    return fitted(decode(data, pixels=CAMERA_PIXELS), size)
