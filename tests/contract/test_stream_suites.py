"""Sources and sinks in runs that go wrong; and the suites for that are able to fail."""

import threading
import time
from functools import partial

import av
import pytest
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.image import ImageSink
from cbs_plugins.sinks.null import NullSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.errors import SinkError
from cbs_core.testing import runs as streams
from tests.media import make_clip


class TestCamera(streams.LiveSourceSuite):
    def create(self, folder):
        return streams.CameraSource(seconds=0.01)

    def create_stalled(self, folder):
        return streams.StalledSource(2)


class TestBurst(streams.LiveSourceSuite):
    def create(self, folder):
        return streams.BurstSource(None, seconds=0.01)


class TestVideoRead(streams.SourceRunSuite):
    def create(self, folder):
        return VideoSource(str(make_clip(folder / "clip.mp4", frames=12)))


class TestMemory(streams.SinkRunSuite):
    writes_files = False

    def create(self, folder):
        return streams.MemorySink()


class TestNull(TestMemory):
    def create(self, folder):
        return NullSink()


class TestVideo(streams.SinkRunSuite):
    def create(self, folder):
        return VideoSink(str(folder / "out.mp4"))

    def check(self, folder, frames):
        with av.open(str(folder / "out.mp4")) as media:
            assert sum(1 for _ in media.decode(video=0)) == frames == self.frames


class TestFolder(streams.SinkRunSuite):
    def create(self, folder):
        return FolderSink(str(folder / "out"))

    def check(self, folder, frames):
        assert len(list((folder / "out").iterdir())) == frames == self.frames


class TestImage(streams.SinkRunSuite):
    frames = 1

    def create(self, folder):
        return ImageSink(str(folder / "out.png"))


def suite_of(base, plugin, **attributes):
    return type("Suite", (base,), {"create": staticmethod(plugin), **attributes})()


class Deaf(streams.StalledSource):
    """Its wait does not end."""

    released = threading.Event()

    def end(self):
        self.released.wait()


class Waiting(streams.StalledSource):
    """Its `stop` takes as long as the next frame does."""

    def stop(self):
        time.sleep(0.4)
        super().stop()


class GoingOn(streams.CameraSource):
    """`stop` is forgotten by the next wait."""

    def pause(self):
        time.sleep(self.seconds)
        return True


@pytest.fixture
def let_go():
    Deaf.released.clear()
    yield
    Deaf.released.set()


@pytest.mark.parametrize(
    ("source", "test"),
    [
        (streams.ClipSource, "test_is_live_and_can_be_stopped"),
        (streams.StuckSource, "test_is_live_and_can_be_stopped"),
        (Deaf, "test_stop_ends_a_wait_at_once"),
        (Waiting, "test_stop_ends_a_wait_at_once"),
        (GoingOn, "test_stop_ends_a_wait_at_once"),
        (partial(GoingOn, 100), "test_a_source_that_was_stopped_gives_no_frame"),
    ],
)
@pytest.mark.usefixtures("let_go")
def test_live_source_suite(source, test, tmp_path):
    suite = suite_of(streams.LiveSourceSuite, lambda folder: source())
    with pytest.raises(AssertionError):
        getattr(suite, test)(tmp_path)


@pytest.mark.usefixtures("let_go")
def test_source_run_suite(tmp_path):
    class Slow(Deaf):
        """Gives a frame, and then one that is waited for past the run's end."""

        def pause(self):
            if self.given == 2:
                self.released.wait()
            return True

    suite = suite_of(streams.SourceRunSuite, lambda folder: Slow(4))
    with pytest.raises(AssertionError, match="a thread is left"):
        suite.test_a_run_that_the_sink_ends(tmp_path, 1, SinkError("full"))


class File(streams.MemorySink):
    """A good sink that writes a file; subclasses spoil it."""

    def __init__(self, folder):
        super().__init__()
        self.path = folder / "out"

    def close(self, *, complete=True):
        self.path.touch()


class Losing(File):
    def close(self, *, complete=True):
        if complete:
            super().close()


class Leaving(File):
    def write(self, frame):
        self.path.with_name(".hidden").touch()


class Early(File):
    def open(self, info):
        self.path.touch()


@pytest.mark.parametrize(
    ("sink", "test"),
    [
        (Losing, "test_what_is_done_stays"),
        (Leaving, "test_what_is_done_stays"),
        (Losing, "test_ctrl_c_keeps_what_is_done"),
        (Leaving, "test_ctrl_c_keeps_what_is_done"),
        (Early, "test_without_a_frame_nothing_is_left"),
    ],
)
def test_sink_run_suite(sink, test, tmp_path):
    arguments = ["source fails"] if test == "test_what_is_done_stays" else []
    suite = suite_of(streams.SinkRunSuite, File)
    getattr(suite, test)(tmp_path, *arguments)
    (tmp_path / "out").unlink(missing_ok=True)
    with pytest.raises(AssertionError):
        getattr(suite_of(streams.SinkRunSuite, sink), test)(tmp_path, *arguments)
