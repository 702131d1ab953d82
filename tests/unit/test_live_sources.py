"""Cameras and network streams, by FFmpeg's test picture and by servers on the loopback."""

import http.server
import socket
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice, pairwise

import av
import numpy as np
import pytest
from cbs_plugins.formats import devices, feed
from cbs_plugins.formats.devices import Camera
from cbs_plugins.sources.camera import CameraSource
from cbs_plugins.sources.stream import StreamSource

from cbs_core.choose.streams import source_for
from cbs_core.contract.errors import SourceError, SourceLostError
from cbs_core.machine.addresses import shown
from cbs_core.machine.meter import Meter
from cbs_core.run.runner import Runner
from cbs_core.run.workers import opened
from cbs_core.testing.runs import CameraSource as CameraSource_
from cbs_core.testing.runs import LiveSourceSuite, MemorySink, PassingScheduler
from tests.cameras import DESK, WALL, Device, connected


@pytest.fixture
def desk(monkeypatch):
    return connected(monkeypatch)


@pytest.mark.usefixtures("desk")
class TestCamera(LiveSourceSuite):
    plugin = "source/camera"

    def create(self, folder):
        return CameraSource()


class TestStalledCamera(LiveSourceSuite):
    @pytest.fixture(autouse=True)
    def _desk(self, desk):
        self.desk = desk

    def create(self, folder):
        return CameraSource()

    def create_stalled(self, folder):
        self.desk.devices = [Device(1, BlockingIOError(11, "none yet"))]
        return CameraSource(patience_s=60)


def test_a_camera_is_chosen_by_number_name_and_address(desk):
    assert [source_for("camera"), source_for("camera:1")] == ["camera", "camera"]
    for word, camera in {
        None: DESK, "": DESK, "camera": DESK, "1": WALL, 1: WALL, "wall": WALL, "Desk Cam": DESK,
        "/dev/video9": Camera("/dev/video9", "/dev/video9"),
    }.items():  # fmt: skip
        with CameraSource(word):
            assert desk.asked[-1][0] == camera
    for word, words in {
        "2": "no camera 2: there are 0 Desk Cam, 1 Wall Cam",
        "cam": "names several cameras: say its number",
        "dexk cam": r"no camera is named 'dexk cam'; did you mean 'Desk Cam'\?",
    }.items():
        with pytest.raises(SourceError, match=words), CameraSource(word):
            pass


def test_without_a_camera_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(devices, "cameras", list)
    with pytest.raises(SourceError, match="no camera is found: connect one"), CameraSource():
        pass


def test_what_is_asked_for_is_asked_less_and_less(desk):
    desk.devices = [OSError(22, "Invalid argument"), OSError(22, "Invalid argument")]
    with CameraSource(size="640x480", rate=60) as source:
        asked = [options for _, options in desk.asked]
        (note,) = source.info.notes
    assert asked == [
        {"fflags": "4", "video_size": "640x480", "framerate": "60", "input_format": "mjpeg"},
        {"fflags": "4", "video_size": "640x480", "framerate": "60"},
        {"fflags": "4", "video_size": "640x480"},
    ]
    assert note == (
        "camera 'Desk Cam' gives 96x64 at 50 FPS (wrapped_avframe); asked for were 640x480 at 60 "
        "FPS"
    )
    with CameraSource(size="96x64", rate=50) as source:
        assert "asked" not in source.info.notes[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(16, "Device or resource busy"), "close the program that uses it"),
        (PermissionError(13, "Permission denied"), "allow this program, or this user"),
        (FileNotFoundError(2, "No such file"), "see whether it is connected"),
    ],
)
def test_a_camera_that_is_refused_is_asked_once(desk, error, words):
    desk.devices = [error]
    with pytest.raises(SourceError, match=words), CameraSource():
        pass
    assert len(desk.asked) == 1


