"""Broadcasts to servers on the loopback, a window, a virtual camera."""

import socket
import sys
import threading
import time
import types
from contextlib import suppress
from fractions import Fraction
from queue import SimpleQueue
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from cbs_plugins.checks.live import live
from cbs_plugins.formats import devices
from cbs_plugins.formats.devices import Camera
from cbs_plugins.sinks.stream import StreamSink
from cbs_plugins.sinks.virtualcam import VirtualCameraSink
from cbs_plugins.sinks.window import WindowSink
from cbs_plugins.sources.screen import ScreenSource
from cbs_plugins.sources.stream import StreamSource
from PIL import ImageGrab

from cbs_core.choose.streams import is_for_files, sink_for, source_for
from cbs_core.contract.errors import SinkClosedError, SinkError, SinkLostError, SourceError
from cbs_core.contract.interfaces import LiveSink
from cbs_core.contract.live import Controlling
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.testing import SinkSuite
from cbs_core.testing.helpers import raw_frame
from cbs_core.testing.runs import LiveSourceSuite


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """Listens as a broadcaster does, and keeps what it is sent; leaves after ``count`` frames."""

    def __init__(self, address, count=None, **options):
        self.times, self.greys, self.size = [], [], None
        self.address, self.count, self.options = address, count, options
        self.thread = threading.Thread(target=self.listen, daemon=True)

    def listen(self):
        with suppress(av.FFmpegError), av.open(self.address, **self.options) as container:
            for frame in container.decode(video=0):
                self.times.append(float(frame.pts * frame.time_base))
                self.greys.append(frame.to_ndarray(format="gray").mean())
                self.size = frame.width, frame.height
                if len(self.times) == self.count:
                    return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.thread.join(10)


def rtmp(count=None):
    return Server(
        f"rtmp://127.0.0.1:{free_port()}/live/KEY", count, options={"listen": "1", "timeout": "20"}
    )


def opened(sink, info):
    """Opens a sink whose server may not listen yet."""
    end = time.monotonic() + 20
    while True:
        try:
            return sink.open(info)
        except SinkError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


INFO = StreamInfo(97, 64, Fraction(25), live=True, name="desk")


def frame(index, pts):
    grey = torch.full((64, 97, 3), 20 + 10 * index, dtype=torch.uint8)
    return RawFrame(grey, index, Fraction(pts))


def test_a_broadcast_arrives_with_the_times_of_capture():
    times = [Fraction(7, 2) + Fraction(at, 1000) for at in (0, 40, 80, 200, 240, 280)]
    with rtmp() as server:
        sink = StreamSink(server.address)
        assert isinstance(sink, LiveSink)
        opened(sink, INFO)
        for index, pts in enumerate(times):
            sink.write(frame(index, pts))
        sink.close()
    assert [time - server.times[0] for time in server.times] == pytest.approx(
        [float(time - times[0]) for time in times], abs=0.002
    )
    assert server.size == (96, 64)
    assert server.greys == sorted(server.greys)


def test_a_server_that_leaves_is_lost():
    with rtmp(2) as server:
        sink = StreamSink(server.address)
        opened(sink, INFO)

        def write():
            for index in range(5000):
                sink.write(frame(index % 20, Fraction(index, 25)))

        with pytest.raises(SinkLostError, match=r"'rtmp://127\.0\.0\.1:\d+/live/\.\.\.' is lost"):
            write()
        sink.close(complete=False)


def test_nobody_there_is_one_line_without_the_key():
    sink = StreamSink(f"rtmp://127.0.0.1:{free_port()}/live/KEY")
    with pytest.raises(SinkError, match=r"does not answer \(Connection refused\): see") as error:
        sink.open(INFO)
    assert "KEY" not in str(error.value)
    sink.abort()


