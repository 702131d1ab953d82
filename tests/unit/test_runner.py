"""A run ends whole, or at once with the first error; no thread is left either way."""

import signal
import threading
import time
from contextlib import nullcontext
from fractions import Fraction

import pytest
import torch

from cbs_core.contract.errors import (
    CbsError,
    DeviceLostError,
    LostError,
    PluginContractError,
    SinkClosedError,
    SinkError,
    SinkLostError,
    SourceError,
    SourceLostError,
)
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter
from cbs_core.run.channel import GLANCE, SLOTS, Channel, ClosedError
from cbs_core.run.runner import Outcome, Runner

SOON = 5.0
"""Seconds after which a test fails that should have gone on at once."""


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
    assert set(threading.enumerate()) <= before


def frame(index):
    return RawFrame(torch.zeros(2, 2, 3, dtype=torch.uint8), index, Fraction(index, 25))


class Source:
    """Frames 0 to ``count - 1``; raises ``error`` in place of the one after."""

    info = StreamInfo(2, 2)

    def __init__(self, count=10, error=None):
        self.count, self.error = count, error

    def __iter__(self):
        for index in range(self.count):
            yield frame(index)
        if self.error:
            raise self.error


class Scheduler:
    """Holds frames back until ``depth`` are in; raises ``error`` at frame ``at``."""

    def __init__(self, depth=0, error=None, at=3):
        self.held, self.depth, self.error, self.at = [], depth, error, at

    def submit(self, raw):
        if self.error and raw.index == self.at:
            raise self.error
        self.held.append(raw)

    def ready(self):
        while len(self.held) > self.depth:
            yield self.held.pop(0)

    def drain(self):
        while self.held:
            yield self.held.pop(0)


class Sink:
    """Notes what is called; raises ``error`` in the method ``at``."""

    def __init__(self, error=None, at=None):
        self.error, self.at, self.calls, self.frames = error, at, [], []

    def note(self, call):
        self.calls.append(call)
        if self.at and call.startswith(self.at):
            raise self.error

    def open(self, info):
        self.note("open")

    def write(self, frame):
        self.frames.append(frame.index)
        if self.at == "write" and len(self.frames) == 3:
            raise self.error

    def close(self, *, complete=True):
        self.note(f"close {complete}")

    def abort(self):
        self.note("abort")


def run(source=None, scheduler=None, sink=None, **options):
    meter = options.pop("meter", Meter())
    return Runner(
        source or Source(), scheduler or Scheduler(), sink or Sink(), meter=meter, **options
    ).run()


class TestChannel:
    def test_gives_items_in_order_and_what_is_left_after_closing(self):
        channel = Channel(slots=3)
        for item in "abc":
            channel.put(item)
        channel.close()
        assert [channel.get() for _ in range(3)] == list("abc")
        with pytest.raises(ClosedError):
            channel.get()
        with pytest.raises(ClosedError):
            channel.put("d")

    def test_discards_what_is_left_on_request(self):
        channel = Channel()
        channel.put("a")
        channel.close(discard=True)
        with pytest.raises(ClosedError):
            channel.get()

    def test_is_bounded(self):
        channel, put = Channel(slots=2), []

        def fill():
            for item in range(4):
                channel.put(item)
                put.append(item)

        thread = threading.Thread(target=fill)
        thread.start()
        wait_for(lambda: len(put) == 2)
        time.sleep(0.02)
        assert put == [0, 1]
        assert [channel.get() for _ in range(4)] == [0, 1, 2, 3]
        thread.join(SOON)

    def test_freshest_drops_the_oldest_and_counts(self):
        channel = Channel(slots=2, freshest=True)
        for item in range(5):
            channel.put(item)
        assert (channel.get(), channel.get(), channel.dropped) == (3, 4, 3)

    @pytest.mark.parametrize("end", ["get", "put"])
    def test_closing_wakes_a_waiting_end(self, end):
        channel, woken = Channel(slots=1), threading.Event()
        if end == "put":
            channel.put(0)

        def wait():
            try:
                channel.get() if end == "get" else channel.put(1)
            except ClosedError:
                woken.set()

        threading.Thread(target=wait).start()
        time.sleep(0.02)
        channel.close()
        assert woken.wait(SOON)


