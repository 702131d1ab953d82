"""Whatever ends a run, and whenever: within a second, without a thread, and what is done stays."""

import signal
import sys
import threading
import time

import pytest
import torch

from cbs_core.contract.errors import SinkError, SourceError, SourceLostError, StreamError
from cbs_core.contract.types import RawFrame
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.machine.meter import Meter
from cbs_core.run.outputs import Outputs
from cbs_core.run.runner import Outcome, Runner
from cbs_core.run.schedulers.pipeline import PipelineScheduler
from cbs_core.run.workers import opened
from cbs_core.testing.runs import (
    WITHIN,
    BurstSource,
    CameraSource,
    ClipSource,
    FailingSink,
    MemorySink,
    PassingScheduler,
    StalledSource,
    StuckSource,
    threads_left,
)
from tests.streams import stream_of

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert not threads_left(before)


@pytest.fixture
def stuck():
    """A source that cannot be stopped, let go after the test."""
    source = StuckSource()
    yield source
    source.released.set()


def run(source, sink=None, scheduler=None, *, meter=None, **options):
    runner = Runner(
        source, scheduler or PassingScheduler(), sink or MemorySink(), meter=meter or Meter(),
        **{"policy": "freshest" if source.info.live else "every_frame", **options},
    )  # fmt: skip
    return runner.run()


def pipeline_scheduler(segment_seconds=0.0):
    """`PipelineScheduler` over nets that take no time, or as much as is told."""

    def segment(image):
        time.sleep(segment_seconds)
        light = image.mean(1, keepdim=True)
        return torch.cat([0.5 - light, light - 0.5], 1)

    routes = [Route(("light",), "negative")]
    stream = stream_of(
        segmenter=Stage(segment, "segmenter 's' of x 1"),
        stylers={routes[0].style: Stage(lambda image: 1 - image, "styler 't' of x 1")},
        compositor=Stage(torch.lerp, "compositor 'c' of x 1"),
        regions=Regions(("dark", "light"), [("light",)], "soft"),
        routes=routes,
    )
    return PipelineScheduler(stream, meter=Meter())


class Timed:
    """A sink that notes when it failed: not before the source has come to where it waits."""

    def __init__(self, sink):
        self.sink, self.since = sink, None

    def __getattr__(self, name):
        return getattr(self.sink, name)

    def write(self, frame):
        try:
            self.sink.write(frame)
        except Exception:
            time.sleep(0.1)
            self.since = time.monotonic()
            raise


class TestASourceThatWaits:
    @pytest.mark.parametrize("scheduler", [PassingScheduler, pipeline_scheduler])
    def test_is_stopped_where_the_sink_fails(self, scheduler):
        source, sink = StalledSource(3, seconds=0.01), Timed(FailingSink(2))
        with pytest.raises(SinkError, match="no space left"):
            run(source, sink, scheduler(), policy="every_frame")
        assert time.monotonic() - sink.since < WITHIN / 2
        assert source.stopped.is_set()
        assert sink.calls == ["open", "abort"]

    def test_is_left_behind_where_it_cannot_be_stopped(self, stuck, caplog):
        sink = Timed(FailingSink(1))
        with pytest.raises(SinkError, match="no space left"), opened(stuck):
            run(stuck, sink, policy="every_frame")
        assert time.monotonic() - sink.since < WITHIN
        assert caplog.messages == [
            "source 'fake' (StuckSource) does not return; its thread is left"
        ]
        # To free what a thread still reads may crash: it is freed when the thread is done.
        assert not stuck.left
        stuck.released.set()
        end = time.monotonic() + WITHIN
        while not stuck.left:
            assert time.monotonic() < end
            time.sleep(0.005)

    @pytest.mark.parametrize("fault", ["raises", "hangs"])
    def test_a_stop_that_fails_is_told(self, stuck, caplog, fault):
        class Faulty(StuckSource):
            def stop(self):
                if fault == "hangs":
                    self.released.wait()
                raise OSError("no\n device")

        source, sink = Faulty(), Timed(FailingSink(1))
        with pytest.raises(SinkError), opened(source):
            run(source, sink, policy="every_frame")
        assert time.monotonic() - sink.since < WITHIN
        assert caplog.messages[0].startswith("source 'fake' (Faulty): its stop() ")
        if fault == "raises":
            assert caplog.messages[0].endswith("failed (OSError: no device)")
        source.released.set()

    def test_is_not_stopped_where_it_came_to_its_end(self):
        source = CameraSource(3, seconds=0.01)
        assert run(source) == Outcome(interrupted=False)
        assert not source.stopped.is_set()

    def test_leaving_it_takes_no_longer_either(self, caplog):
        let_go = threading.Event()

        class Clinging(ClipSource):
            def __exit__(self, *exc):
                let_go.wait()

        begun = time.monotonic()
        with opened(Clinging()) as source:
            run(source)
        assert time.monotonic() - begun < WITHIN
        assert "source 'fake' (Clinging) cannot be closed" in caplog.messages[0]
        let_go.set()

    def test_who_exits_where_it_is_entered_is_named(self):
        class Leaving(ClipSource):
            def __enter__(self):
                raise SystemExit(0)

        with pytest.raises(SourceError, match=r"\(Leaving\) of test_run_ends failed \(SystemExit"):
            opened(Leaving()).__enter__()

    def test_an_error_of_its_exit_is_raised_unless_another_came_first(self):
        class Failing(ClipSource):
            def __exit__(self, *exc):
                raise OSError("busy")

        with (
            pytest.raises(SourceError, match=r"test_run_ends failed \(OSError: busy"),
            opened(Failing()),
        ):
            pass
        with pytest.raises(SinkError, match="first"), opened(Failing()):
            raise SinkError("first")


