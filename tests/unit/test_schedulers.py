"""Frames overlap, come once and in order, and every thread ends; `serial` is the oracle."""

import _thread
import os
import signal
import sys
import threading
import time
import weakref
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch

from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.machine.meter import Meter
from cbs_core.run.runner import Runner
from cbs_core.run.schedulers import auto
from cbs_core.run.schedulers import pipeline as pipelined
from cbs_core.run.schedulers.auto import AutoScheduler
from cbs_core.run.schedulers.pipeline import DEPTH, PipelineScheduler
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.run.schedulers.streams import StreamsScheduler
from cbs_core.run.stream import Stream
from tests.streams import stream_of

TOGETHER = partial(PipelineScheduler, nets="together")
THREADED = [PipelineScheduler, TOGETHER, AutoScheduler]
SCHEDULERS = [SerialScheduler, *THREADED]

STAGE = 0.02
"""Seconds that a sleeping stage takes."""


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def frame(index, side=8):
    pixels = torch.full((side, side, 3), (37 * index) % 256, dtype=torch.uint8)
    return RawFrame(pixels, index, Fraction(index, 25))


def light_frame(index, side=8):
    """One whose class is there, so that the style's net is run."""
    return RawFrame(torch.full((side, side, 3), 200, dtype=torch.uint8), index)


def scores(image):
    light = image.mean(1, keepdim=True)
    return torch.cat([0.5 - light, light - 0.5], 1)


def negative(image):
    return 1 - image


def build(segment=scores, style=negative):
    routes = [Route(("light",), "negative")]
    return stream_of(
        segmenter=Stage(segment, "segmenter 's' of x 1"),
        stylers={routes[0].style: Stage(style, "styler 't' of x 1")},
        compositor=Stage(torch.lerp, "compositor 'c' of x 1"),
        regions=Regions(("dark", "light"), [("light",)], "soft"),
        routes=routes,
        device=torch.device("cpu"),
    )


def sleeping(call, seconds=STAGE):
    def run(image):
        time.sleep(seconds)
        return call(image)

    return run


class Source:
    info = StreamInfo(8, 8)

    def __init__(self, count, seconds=0.0):
        self.count, self.seconds = count, seconds

    def __iter__(self):
        for index in range(self.count):
            time.sleep(self.seconds)
            yield frame(index)


class Sink:
    def __init__(self, seconds=0.0):
        self.seconds, self.frames, self.calls = seconds, [], []

    def open(self, info):
        self.calls.append("open")

    def write(self, done):
        time.sleep(self.seconds)
        self.frames.append(done)

    def close(self, *, complete=True):
        self.calls.append(f"close {complete}")

    def abort(self):
        self.calls.append("abort")


def run(kind, pipeline, *, count=30, seconds=0.0, sink=None, meter=None):
    """Runs a clip; returns what the sink got."""
    meter, sink = meter or Meter(), sink or Sink(seconds)
    Runner(Source(count, seconds), kind(pipeline, meter=meter), sink, meter=meter).run()
    return sink.frames


@pytest.mark.alone
def test_four_stages_that_sleep_take_hardly_longer_than_one():
    # All of each frame is light: where nothing is to be restyled nobody styles.
    light = sleeping(lambda image: scores(torch.ones_like(image)))
    pipeline = build(light, sleeping(negative))
    meters = {kind: Meter() for kind in (SerialScheduler, TOGETHER)}
    for kind, meter in meters.items():
        assert len(run(kind, pipeline, count=25, seconds=STAGE, meter=meter)) == 25
    serial, overlapped = (meter.overlap for meter in meters.values())
    # Decode and encode are beside the nets in both.
    assert serial.wall > 1.9 * STAGE * 1e3
    assert overlapped.wall < 1.6 * STAGE * 1e3
    assert overlapped.sequence > 3.9 * STAGE * 1e3
    assert overlapped.saved > 0.55 > serial.saved


@pytest.mark.parametrize("kind", THREADED)
def test_a_plugin_with_state_sees_the_frames_in_order(kind):
    def build_counting():
        seen = {"segment": 0, "style": 0}

        def segment(image):
            seen["segment"] += 1
            time.sleep(0.001 * (seen["segment"] % 3))
            return scores(image) + 0.01 * seen["segment"]

        def style(image):
            seen["style"] += 1
            time.sleep(0.001 * (seen["style"] % 2))
            return (1 - image) / seen["style"]

        return build(segment, style)

    want, have = run(SerialScheduler, build_counting()), run(kind, build_counting())
    assert [done.index for done in have] == list(range(30))
    assert [done.pts for done in have] == [done.pts for done in want]
    for ours, oracle in zip(have, want, strict=True):
        assert torch.equal(ours.pixels, oracle.pixels)