def wait_for(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [0, 2, 20])
def test_every_frame_reaches_the_sink_in_order(depth):
    sink, meter, ticks = Sink(), Meter(), []
    outcome = run(Source(10), Scheduler(depth), sink, meter=meter, progress=lambda: ticks.append(1))
    assert outcome == Outcome(interrupted=False)
    assert sink.frames == list(range(10))
    assert sink.calls == ["open", "close True"]
    assert (meter.frames_in, meter.frames_out, meter.dropped, len(ticks)) == (10, 10, 0, 10)
    assert {"decode", "encode"} <= meter.latencies().keys()


def test_a_slow_sink_holds_the_source_back():
    gate, read = threading.Event(), []

    class Blocking(Sink):
        def write(self, frame):
            gate.wait(SOON)
            super().write(frame)

    class Counting(Source):
        def __iter__(self):
            for raw in super().__iter__():
                read.append(raw.index)
                yield raw

    sink, frames = Blocking(), 50
    checker = threading.Thread(target=lambda: (time.sleep(0.1), seen.append(len(read)), gate.set()))
    seen = []
    checker.start()
    run(Counting(frames), sink=sink)
    checker.join()
    # Both channels full, one frame in the hands of each of the three threads.
    assert seen[0] <= 2 * SLOTS + 3
    assert sink.frames == list(range(frames))


def test_freshest_drops_late_frames_and_shows_them_as_gaps():
    class Slow(Scheduler):
        def submit(self, raw):
            time.sleep(0.005)
            super().submit(raw)

    sink, meter = Sink(), Meter()
    run(Source(40), Slow(), sink, meter=meter, policy="freshest")
    assert meter.frames_in == 40
    assert meter.dropped > 0
    assert meter.dropped + meter.frames_out == 40
    assert sink.frames == sorted(set(sink.frames))
    assert sink.frames[-1] == 39


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="every_frame"):
        run(policy="newest")


def test_an_empty_source_is_an_error():
    sink = Sink()
    with pytest.raises(SourceError, match="holds no frame"):
        run(Source(0), sink=sink)
    assert sink.calls == ["open", "abort"]


CASES = {
    "source": lambda error, sink: run(Source(3, error), sink=sink),
    "endless source": lambda error, sink: run(Source(10**9), Scheduler(error=error), sink),
    "pipeline": lambda error, sink: run(scheduler=Scheduler(error=error), sink=sink),
}


@pytest.mark.parametrize("part", CASES)
def test_a_failure_before_the_sink_ends_the_run_and_what_is_done_stays(part):
    error, sink = PluginContractError("a"), Sink()
    with pytest.raises(PluginContractError) as raised:
        CASES[part](error, sink)
    assert raised.value is error
    assert sink.frames == [0, 1, 2]
    assert sink.calls == ["open", "close False"]
    assert error.__notes__ == ["the output is closed, with 3 frames"]


def test_a_plugin_that_exits_is_an_error_and_what_is_done_stays():
    sink = Sink()
    with pytest.raises(PluginContractError, match=r"tried to end the program \(SystemExit: 0\)"):
        run(scheduler=Scheduler(error=SystemExit(0)), sink=sink)
    assert sink.calls == ["open", "close False"]


@pytest.mark.parametrize(
    ("at", "calls", "kept"),
    [("write", ["close False"], 2), ("close", ["close True", "close False"], 3)],
)
def test_a_sink_that_is_lost_keeps_what_it_has(at, calls, kept):
    class Lost(Sink):
        def close(self, *, complete=True):
            self.calls.append(f"close {complete}")
            if at == "close" and complete:
                raise self.error

    sink = Lost(SinkLostError("the disk is full"), at)
    runner = Runner(Source(3), Scheduler(), sink, meter=Meter())
    with pytest.raises(SinkLostError, match="full"):
        runner.run()
    assert sink.calls == ["open", *calls]
    assert runner.kept == kept