class Window(MemorySink):
    """Is closed by a person after its third frame, when no frame comes any more."""

    live = True

    @property
    def left(self):
        return len(self.frames) == 3


class TestLeft:
    """Windows that are closed while the camera stalls: nothing comes that could be refused."""

    @pytest.mark.parametrize("several", [False, True])
    def test_the_last_that_looked_ends_the_run(self, several):
        windows = [Window(), Window()]
        sink = Outputs(windows) if several else windows[0]
        source, begun = StalledSource(3, seconds=0.05), time.monotonic()
        assert run(source, sink, timeout_s=20) == Outcome(interrupted=False)
        assert time.monotonic() - begun < 0.15 + WITHIN
        for window in windows if several else windows[:1]:
            assert window.calls == ["open", "close False"]

    def test_a_file_beside_it_goes_on(self):
        window, file = Window(), MemorySink()
        source = StalledSource(3, seconds=0.05)
        with pytest.raises(SourceLostError):
            run(source, Outputs([window, file]), timeout_s=0.8)
        assert window.calls == file.calls == ["open", "close False"]
        assert len(file.frames) == 3


class TestTimeOut:
    def test_a_source_that_gives_nothing_more_is_lost_and_its_frames_are_kept(self):
        sink, source = MemorySink(), StalledSource(3)
        begun = time.monotonic()
        with pytest.raises(SourceLostError, match=r"^source 'fake' \(Stall.* no frame for 0.2 s: "):
            run(source, sink, timeout_s=0.2, policy="every_frame")
        assert 0.2 <= time.monotonic() - begun < 0.2 + WITHIN / 2
        assert [frame.index for frame in sink.frames] == [0, 1, 2]
        assert sink.calls == ["open", "close False"]

    def test_one_that_gives_nothing_at_all_is_too(self):
        sink = MemorySink()
        with pytest.raises(SourceLostError):
            run(StalledSource(0), sink, timeout_s=0.05)
        assert sink.calls == ["open", "abort"]

    def test_a_slow_pipeline_is_no_fault_of_the_source(self):
        class Slow(PassingScheduler):
            def submit(self, raw):
                time.sleep(0.15)
                super().submit(raw)

        assert not run(ClipSource(4), scheduler=Slow(), timeout_s=0.1).interrupted