@pytest.mark.parametrize("value", [{"size": "big"}, {"rate": 0}, {"patience_s": 0}])
def test_values_are_checked(value):
    with pytest.raises(SourceError, match=f"source.{next(iter(value))}"):
        CameraSource(**value)


@pytest.mark.alone  # takes times
def test_frames_have_the_time_of_their_capture(desk):
    with CameraSource() as source:
        begun = time.monotonic()
        frames = list(islice(source, 10))
        took = time.monotonic() - begun
    captured = [frame.captured for frame in frames]
    assert captured == sorted(captured)
    assert begun - 1 < captured[0] <= captured[-1] <= begun + took
    assert float(frames[-1].pts - frames[0].pts) == pytest.approx(9 / 50, abs=0.15)


@pytest.mark.parametrize("trouble", [OSError(19, "No such device"), BlockingIOError(11, "no")])
def test_one_that_is_pulled_out_or_stalls_comes_back(desk, caplog, trouble):
    first = Device(5, trouble)
    desk.devices = [first, OSError(19, "No such device"), OSError(19, "No such device")]
    desk.devices += [*desk.devices[1:]]
    with CameraSource(patience_s=0.2) as source:
        frames = list(islice(source, 12))
    assert first.closed
    assert [frame.index for frame in frames] == list(range(12))
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    texts = caplog.messages
    assert "trying again in 0.05 s" in texts[0]
    assert "lost: No such device" in texts[0] or "gave no frame for 0.2 s" in texts[0]
    assert "camera 'Desk Cam' is back after" in texts[-1]


def test_one_that_is_not_waited_for_ends_the_run(desk):
    desk.devices = [Device(5, OSError(19, "No such device"))]
    sink = MemorySink()
    with opened(CameraSource(reconnect=False)) as source:
        runner = Runner(source, PassingScheduler(), sink, meter=Meter(), policy="freshest")
        with pytest.raises(SourceLostError, match="'Desk Cam' is lost: No such device"):
            runner.run()


@pytest.mark.alone  # takes times
def test_a_camera_faster_than_its_reader_holds_one_frame(desk):
    with CameraSource() as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.3)
        old = next(frames)
        assert time.monotonic() - old.captured < 0.25, "the newest, and none that waited"
        assert source.dropped > 5


def test_what_a_source_drops_is_counted():
    class Dropping(CameraSource_):
        dropped = 7

    meter = Meter()
    Runner(Dropping(4, seconds=0.02), PassingScheduler(), MemorySink(), meter=meter).run()
    assert (meter.frames_in, meter.frames_out, meter.dropped) == (11, 4, 7)


# Streams.


@contextmanager
def sending(address, count=None, seconds=0.02):
    """Sends a growing grey in MPEG-TS; ``count`` frames, or until the end of the block."""
    over = threading.Event()

    def send():
        with suppress(av.FFmpegError, OSError), av.open(address, "w", format="mpegts") as out:
            stream = out.add_stream("mpeg2video", rate=25, width=96, height=64)
            stream.pix_fmt, stream.gop_size = "yuv420p", 5
            index = 0
            while not over.wait(seconds) and index != count:
                grey = np.full((64, 96, 3), index % 200 + 20, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
                index += 1

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def told(caplog, words):
    """Waits until something is logged."""
    end = time.monotonic() + 20
    while words not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)
    assert words in caplog.text


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class TestStream(LiveSourceSuite):
    plugin = "source/stream"

    @pytest.fixture(autouse=True)
    def _sender(self, port):
        self.address = f"udp://127.0.0.1:{port}"
        with sending(self.address):
            yield

    def create(self, folder):
        return StreamSource(self.address, open_s=20)