@pytest.mark.parametrize("part", ["segment", "style"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_an_error_comes_at_its_frames_turn(kind, part):
    calls = {"segment": 0, "style": 0}

    def failing(name, call):
        def step(image):
            calls[name] += 1
            if name == part and calls[name] == 15:
                raise ValueError("fifteenth")
            return call(image)

        return step

    pipeline = build(failing("segment", scores), failing("style", lambda image: 1 - image))
    scheduler, done = kind(pipeline, meter=Meter()), []

    def drive():
        for index in range(60):
            scheduler.submit(light_frame(index))
            done.extend(frame.index for frame in scheduler.ready())

    with pytest.raises(PluginContractError, match=r"ValueError: fifteenth"):
        drive()
    if kind is not SerialScheduler:
        scheduler.close()
    assert done == list(range(14))


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_ctrl_c_keeps_what_is_done(kind):
    calls = []

    def segment(image):
        calls.append(1)
        time.sleep(0.002)
        if len(calls) == 20:
            _thread.interrupt_main()
        return scores(image)

    sink, meter = Sink(), Meter()
    # Enough frames not to end first, and few enough to end soon where Ctrl-C is lost.
    runner = Runner(Source(1000), kind(build(segment), meter=meter), sink, meter=meter)
    assert runner.run().interrupted
    indices = [done.index for done in sink.frames]
    assert indices == list(range(len(indices)))
    assert 15 <= len(indices) <= 21
    assert sink.calls == ["open", "close False"]


def test_frames_under_way_are_bounded_and_let_go():
    alive = weakref.WeakSet()
    most = 0

    def segment(image):
        nonlocal most
        alive.add(image)
        most = max(most, len(alive))
        return scores(image)

    scheduler = TOGETHER(build(segment, sleeping(negative, 0.002)), meter=Meter())
    count = 0
    for index in range(60):
        scheduler.submit(frame(index))
        count += sum(1 for _ in scheduler.ready())
        assert index + 1 - count <= DEPTH
    assert sum(1 for _ in scheduler.drain()) == 60 - count
    scheduler.close()
    assert most <= DEPTH + 1  # the newest one's predecessor may be about to be let go


def test_closing_ends_the_threads_and_may_be_repeated():
    scheduler = PipelineScheduler(build(sleeping(scores)), meter=Meter())
    for index in range(2):
        scheduler.submit(frame(index))
    scheduler.close()
    scheduler.close()
    assert list(scheduler.drain()) == []


def test_what_is_seen_is_what_serial_shows():
    def observed(kind):
        seen = []
        scheduler = kind(build(), meter=Meter(), observe=lambda raw, r: seen.append((raw.index, r)))
        for index in range(20):
            scheduler.submit(frame(index))
            list(scheduler.ready())
        list(scheduler.drain())
        if kind is not SerialScheduler:
            scheduler.close()
        return seen

    for ours, oracle in zip(observed(TOGETHER), observed(SerialScheduler), strict=True):
        assert ours[0] == oracle[0]
        assert torch.equal(ours[1].image, oracle[1].image)
        assert ours[1].shown == oracle[1].shown


@pytest.mark.skipif(sys.platform != "linux", reason="a thread's own priority is Linux's")
def test_the_segmentation_gives_way():
    nice = {}

    def noting(name, call):
        def step(image):
            nice[name] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return call(image)

        return step

    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    run(PipelineScheduler, build(noting("segment", scores), noting("style", negative)), count=5)
    assert nice["style"] == mine
    assert nice["segment"] == min(mine + 10, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine


@pytest.mark.alone
class TestNets:
    """What `pipeline` does with both nets: side by side, or one after the other."""

    enough = 2 * pipelined.ROUNDS * pipelined.DEPTH * (1 + pipelined.TURN) + 5

    def drive(self, pipeline, count, **params):
        scheduler = PipelineScheduler(pipeline, meter=Meter(), **params)
        for index in range(count):
            scheduler.submit(light_frame(index))
            list(scheduler.ready())
        list(scheduler.drain())
        scheduler.close()
        return scheduler

    def busy(self):
        """Returns how many nets were under way at most, and a pipeline whose nets say so."""
        most, now = [0], []

        def net(call):
            def run(image):
                now.append(1)
                most[0] = max(most[0], len(now))
                time.sleep(0.004)
                now.pop()
                return call(image)

            return run

        return most, build(net(scores), net(negative))

    @pytest.mark.parametrize(("nets", "most"), [("together", 2), ("in_turn", 1)])
    def test_one_at_a_time_or_both(self, nets, most):
        seen, pipeline = self.busy()
        scheduler = self.drive(pipeline, 10, nets=nets)
        assert seen == [most]
        assert scheduler.choice == f"pipeline, nets {nets.replace('_', ' ')}"

    def test_in_turn_a_frame_is_restyled_before_the_next_is_segmented(self):
        order = []

        def noting(name, call):
            def run(image):
                order.append(name)
                return call(image)

            return run

        pipeline = build(noting("segment", scores), noting("style", negative))
        scheduler = PipelineScheduler(pipeline, meter=Meter(), nets="in_turn")
        restyle = scheduler._restyle

        def late(half):
            time.sleep(0.005)  # the segmentation's thread is on its way to the next frame
            return restyle(half)

        scheduler._restyle = late
        for index in range(6):
            scheduler.submit(light_frame(index))
        assert sum(1 for _ in scheduler.drain()) == 6
        scheduler.close()
        assert order == ["segment", "style"] * 6

    def test_no_other_way(self):
        with pytest.raises(ConfigError, match=r"scheduler.nets=both is none of auto, together, in"):
            PipelineScheduler(build(), meter=Meter(), nets="both")

    def test_nets_that_leave_cores_idle_are_done_together(self):
        pipeline = build(sleeping(scores, 0.01), sleeping(negative, 0.01))
        scheduler = self.drive(pipeline, self.enough)
        assert scheduler.choice.startswith("pipeline, nets together (")
        assert "ms a frame, in turn " in scheduler.choice

    def test_nets_that_need_all_cores_are_done_in_turn(self):
        cores = threading.Lock()

        def filling(call):
            def run(image):
                crowded = not cores.acquire(blocking=False)
                if crowded:
                    cores.acquire()
                time.sleep(0.03 if crowded else 0.008)
                cores.release()
                return call(image)

            return run

        scheduler = self.drive(build(filling(scores), filling(negative)), self.enough)
        assert scheduler.choice.startswith("pipeline, nets in turn (")
        assert "ms a frame, together " in scheduler.choice

    def test_a_few_frames_are_done_in_turn(self):
        seen, pipeline = self.busy()
        scheduler = self.drive(pipeline, pipelined.TURN)
        assert seen == [1]
        assert "too few frames" in scheduler.choice

    @pytest.mark.parametrize(
        ("beside", "frames", "choice"),
        [
            ([0.08, 0.08], 16, "nets together (80.0 ms a frame, in turn 100.0 ms)"),
            ([0.098], 8, "nets in turn (100.0 ms a frame, together 98.0 ms)"),
            ([0.15], 8, "nets in turn (100.0 ms a frame, together 150.0 ms)"),
            ([0.08, 0.3], 16, "nets in turn (100.0 ms a frame, together 190.0 ms)"),
        ],
    )
    def test_the_faster_is_kept_by_a_clear_margin(self, monkeypatch, beside, frames, choice):
        now, together = [0.0], 0
        monkeypatch.setattr(pipelined.time, "perf_counter", lambda: now[0])
        turns, times = pipelined.Turns(), iter(beside)
        seconds = next(times)
        for index in range(self.enough):
            now[0] += seconds if turns.together else 0.1
            if index == 2:  # a disturbance, in the frames that no turn counts
                now[0] += 9
            was = turns.together
            together += was and not turns.choice.endswith(" ms)")
            turns.came_out()
            if was and not turns.together:
                seconds = next(times, seconds)
        assert turns.choice == choice
        assert together == frames


@pytest.mark.alone
class TestAuto:
    trial = 1 + 2 * auto.ROUNDS * auto.TURN

    def drive(self, pipeline, count):
        scheduler, done = AutoScheduler(pipeline, meter=Meter()), []
        for index in range(count):
            scheduler.submit(frame(index))
            done.extend(scheduler.ready())
        done.extend(scheduler.drain())
        scheduler.close()
        assert [one.index for one in done] == list(range(count))
        return scheduler

    def test_it_takes_what_overlaps_where_that_pays(self):
        pipeline = build(sleeping(scores, 0.01), sleeping(negative, 0.01))
        scheduler = self.drive(pipeline, self.trial + 10)
        assert scheduler.choice.startswith("pipeline (")
        assert scheduler._current == "pipeline"
        assert "ms a frame, serial " in scheduler.choice

    @pytest.mark.parametrize(
        ("seconds", "rounds", "choice"),
        [
            (0.08, auto.ROUNDS, "pipeline (80.0 ms a frame, serial 100.0 ms)"),
            (0.098, 1, "serial (100.0 ms a frame, pipeline 98.0 ms)"),
            (0.15, 1, "serial (100.0 ms a frame, pipeline 150.0 ms)"),
        ],
    )
    def test_the_faster_is_kept_by_a_clear_margin(self, monkeypatch, seconds, rounds, choice):
        now, ran = [0.0], []

        def taking(seconds, name):
            class Scheduler(SerialScheduler):
                def __init__(self, stream, *, nets="together", **rest):
                    assert nets == "together"
                    super().__init__(stream, **rest)

                def submit(self, raw):
                    ran.append(name)
                    # The first of all, and a disturbance now and then.
                    now[0] += 9.0 if len(ran) in (1, 4, 17) else seconds
                    super().submit(raw)

            return Scheduler

        monkeypatch.setattr(auto.time, "perf_counter", lambda: now[0])
        monkeypatch.setattr(auto, "SerialScheduler", taking(0.1, "serial"))
        monkeypatch.setattr(auto, "PipelineScheduler", taking(seconds, "pipeline"))
        scheduler = self.drive(build(), self.trial + 10)
        assert scheduler.choice == choice
        turns = ["serial"] * auto.TURN + ["pipeline"] * auto.TURN
        rest = self.trial + 10 - 1 - rounds * len(turns)
        assert ran == ["serial", *turns * rounds, *[choice.split()[0]] * rest]

    def test_one_picture_is_serials(self):
        names = []

        def segment(image):
            names.append(threading.current_thread().name)
            return scores(image)

        assert "too few frames to try pipeline" in self.drive(build(segment), 1).choice
        assert names == ["MainThread"]

    def test_a_clip_that_ends_in_the_trial_is_whole(self):
        scheduler = self.drive(build(), 1 + auto.TURN + 3)
        assert "in turn" in scheduler.choice

    def test_slow_frames_are_left_where_they_can_be_interrupted(self, monkeypatch):
        monkeypatch.setattr(auto, "SLOW", 0.001)
        scheduler = self.drive(build(sleeping(scores, 0.003)), 20)
        assert scheduler.choice.startswith("serial (a frame takes")

    def test_the_trials_frames_equal_serials(self):
        count = self.trial + 5
        want, have = (
            run(SerialScheduler, build(), count=count),
            run(AutoScheduler, build(), count=count),
        )
        for ours, oracle in zip(have, want, strict=True):
            assert torch.equal(ours.pixels, oracle.pixels)


@pytest.mark.parametrize(
    ("kind", "device"), [(PipelineScheduler, "cuda"), (StreamsScheduler, "cpu")]
)
def test_the_wrong_device_is_refused(kind, device):
    pipeline = Stream(replace(build().plan, device=torch.device(device)))
    with pytest.raises(ConfigError, match=r"say scheduler=\w+ or scheduler=auto$"):
        kind(pipeline, meter=Meter())


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signal.pthread_kill is missing on this system"
)
def test_ctrl_c_again_while_closing_does_not_lose_a_thread():
    ended = threading.Event()

    def style(image):
        time.sleep(0.6)
        ended.set()
        return 1 - image

    scheduler = PipelineScheduler(build(style=style), meter=Meter())
    press = partial(signal.pthread_kill, threading.main_thread().ident, signal.SIGINT)
    presses = [threading.Timer(seconds, press) for seconds in (0.2, 0.4)]
    for timer in presses:
        timer.start()

    def drive():
        for index in range(DEPTH + 1):
            scheduler.submit(light_frame(index))

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert not ended.is_set()
    with pytest.raises(KeyboardInterrupt):
        scheduler.close()
    assert not ended.is_set()
    # Python waits at its end for threads that it knows to be alive.
    assert "cbs-restyle" in {t.name for t in threading.enumerate() if t.is_alive()}
    scheduler.close()
    assert ended.is_set()
    for timer in presses:
        timer.join()