def test_a_sink_that_is_lost_and_cannot_close_is_aborted():
    class Lost(Sink):
        def close(self, *, complete=True):
            super().close(complete=complete)
            raise SinkLostError("still full")

    sink = Lost(SinkLostError("full"), "write")
    runner = Runner(Source(), Scheduler(), sink, meter=Meter())
    with pytest.raises(SinkLostError, match=r"^full$"):
        runner.run()
    assert sink.calls[-1] == "abort"
    assert runner.kept == 0


@pytest.mark.parametrize(("after", "calls"), [(0, ["abort"]), (4, ["close False"])])
def test_a_window_that_is_closed_ends_the_run(after, calls):
    class Window(Sink):
        def write(self, frame):
            if len(self.frames) == after:
                raise SinkClosedError
            super().write(frame)

    sink = Window()
    assert run(Source(10**9), sink=sink) == Outcome(interrupted=False)
    assert sink.frames == list(range(after))
    assert sink.calls == ["open", *calls]


@pytest.mark.parametrize("at", ["open", "write", "close"])
def test_a_failure_in_the_sink_ends_the_run(at):
    error = SinkError("full")
    sink = Sink(error, at)
    source = Source(10 if at == "close" else 10**9)
    with pytest.raises(SinkError) as raised:
        run(source, sink=sink)
    assert raised.value is error
    assert sink.calls[-1] == "abort"
    assert sink.calls.count("abort") == 1


@pytest.mark.parametrize("at", ["open", "write", "close"])
def test_what_a_strangers_sink_raises_becomes_one_line(at):
    with pytest.raises(
        SinkError, match=r"^the sink Sink of test_runner failed \(OSError: no room\)$"
    ) as raised:
        run(sink=Sink(OSError("no\n room"), at))
    assert isinstance(raised.value.__cause__, OSError)


def test_what_a_strangers_source_raises_becomes_one_line():
    with pytest.raises(
        SourceError, match=r"^source 'output' \(Source\) of test_runner failed \(KeyError: 'x'\)$"
    ):
        run(Source(0, KeyError("x")))


@pytest.mark.parametrize("depth", [0, 2, 20])
@pytest.mark.parametrize("error", [OSError("unplugged"), SourceLostError("unplugged")])
def test_where_the_source_is_lost_its_frames_are_kept(error, depth):
    sink = Sink()
    with pytest.raises(SourceLostError, match="unplugged"):
        run(Source(7, error), Scheduler(depth), sink)
    assert sink.frames == list(range(7))
    assert sink.calls == ["open", "close False"]


def test_where_the_device_is_lost_the_frames_so_far_are_kept():
    sink = Sink()
    error = torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel ...")
    with pytest.raises(DeviceLostError, match=r"^the device failed \(CUDA error: unsp.*failure\):"):
        run(Source(10**9), Scheduler(error=error, at=5), sink)
    assert sink.frames == [0, 1, 2, 3, 4]
    assert sink.calls == ["open", "close False"]


@pytest.mark.parametrize(
    ("source", "scheduler"),
    [
        (Source(0, OSError("unplugged")), None),
        (Source(), Scheduler(error=torch.AcceleratorError("CUDA error: gone"), at=0)),
    ],
)
def test_lost_before_the_first_frame_leaves_nothing(source, scheduler):
    sink = Sink()
    with pytest.raises(LostError):
        run(source, scheduler, sink)
    assert sink.calls == ["open", "abort"]


def test_a_sink_that_fails_over_what_is_kept_is_told_and_leaves_nothing(caplog):
    sink = Sink(SinkError("full"), "close")
    runner = Runner(Source(7, OSError("unplugged")), Scheduler(), sink, meter=Meter())
    with pytest.raises(SourceLostError, match="unplugged"):
        runner.run()
    assert sink.calls == ["open", "close False", "abort"]
    assert runner.kept == 0
    assert caplog.messages == ["and then: full"]