def test_a_pyav_without_srt_is_one_line():
    """As PyAV's wheels are."""
    with pytest.raises(SinkError) as told:
        StreamSink("srt://127.0.0.1:9").open(INFO)
    if "sends no" not in str(told.value):
        pytest.skip("no PyAV without SRT here, as its wheels are: this one sends it")
    assert "this PyAV sends no srt://: use another protocol" in str(told.value)
    with pytest.raises(SourceError, match=r"this PyAV reads no srt://"):
        StreamSource("srt://127.0.0.1:9999", open_s=2).__enter__()
    assert [sink_for("srt://a:1"), source_for("srt://a:1")] == ["stream", "stream"]


@pytest.mark.parametrize("address", ["out.mp4", "http://a/b", "ftp://a/b"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SinkError, match="is no address to send to"):
        StreamSink(address)


def test_addresses_choose_it():
    for address in ("rtmp://a/b/c", "SRT://a:1", "udp://a:1", "rtsp://a/b"):
        assert sink_for(address) == "stream"
    assert not is_for_files("sink", "stream")


class TestUdp(SinkSuite):
    plugin = "sink/stream"
    writes_files = False

    def create(self, folder):
        return StreamSink(f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}")


# A window.


class Acts:
    """Controls that note what is asked of them."""

    def __init__(self):
        self.asked = SimpleQueue()

    def route(self, step):
        self.asked.put(("route", step))
        return "sky: wave 100%"

    def style(self, step):
        self.asked.put(("style", step))
        return "sky: udnie 100%"

    def strength(self, change):
        self.asked.put(("strength", change))
        return "sky: udnie 90%"


def on_screen(display):
    return np.asarray(ImageGrab.grab(xdisplay=display))


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


class TestWindow(SinkSuite):
    plugin = "sink/window"
    writes_files = False

    @pytest.fixture(autouse=True)
    def _display(self, display):
        pass

    def create(self, folder):
        return WindowSink()


def test_a_window_shows_frames_and_its_keys_act(display):
    acts, sink = Acts(), WindowSink()
    assert isinstance(sink, Controlling)
    sink.control(acts)
    sink.open(INFO)
    for grey in (60, 200):
        pixels = torch.full((64, 96, 3), grey, dtype=torch.uint8)
        pixels[..., 0] = 10
        sink.write(RawFrame(pixels, 0))
        until(lambda grey=grey: (on_screen(display) == [10, grey, grey]).all(-1).sum() > 4000)
    for key in ("Right", "Left", "Up", "Down", "Tab", "x"):
        sink._press(key)  # as the viewer says it: without a window manager no key reaches it
    asked = [acts.asked.get(timeout=1) for _ in range(5)]
    assert asked == [
        ("style", 1), ("style", -1), ("strength", 0.1), ("strength", -0.1), ("route", 1),
    ]  # fmt: skip
    sink._press("Escape")
    with pytest.raises(SinkClosedError):
        sink.write(raw_frame(64, 96, 1))
    process = sink._process
    sink.close()
    assert process.returncode == 0


def test_a_window_whose_process_dies_is_lost(display):
    sink = WindowSink()
    sink.open(INFO)
    sink._process.kill()
    sink._process.wait()

    def write():
        for index in range(50):
            sink.write(raw_frame(64, 96, index))

    with pytest.raises(SinkLostError, match="the window is gone"):
        write()
    sink.close(complete=False)


def test_without_a_screen_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":65000")
    sink = WindowSink()
    with pytest.raises(SinkError, match=r"no window can be opened \(.*display.*\): run it where"):
        sink.open(INFO)


# A virtual camera.


class FakeCamera:
    made: ClassVar[list] = []

    def __init__(self, width, height, fps, *, device=None):
        if device == "taken":
            raise RuntimeError("'v4l2loopback' backend: No device found. Did you run 'modprobe'?")
        self.width, self.height, self.fps, self.device = width, height, fps, device
        self.sent, self.closed = [], False
        self.made.append(self)

    def send(self, pixels):
        self.sent.append(pixels.copy())

    def close(self):
        self.closed = True