class TestLive:
    @pytest.mark.parametrize("scheduler", [PassingScheduler, pipeline_scheduler])
    def test_each_frame_is_out_before_the_next_one_comes_in(self, scheduler):
        events = []

        class Camera(CameraSource):
            def pause(self):
                going = super().pause()
                events.append(("in", self.given))
                return going

        class Screen(MemorySink):
            def write(self, frame):
                events.append(("out", frame.index))

        run(Camera(4, seconds=0.2), Screen(), scheduler())
        # The end of the stream is no frame, but is waited for like one.
        assert events[:8] == [(way, index) for index in range(4) for way in ("in", "out")]

    def test_nothing_is_asked_while_nothing_is_under_way(self):
        asked = []

        class Counting(PassingScheduler):
            def ready(self):
                asked.append(time.monotonic())
                return super().ready()

        run(CameraSource(2, seconds=0.2), scheduler=Counting())
        assert len(asked) <= 2 + 1  # once a frame, and drain

    def test_frames_are_stamped_and_their_age_is_told(self):
        sink, meter = MemorySink(), Meter()
        run(CameraSource(5, seconds=0.01), sink, pipeline_scheduler(0.02), meter=meter)
        stamps = [frame.captured for frame in sink.frames]
        assert stamps == sorted(stamps)
        assert abs(stamps[-1] - time.monotonic()) < 2
        assert 20 <= meter.age.p50 <= meter.age.p95 <= meter.age.max < 1000
        assert "age" not in meter.latencies()  # it is no stage: they add up to it

    def test_a_sources_own_stamp_stays_and_a_file_has_none(self):
        class Stamping(CameraSource):
            def __iter__(self):
                for frame in super().__iter__():
                    yield RawFrame(frame.pixels, frame.index, frame.pts, captured=1.5)

        sink, meter = MemorySink(), Meter()
        run(Stamping(2, seconds=0.01), sink)
        run(ClipSource(2), sink, meter=meter)
        assert [frame.captured for frame in sink.frames] == [1.5, 1.5, None, None]
        assert meter.age is None

    def test_frames_that_are_too_old_when_due_are_dropped_and_counted(self):
        class Hiccup(PassingScheduler):
            def submit(self, raw):
                time.sleep(0.15 if raw.index == 1 else 0)
                super().submit(raw)

        sink, meter = MemorySink(), Meter()
        source = CameraSource(30, seconds=0.01)
        run(source, sink, Hiccup(), meter=meter, max_age_ms=100)
        indices = [frame.index for frame in sink.frames]
        assert indices
        assert 1 not in indices  # it was computed for too long
        assert meter.age.max < 150
        assert meter.dropped + meter.frames_out == meter.frames_in == 30

    def test_where_all_are_too_old_it_says_so(self):
        class Old(CameraSource):
            def __iter__(self):
                for frame in super().__iter__():
                    yield RawFrame(frame.pixels, frame.index, captured=time.monotonic() - 9)

        sink = MemorySink()
        with pytest.raises(StreamError, match="every frame was older than max_age_ms=50 "):
            run(Old(3, seconds=0.01), sink, max_age_ms=50)
        assert sink.calls == ["open", "abort"]

    def test_a_bound_needs_the_policy_that_drops(self):
        with pytest.raises(ValueError, match="freshest"):
            run(ClipSource(), max_age_ms=50)

    def test_of_a_burst_the_newest_is_shown_next(self):
        class Slow(PassingScheduler):
            def submit(self, raw):
                time.sleep(0.02)
                super().submit(raw)

        sink, meter = MemorySink(), Meter()
        run(BurstSource(24, burst=8, seconds=0.2), sink, Slow(), meter=meter)
        assert {7, 15, 23} <= {frame.index for frame in sink.frames}
        assert meter.dropped >= 12