@pytest.mark.parametrize(
    ("source", "sink", "error"),
    [
        (Source(5), Sink(), None),
        (Source(5, OSError("lost")), Sink(), SourceLostError),
        (Source(5, SourceError("no")), Sink(), SourceError),
        (Source(5), Sink(SinkError("full"), "open"), SinkError),
        (Source(5), Sink(SinkError("full"), "write"), SinkError),
    ],
)
def test_the_scheduler_is_closed_however_the_run_ends(source, sink, error):
    closed = []

    class Closing(Scheduler):
        def close(self):
            closed.append(1)

    with pytest.raises(error) if error else nullcontext():
        run(source, Closing(), sink)
    assert closed == [1]


def test_no_memory_left_is_one_line():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")
    with pytest.raises(MemoryLimitError, match=r"2x2.*smaller"):
        run(scheduler=Scheduler(error=error))


def test_the_first_error_is_raised_though_others_follow():
    computing, first = threading.Event(), SourceError("first")

    class FailingSource(Source):
        def __iter__(self):
            yield frame(0)
            computing.wait(SOON)
            raise first

    class FailingScheduler(Scheduler):
        def submit(self, raw):
            computing.set()
            wait_for(lambda: runner._error is not None)
            raise PluginContractError("second")

    runner = Runner(FailingSource(), FailingScheduler(), Sink(), meter=Meter())
    with pytest.raises(SourceError) as raised:
        runner.run()
    assert raised.value is first


def test_an_error_in_abort_does_not_hide_the_first():
    class Stubborn(Sink):
        def abort(self):
            raise OSError("cannot remove")

    with pytest.raises(SourceError, match="first"):
        run(Source(3, SourceError("first")), sink=Stubborn())


def test_ctrl_c_keeps_what_is_done():
    sink = Sink()
    outcome = run(Source(10**9), Scheduler(error=KeyboardInterrupt(), at=5), sink)
    assert outcome.interrupted
    assert sink.frames == [0, 1, 2, 3, 4]
    assert sink.calls == ["open", "close False"]


def test_ctrl_c_before_the_first_frame_leaves_nothing():
    sink = Sink()
    assert run(Source(10), Scheduler(error=KeyboardInterrupt(), at=0), sink).interrupted
    assert sink.calls == ["open", "abort"]


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signal.pthread_kill is missing on this system"
)
def test_ctrl_c_while_the_last_frames_are_written_waits_for_them():
    class Slow(Sink):
        def write(self, frame):
            if frame.index == 9:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(3 * GLANCE)  # it may come just before a wait, which it does not end then
            super().write(frame)

    sink = Slow()
    assert run(Source(10), sink=sink).interrupted
    assert sink.frames == list(range(10))
    assert sink.calls == ["open", "close False"]


def test_an_error_after_ctrl_c_is_still_told():
    sink = Sink(SinkError("full"), "close")
    with pytest.raises(CbsError, match="full"):
        run(Source(10**9), Scheduler(error=KeyboardInterrupt(), at=5), sink)
    assert sink.calls == ["open", "close False", "abort"]


def test_the_source_failing_after_ctrl_c_does_not_cost_the_output():
    interrupted = threading.Event()

    class Cut(Source):
        def __iter__(self):
            yield frame(0)
            interrupted.wait(SOON)
            raise SourceError("cut off")

    class Interrupting(Scheduler):
        def ready(self):
            yield from super().ready()
            raise KeyboardInterrupt

    class Closing(Sink):
        def close(self, *, complete=True):
            super().close(complete=complete)
            interrupted.set()

    sink = Closing()
    assert run(Cut(), Interrupting(), sink).interrupted
    assert sink.frames == [0]
    assert sink.calls == ["open", "close False"]
