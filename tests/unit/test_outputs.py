"""Of several sinks one may end without ending the others."""

import threading
import time

import pytest

from cbs_core.contract.errors import SinkClosedError, SinkError, SinkLostError, SourceError
from cbs_core.machine.meter import Meter
from cbs_core.run.outputs import Outputs
from cbs_core.run.runner import Outcome, Runner
from cbs_core.testing.runs import (
    CameraSource,
    ClipSource,
    FailingSink,
    FailingSource,
    MemorySink,
    PassingScheduler,
    threads_left,
)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert not threads_left(before)


class Window(MemorySink):
    """Shows frames, each for ``seconds``; its user closes it after ``count``."""

    live = True

    def __init__(self, count=None, seconds=0.0):
        super().__init__()
        self.count, self.seconds = count, seconds

    def write(self, frame):
        if len(self.frames) == self.count:
            raise SinkClosedError
        time.sleep(self.seconds)
        super().write(frame)


def run(*sinks, source=None):
    source = source or ClipSource(10)
    policy = "freshest" if source.info.live else "every_frame"
    runner = Runner(source, PassingScheduler(), Outputs(sinks), meter=Meter(), policy=policy)
    return runner.run(), runner


def indices(sink):
    return [frame.index for frame in sink.frames]


def test_each_is_given_every_frame_and_closed():
    sinks = [MemorySink(), MemorySink(), MemorySink()]
    outcome, runner = run(*sinks)
    assert outcome == Outcome(interrupted=False)
    assert runner.kept == 10
    for sink in sinks:
        assert indices(sink) == list(range(10))
        assert sink.calls == ["open", "close True"]


def test_each_writes_in_a_thread_of_its_own():
    names = set()

    class Naming(MemorySink):
        def write(self, frame):
            names.add((id(self), threading.current_thread().name))

        def close(self, *, complete=True):
            names.add((id(self), threading.current_thread().name))

    run(Naming(), Naming())
    assert sorted(name for _, name in names) == ["cbs-output-1", "cbs-output-2"]


@pytest.mark.alone
def test_a_slow_window_holds_nothing_up_and_shows_the_newest():
    window, file, source = Window(seconds=0.1), MemorySink(), CameraSource(30, seconds=0.01)
    outputs, meter = Outputs([window, file]), Meter()
    begun = time.monotonic()
    Runner(source, PassingScheduler(), outputs, meter=meter, policy="freshest").run()
    assert time.monotonic() - begun < 1  # 30 frames take the window 3 s
    assert len(file.frames) == meter.frames_out == 30 - meter.dropped
    assert indices(window) == sorted(set(indices(window)))
    assert indices(window)[-1] == indices(file)[-1] == 29
    assert outputs.dropped == len(file.frames) - len(window.frames) > 10


def test_a_slow_file_gets_every_frame():
    class Slow(MemorySink):
        def write(self, frame):
            time.sleep(0.005)
            super().write(frame)

    slow, quick = Slow(), MemorySink()
    run(slow, quick, source=ClipSource(30))
    assert indices(slow) == indices(quick) == list(range(30))


def test_a_window_that_is_closed_ends_alone():
    window, file = Window(3), MemorySink()
    outcome, _ = run(window, file)
    assert outcome == Outcome(interrupted=False)
    assert indices(file) == list(range(10))
    assert window.calls == ["open", "close False"]
    assert file.calls == ["open", "close True"]


def test_when_all_windows_are_closed_the_run_ends():
    windows = [Window(3), Window(5)]
    assert run(*windows, source=ClipSource(None))[0] == Outcome(interrupted=False)
    assert [window.calls for window in windows] == [["open", "close False"]] * 2


def test_one_that_fails_ends_alone_and_is_told(caplog):
    failing, file = FailingSink(3), MemorySink()
    run(failing, file)
    assert failing.calls == ["open", "abort"]
    assert (indices(file), file.calls) == (list(range(10)), ["open", "close True"])
    assert caplog.messages == ["FailingSink ended early and is removed: no space left"]


def test_one_that_is_lost_keeps_what_it_has_and_is_told(caplog):
    lost, file = FailingSink(3, SinkLostError("the server left")), MemorySink()
    run(lost, file)
    assert lost.calls == ["open", "close False"]
    assert file.calls == ["open", "close True"]
    assert caplog.messages == [
        "FailingSink ended early and is closed with what it has: the server left"
    ]


def test_when_all_fail_the_first_is_raised_and_the_others_are_told(caplog):
    first, second = FailingSink(3, SinkError("first")), FailingSink(5, OSError("second"))
    with pytest.raises(SinkError, match=r"^first$"):
        run(first, second, source=ClipSource(None))
    assert first.calls == second.calls == ["open", "abort"]
    assert caplog.messages == [
        "FailingSink ended early and is removed: the sink failed (OSError: second)"
    ]


def test_when_one_fails_and_the_other_is_closed_what_is_done_stays():
    failing, window = FailingSink(3), Window(5)
    with pytest.raises(SinkLostError, match="no space left"):
        run(failing, window, source=ClipSource(None))
    assert failing.calls == ["open", "abort"]
    assert window.calls == ["open", "close False"]


def test_where_one_cannot_be_opened_no_other_is_left():
    class Unwritable(MemorySink):
        def open(self, info):
            raise OSError("read-only")

    sinks = [MemorySink(), Unwritable(), MemorySink()]
    with pytest.raises(
        SinkError, match=r"the sink Unwritable of test_outputs failed \(OSError: read-only\)"
    ):
        run(*sinks)
    assert [sink.calls for sink in sinks] == [["open", "abort"], ["abort"], []]


def test_an_error_of_the_source_closes_each_with_what_it_has():
    sinks = [MemorySink(), MemorySink()]
    with pytest.raises(SourceError, match="damaged"):
        run(*sinks, source=FailingSource(4))
    for sink in sinks:
        assert indices(sink) == [0, 1, 2, 3]
        assert sink.calls == ["open", "close False"]


def test_without_a_frame_each_is_aborted():
    sinks = [MemorySink(), MemorySink()]
    with pytest.raises(SourceError, match="damaged"):
        run(*sinks, source=FailingSource(0))
    assert [sink.calls for sink in sinks] == [["open", "abort"]] * 2


def test_one_that_fails_in_closing_does_not_cost_the_others(caplog):
    class Failing(MemorySink):
        def close(self, *, complete=True):
            super().close(complete=complete)
            raise SinkError("full")

    failing, file = Failing(), MemorySink()
    run(failing, file)
    assert failing.calls == ["open", "close True", "abort"]
    assert file.calls == ["open", "close True"]
    assert caplog.messages == ["Failing ended early and is removed: full"]
    with pytest.raises(SinkError, match="full"):
        run(Failing(), Failing())


def test_it_takes_at_least_one():
    with pytest.raises(ValueError, match="at least one"):
        Outputs([])