def test_a_stream_of_udp_comes_back_after_a_silence(port, caplog, monkeypatch):
    monkeypatch.setattr(feed, "PAUSES", (0.05,))
    address = f"udp://127.0.0.1:{port}"
    source = StreamSource(address, patience_s=0.5, open_s=20)
    with sending(address):
        source.__enter__()
        assert source.info.live
        assert (source.info.width, source.info.height) == (96, 64)
        frames = iter(source)
        before = next(frames)
    try:
        told(caplog, "gave no frame for 0.5 s; trying again")
        with sending(address):
            after = [next(frame for frame in frames if "is back after" in caplog.text)]
            after += [next(frames)]
    finally:
        source.__exit__()
    assert before.pts < after[0].pts < after[1].pts
    assert before.captured < after[0].captured <= time.monotonic()


@pytest.mark.alone  # takes times
def test_a_silent_address_is_bounded_and_told(port):
    begun = time.monotonic()
    source = StreamSource(f"udp://127.0.0.1:{port}", open_s=0.5)
    with pytest.raises(SourceError, match=r"did not answer in 0\.5 s.*source\.open_s"), source:
        pass
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("rtmp://127.0.0.1:9/app/KEY", r"'rtmp://127\.0\.0\.1:9/app/\.\.\.' cannot be opened"),
        ("rtsp://me:secret@127.0.0.1:9/x", r"'rtsp://127\.0\.0\.1:9/x' cannot be opened"),
        ("http://127.0.0.1:9/x", "Connection refused"),
        ("file:///etc/hostname", "cannot be opened|reads no file"),
    ],
)
def test_what_cannot_be_opened_is_one_line_without_secrets(address, words):
    with pytest.raises(SourceError, match=words) as error, StreamSource(address):
        pass
    assert "\n" not in str(error.value)
    assert "KEY" not in str(error.value)
    assert "secret" not in str(error.value)


def test_an_address_is_chosen_by_its_scheme():
    for address in ("rtsp://a/b", "RTMP://a/b", "https://a/b.mp4", "udp://@:5000"):
        assert source_for(address) == "stream"
    assert shown("udp://@:5000") == "udp://:5000"
    for password in ("secret", "se/cret", "se@cret", "se?cret", "se:cret", "//"):
        for scheme in ("rtsp", "rtmp", "https", "SRT"):
            told = shown(f"{scheme}://me:{password}@desk:554/cam?token=secret")
            assert told == f"{scheme}://desk:554/cam", password
    assert shown("https://desk:8080/@me/live.m3u8") == "https://desk:8080/@me/live.m3u8"


@contextmanager
def serving(folder):
    """Serves a folder over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def film(path, count=12, **options):
    with av.open(str(path), "w", **options) as out:
        stream = out.add_stream("libx264", rate=25, width=96, height=64)
        stream.pix_fmt = "yuv420p"
        for index in range(count):
            grey = np.full((64, 96, 3), index * 10, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("name", ["film.mp4", "film.m3u8"])
def test_a_film_on_a_server_gives_every_frame_and_ends(tmp_path, name):
    options = {"format": "hls", "options": {"hls_list_size": "0"}} if "m3u8" in name else {}
    film(tmp_path / name, **options)
    with serving(tmp_path) as address, StreamSource(f"{address}/{name}") as source:
        assert not source.info.live
        frames = []
        for frame in source:
            time.sleep(0.01)
            frames.append(frame)
    assert len(frames) == 12
    assert [float(frame.pts) for frame in frames] == pytest.approx([i / 25 for i in range(12)])
    greys = [int(frame.pixels.float().mean()) for frame in frames]
    assert greys == sorted(greys)
    assert greys[-1] - greys[0] > 90


def test_a_servers_playlist_reads_no_file_here(tmp_path):
    film(tmp_path / "secret.ts", format="mpegts")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{tmp_path}/secret.ts\n"
        "#EXT-X-ENDLIST\n"
    )
    with (
        serving(tmp_path) as address,
        pytest.raises(SourceError),
        StreamSource(f"{address}/list.m3u8", open_s=3),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "name"),
    [("rtsp://cam/../live", "rtsp-cam-..-live"), ("Desk/Cam", "Desk-Cam"), ("..", "live")],
)
def test_an_output_that_is_not_named_stays_in_its_folder(address, name):
    assert feed._file_name(address) == name
