"""Times and counts, by a clock that the test sets."""

import threading

import pytest
import torch

from cbs_core.machine import meter as module
from cbs_core.machine.meter import Latency, Meter


@pytest.fixture
def clock(monkeypatch):
    """Seconds; the test moves it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def spend(meter, clock, name, milliseconds):
    with meter.stage(name):
        clock[0] += milliseconds / 1e3


def test_percentiles_of_each_stage(clock):
    meter = Meter()
    for milliseconds in range(100, 0, -1):
        spend(meter, clock, "segment", milliseconds)
    spend(meter, clock, "style", 7)
    segment, style = meter.latencies().values()
    assert (segment.p50, segment.p95, segment.max) == pytest.approx((50, 95, 100))
    assert style == Latency(*[pytest.approx(7)] * 3)
    assert list(meter.latencies()) == ["segment", "style"]
    assert meter.last() == {"segment": pytest.approx(1), "style": pytest.approx(7)}


def test_rate_counts_from_the_first_stage_to_the_last_frame(clock):
    meter = Meter()
    clock[0] += 50
    for _ in range(4):
        spend(meter, clock, "decode", 500)
        meter.frame_out()
    clock[0] += 50
    assert (meter.frames_out, meter.seconds, meter.fps) == (4, pytest.approx(2), pytest.approx(2))


def test_overlap_is_the_stages_in_sequence_against_the_clock(clock):
    meter = Meter()
    spend(meter, clock, "decode", 10)
    meter.frame_out()
    assert meter.overlap is None
    for _ in range(3):
        meter.add("segment", 30)  # beside the rest
        spend(meter, clock, "decode", 10)
        meter.frame_out()
    overlap = meter.overlap
    assert (overlap.sequence, overlap.wall) == (pytest.approx(130 / 4), pytest.approx(10))
    assert overlap.saved == pytest.approx(1 - 40 / 130)


def test_waiting_for_a_slow_source_is_no_negative_overlap(clock):
    meter = Meter()
    for _ in range(2):
        spend(meter, clock, "style", 10)
        clock[0] += 5
        meter.frame_out()
    assert meter.overlap.saved == 0


def test_a_stage_timed_elsewhere_starts_the_clock(clock):
    meter = Meter()
    meter.add("segment", 500)
    meter.frame_out()
    assert meter.seconds == pytest.approx(0.5)


def test_nothing_done_is_nothing(clock):
    meter = Meter()
    assert (meter.seconds, meter.fps, meter.latencies(), meter.last()) == (0, 0, {}, {})
    spend(meter, clock, "decode", 5)
    assert (meter.seconds, meter.fps) == (0, 0)


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyboardInterrupt])
def test_a_block_that_raises_is_not_counted(error):
    meter = Meter()
    with pytest.raises(error), meter.stage("decode"):
        raise error
    assert meter.latencies() == {}


def test_an_endless_stream_does_not_grow(monkeypatch):
    monkeypatch.setattr(module, "HISTORY", 10)
    meter = Meter()
    for _ in range(50):
        with meter.stage("decode"):
            pass
    assert len(meter._stages["decode"]) == 10


def test_only_a_device_that_works_asynchronously_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    meter = Meter()
    for device in (None, torch.device("cpu"), torch.device("cuda", 1)):
        with meter.stage("style", device=device):
            pass
    assert waited == [torch.device("cuda", 1)]


def test_it_can_be_read_while_other_threads_time():
    meter, stop = Meter(), threading.Event()

    def work(name):
        for number in range(10**9):
            if stop.is_set():
                return
            with meter.stage(f"{name}{number % 50}"):
                pass

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            meter.last()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
