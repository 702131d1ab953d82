"""A visitor's camera by WebRTC: another peer in this process, on the machine's own addresses."""

import asyncio
import json
import time
from fractions import Fraction

import numpy as np
import pytest
from av import VideoFrame
from starlette.testclient import TestClient

from cbs_core.contract.errors import ConfigError
from cbs_core.live import calling, server, watching
from cbs_core.live.calling import Call, addressed
from cbs_core.live.shop import Limits, Opening, Shop
from tests import live

aiortc = pytest.importorskip("aiortc")
ice = pytest.importorskip("aioice.ice")

routed = pytest.mark.skipif(
    not ice.get_host_addresses(True, False),
    reason="no address beside 127.0.0.1, which WebRTC needs",
)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    live.install(monkeypatch)


@pytest.fixture
def made():
    with live.studio() as studio:
        yield studio


class Greys(aiortc.MediaStreamTrack):
    """Frames that get lighter and lighter, and then stay so."""

    kind = "video"
    COUNT = 40

    def __init__(self):
        super().__init__()
        self.sent = 0

    async def recv(self):
        await asyncio.sleep(1 / 30)
        level = 20 + 5 * min(self.sent, self.COUNT - 1)
        grey = np.full((live.HEIGHT, live.WIDTH, 3), level, np.uint8)
        frame = VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = self.sent * 3000, Fraction(1, 90_000)
        self.sent += 1
        return frame


async def soon(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.01)


async def called(studio, feed, *, visitor, pixels=10**6, track=None):
    """Returns both ends of a call."""
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    peer.addTrack(track or Greys())
    await peer.setLocalDescription(await peer.createOffer())
    call = Call(studio, feed, pixels=pixels, changed=lambda: None)
    answer = await call.answer(peer.localDescription.sdp, visitor)
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
    return peer, call


def own_address():
    return ice.get_host_addresses(True, False)[0]


@routed
def test_the_newest_frame_wins_and_comes_back_restyled(made, monkeypatch):
    """Frames are converted five times slower than they come."""
    whole = calling._pixels

    def slow(frame, size):
        time.sleep(0.15)
        return whole(frame, size)

    monkeypatch.setattr(calling, "_pixels", slow)
    feed, track, got = made.open_feed(), Greys(), []

    async def work():
        peer, call = await called(made, feed, visitor=own_address(), track=track)
        taking = asyncio.ensure_future(take(peer))
        await soon(lambda: call.connected and track.sent >= track.COUNT)
        last = 20 + 5 * (track.COUNT - 1)
        await soon(lambda: feed.shown is not None and abs(feed.shown.original.mean() - last) < 4)
        await soon(lambda: got and abs(got[-1] - last) < 6)
        taking.cancel()
        await call.close()
        await peer.close()
        assert not call.connected

    async def take(peer):
        (receiver,) = peer.getReceivers()
        while True:
            got.append((await receiver.track.recv()).to_ndarray(format="gray").mean())

    asyncio.run(work())
    assert feed.dropped > 0
    assert feed.came + feed.dropped <= track.sent


@routed
def test_a_huge_frame_is_told_and_not_restyled(made):
    feed = made.open_feed()

    async def work():
        peer, call = await called(made, feed, visitor=own_address(), pixels=1000)
        await soon(lambda: feed.error is not None)
        await call.close()
        await peer.close()

    asyncio.run(work())
    assert "a frame of 160x96 is too large" in feed.error
    assert not feed.came


@routed
def test_a_frame_that_cannot_be_converted_is_told_and_the_call_goes_on(made, monkeypatch):
    whole, seen = calling._pixels, []

    def odd(frame, size):
        seen.append(frame)
        if len(seen) == 1:
            raise ValueError("no such format")
        return whole(frame, size)

    monkeypatch.setattr(calling, "_pixels", odd)
    feed, told = made.open_feed(), []
    feed.listen(lambda: told.append(feed.error))

    async def work():
        peer, call = await called(made, feed, visitor=own_address())
        await soon(lambda: feed.shown is not None and feed.error is None)
        await call.close()
        await peer.close()

    asyncio.run(work())
    assert "a frame of the camera cannot be read: no such format" in told
    assert feed.error is None


@routed
def test_a_call_that_never_came_about_leaves_nobody_who_looks_on(made):
    feed = made.open_feed()

    async def work():
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        peer.addTrack(Greys())
        await peer.setLocalDescription(await peer.createOffer())
        call = Call(made, feed, pixels=10**6, changed=lambda: None)
        for _ in range(2):
            await call.answer(peer.localDescription.sdp, "192.0.2.7")
            assert feed.watched == 1
        await call.close()
        await peer.close()

    asyncio.run(work())
    assert feed.watched == 0