@pytest.fixture
def virtual(monkeypatch):
    module = types.SimpleNamespace(Camera=FakeCamera)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    monkeypatch.setattr(FakeCamera, "made", [])
    return FakeCamera.made


@pytest.mark.usefixtures("virtual")
class TestVirtualCamera(SinkSuite):
    plugin = "sink/virtualcam"
    writes_files = False

    def create(self, folder):
        return VirtualCameraSink()


def test_a_virtual_camera_is_sent_every_frame_at_the_first_size(virtual):
    assert sink_for("virtualcam") == "virtualcam"
    sink = VirtualCameraSink("/dev/video4")
    sink.open(INFO)
    sink.write(frame(3, 0))
    sink.write(raw_frame(32, 48, 1))
    sink.close()
    (camera,) = virtual
    assert (camera.device, camera.fps, camera.closed) == ("/dev/video4", 25, True)
    assert [one.shape for one in camera.sent] == [(64, 97, 3)] * 2
    assert (camera.sent[0] == 50).all()


def test_without_a_virtual_camera_the_steps_are_told(virtual, monkeypatch):
    for system, words in {"linux": "modprobe v4l2loopback", "darwin": "install OBS"}.items():
        monkeypatch.setattr(sys, "platform", system)
        with pytest.raises(SinkError, match=f"no virtual camera .*{words}"):
            VirtualCameraSink("taken").open(INFO)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"pip install 'class-based-styling\[virtualcam\]'"):
        VirtualCameraSink().open(INFO)


# A screen, which is a source: here, because it needs the same X server.


class TestScreen(LiveSourceSuite):
    plugin = "source/screen"

    @pytest.fixture(autouse=True)
    def _display(self, display):
        pytest.importorskip("mss", reason="needs mss: the extra [screen]")

    def create(self, folder):
        return ScreenSource()


@pytest.mark.usefixtures("display")
def test_a_screen_or_a_part_of_it_is_seen():
    pytest.importorskip("mss", reason="needs mss: the extra [screen]")
    window = WindowSink()
    window.open(INFO)
    pixels = torch.zeros(64, 96, 3, dtype=torch.uint8)
    pixels[..., 2] = 210
    window.write(RawFrame(pixels, 0))
    with ScreenSource("1", rate=100) as source:
        assert (source.info.width, source.info.height) == (400, 300)
        assert source.info.live
        blue = torch.tensor([0, 0, 210])
        until(lambda: (next(iter(source)).pixels == blue).all(-1).sum() > 4000)
    window.close()
    with ScreenSource(region="10,20,64,48") as source:
        assert next(iter(source)).pixels.shape == (48, 64, 3)
    for wrong in ("0,0,500,10", "nonsense"):
        with pytest.raises(SourceError, match=r"source\.region"), ScreenSource(region=wrong):
            pass
    with pytest.raises(SourceError, match="no monitor 5: there are 1"), ScreenSource("5"):
        pass


def test_a_screen_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":65000")
    with pytest.raises(SourceError, match=r"the screen cannot be read \(.*\): run it where"):
        ScreenSource().__enter__()
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(SourceError, match=r"pip install 'class-based-styling\[screen\]'"):
        ScreenSource().__enter__()


def test_doctor_tells_what_is_there_and_what_is_missing(virtual, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":65000")
    monkeypatch.setattr(devices, "cameras", lambda: [Camera("/dev/video0", "Desk Cam")])
    found = {finding.subject: finding for finding in live()}
    assert found["camera"] == ("ok", "camera", "0 Desk Cam")
    assert found["virtualcam"].level == found["window"].level == "ok"
    assert found["screen"].level == "note"
    assert virtual[0].closed
    monkeypatch.setattr(devices, "cameras", list)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    found = {finding.subject: finding for finding in live()}
    assert found["camera"].level == found["virtualcam"].level == "note"
    assert "class-based-styling[virtualcam]" in found["virtualcam"].text