class Filing(MemorySink):
    """Writes a hidden file, which close() names: what stands under the final name is whole."""

    def __init__(self, folder):
        super().__init__()
        self.hidden, self.final = folder / ".out", folder / "out"

    def open(self, info):
        super().open(info)
        self.hidden.write_text("")

    def write(self, frame):
        super().write(frame)
        with self.hidden.open("a") as file:
            file.write(f"{frame.index}\n")

    def close(self, *, complete=True):
        super().close(complete=complete)
        with self.hidden.open("a") as file:
            file.write("index\n")
        self.hidden.rename(self.final)

    def abort(self):
        super().abort()
        self.hidden.unlink(missing_ok=True)


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signal.pthread_kill is missing on this system"
)
class TestCtrlC:
    """Presses come at all moments of a run of some 50 ms: before it, in it, and at its end."""

    @pytest.fixture(autouse=True)
    def ignored_by_python_itself(self, monkeypatch):
        # A press within a __del__ goes to this hook; pytest's own is long, and fails where the
        # second press comes in it.
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)

    @pytest.fixture(autouse=True)
    def frequent_switches(self):
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)
        yield
        sys.setswitchinterval(interval)

    def ran(self, presses, sink, scheduler, source=None):
        """Presses so many seconds after the start, until the run ends.

        Returns:
            The outcome, or None where the run raised `KeyboardInterrupt`, and how long it took.
        """
        armed, outcome = False, None
        main = threading.main_thread().ident

        def interrupt(*_):
            if armed:
                raise KeyboardInterrupt

        def press():
            for seconds in presses:
                time.sleep(max(0, begun + seconds - time.monotonic()))
                signal.pthread_kill(main, signal.SIGINT)

        source = source or CameraSource(20, seconds=0.002)
        runner = Runner(source, scheduler, sink, meter=Meter())
        presser, previous = threading.Thread(target=press), signal.signal(signal.SIGINT, interrupt)
        begun = time.monotonic()
        try:
            presser.start()
            try:
                armed = True
                outcome = runner.run()
            except KeyboardInterrupt:
                pass
            finally:
                armed = False
            took = time.monotonic() - begun
            presser.join()
        finally:
            signal.signal(signal.SIGINT, previous)
            if hasattr(scheduler, "close"):
                scheduler.close()
        return outcome, took

    def check(self, folder, outcome, sink):
        assert not sink.hidden.exists()
        if not sink.final.exists():
            assert "abort" in sink.calls or not sink.calls
            assert outcome is None or not sink.frames
            return
        *frames, end = sink.final.read_text().split()
        assert end == "index"
        assert frames == [str(index) for index in range(len(sink.frames))]
        assert frames
        assert outcome is None or outcome.interrupted or len(frames) == 20

    @pytest.mark.parametrize("scheduler", [PassingScheduler, pipeline_scheduler])
    @pytest.mark.parametrize("presses", [1, 2])
    def test_at_any_of_50_moments(self, tmp_path, presses, scheduler):
        kept = 0
        for moment in range(50):
            folder = tmp_path / str(moment)
            folder.mkdir()
            sink, before = Filing(folder), set(threading.enumerate())
            moments = [0.0012 * moment, 0.0012 * moment + 0.0003 * (moment % 7)][:presses]
            outcome, took = self.ran(moments, sink, scheduler())
            assert took < WITHIN, moment
            assert not threads_left(before), moment
            self.check(folder, outcome, sink)
            kept += bool(outcome and outcome.interrupted and sink.final.exists())
        assert kept >= 5  # else the moments miss the run

    def test_while_the_source_stalls(self, tmp_path):
        sink = Filing(tmp_path)
        outcome, took = self.ran([0.1], sink, PassingScheduler(), StalledSource(3))
        assert took < 0.1 + WITHIN / 2
        assert outcome.interrupted
        assert sink.final.read_text().split() == ["0", "1", "2", "index"]

    def test_while_a_source_stalls_that_cannot_be_stopped(self, tmp_path, stuck, caplog):
        sink = Filing(tmp_path)
        outcome, took = self.ran([0.1], sink, PassingScheduler(), stuck)
        assert took < 0.1 + WITHIN
        assert outcome.interrupted
        assert sink.final.read_text().split() == ["0", "1", "2", "index"]
        assert "its thread is left" in caplog.messages[0]

    def test_the_second_gives_up_a_sink_that_hangs(self, caplog):
        let_go = threading.Event()

        class Hanging(MemorySink):
            def write(self, frame):
                let_go.wait()

        sink = Hanging()
        outcome, took = self.ran([0.1, 0.3], sink, PassingScheduler(), ClipSource(None))
        assert outcome is None
        assert took < 0.3 + WITHIN
        assert caplog.messages == ["Hanging does not return; its thread is left"]
        assert sink.calls == ["open"]
        let_go.set()
        end = time.monotonic() + WITHIN
        while "abort" not in sink.calls:  # as soon as it returns
            assert time.monotonic() < end
            time.sleep(0.005)