OFFERED = """v=0
a=candidate:1 1 udp 2122260223 10.0.0.1 5000 typ host generation 0
a=candidate:2 1 udp 2122260222 6f1c.local 5001 typ host
a=candidate:3 1 UDP 1686052607 8.8.8.8 5002 typ srflx raddr 10.0.0.1 rport 5000
a=candidate:4 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active
a=candidate:5 1 udp 1518280446 1.1.1.1 5003 typ relay raddr 0.0.0.0 rport 0
a=candidate:6 2 udp 1 10.0.0.1 5004 typ host
a=candidate:7 1 udp 1 10.0.0.1 22; typ host
a=mid:0
"""


def test_an_offer_leads_to_nobody_but_the_visitor():
    found = addressed(OFFERED, "192.0.2.7").splitlines()
    assert found == [
        "v=0",
        "a=candidate:1 1 udp 2122260223 192.0.2.7 5000 typ host",
        "a=candidate:2 1 udp 2122260222 192.0.2.7 5001 typ host",
        "a=candidate:3 1 udp 1686052607 192.0.2.7 5002 typ host",
        "a=mid:0",
    ]


@pytest.mark.parametrize("more", ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 9 X"])
def test_an_offer_of_more_than_a_camera_is_refused(more):
    with pytest.raises(ConfigError, match="more in it than one camera"):
        addressed(f"v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n{more}\n", "192.0.2.7")


def test_ways_to_a_visitor_are_bounded():
    offer = "v=0\n" + "".join(
        f"a=candidate:{port} 1 udp 1 10.0.0.1 {port} typ host\n" for port in range(1000, 1400)
    )
    assert addressed(offer, "192.0.2.7").count("a=candidate") == calling.CANDIDATES


def asked(made, tmp_path, offer, *, camera=True):
    """Returns what a visitor's offer is told, and whether the visitor is shown on."""
    shop = Shop(made, tmp_path, Limits(), live.inputs("clip.mp4"))
    app = server.application(Opening(shop), hosts={"127.0.0.1"})
    url = f"ws://127.0.0.1:8188/v1/stream{'?camera=true' if camera else ''}"
    with (
        TestClient(app, base_url="http://127.0.0.1:8188") as client,
        client.websocket_connect(url) as socket,
    ):
        socket.send_text(json.dumps({"offer": offer}))
        for _ in range(8):
            told = json.loads(socket.receive_text())
            if "unanswered" in told or "answer" in told:
                states = json.loads(socket.receive_text())
                return told, states["webrtc"]
        return None, told["webrtc"]


@pytest.mark.parametrize("offer", ["", "v=0", "no offer", "m=video 9 X\r\n" * 200, "\0" * 4000])
def test_what_is_no_offer_is_told_and_the_visitor_is_shown_on(made, tmp_path, offer):
    told, there = asked(made, tmp_path, offer)
    assert "offer" in told["unanswered"]
    assert there is True


def test_of_offers_by_the_hundred_few_are_answered(made, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "AGAIN", 0.3)
    answered = []

    async def answer(self, offer, visitor):
        answered.append(offer)
        raise ConfigError("no offer")

    monkeypatch.setattr(calling.Call, "answer", answer)
    shop = Shop(made, tmp_path, Limits(), live.inputs("clip.mp4"))
    app = server.application(Opening(shop), hosts={"127.0.0.1"})
    with (
        TestClient(app, base_url="http://127.0.0.1:8188") as client,
        client.websocket_connect("ws://127.0.0.1:8188/v1/stream?camera=true") as socket,
    ):
        for number in range(200):
            socket.send_text(json.dumps({"offer": str(number)}))
        live.until(lambda: answered and answered[-1] == "199")
        assert len(answered) < 20, "the newest of those that came meanwhile"


def test_without_the_extra_it_is_one_line(made, tmp_path, monkeypatch):
    monkeypatch.setattr(calling, "THERE", False)
    told, _ = asked(made, tmp_path, "v=0")
    assert told == {"unanswered": "WebRTC needs aiortc: pip install 'class-based-styling[webrtc]'"}


def test_who_brings_no_camera_is_not_answered(made, tmp_path):
    assert asked(made, tmp_path, "v=0", camera=False) == (None, False)
