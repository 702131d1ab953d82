"""`streams`: the order of its launches, seen through a CUDA that only takes notes, and on a GPU."""

import weakref
from contextlib import contextmanager

import pytest
import torch
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.johnson import TransformerNet

from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.machine.meter import Meter
from cbs_core.run.schedulers import streams as module
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.run.schedulers.streams import DEPTH, STAGES, StreamsScheduler
from cbs_core.testing import no_device_wait, raw_frame
from cbs_core.words import vocabularies
from tests.streams import stream_of


def build(device="cpu", segment=None, style=None):
    def scores(image):
        light = image.mean(1, keepdim=True)
        return torch.cat([0.5 - light, light - 0.5], 1)

    routes = [Route(("light",), "negative")]
    return stream_of(
        segmenter=Stage(segment or scores, "segmenter 's' of x 1"),
        stylers={routes[0].style: Stage(style or (lambda image: 1 - image), "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("dark", "light"), [("light",)]),
        routes=routes,
        device=torch.device(device),
    )


def clip(count, height=48, width=80):
    return [raw_frame(height, width, index) for index in range(count)]


def drive(scheduler, frames):
    done = []
    for raw in frames:
        scheduler.submit(raw)
        done.extend(scheduler.ready())
    done.extend(scheduler.drain())
    return done


class Notes:
    """A CUDA whose streams run everything at once, and note what was asked of them."""

    def __init__(self):
        self.log, self.current, self.streams = [], None, []

        class Event:
            def __init__(event, enable_timing=False):
                assert enable_timing

            def record(event):
                event.stream = self.current
                self.log.append(("record", self.current.name, event))

            def synchronize(event):
                self.log.append(("wait", event.stream.name, event))

            def query(event):
                return False

            def elapsed_time(event, end):
                return 1.0

        class Stream:
            def __init__(stream, device):
                stream.name = STAGES[len(self.streams)]
                self.streams.append(stream)

            def wait_event(stream, event):
                self.log.append(("after", stream.name, event.stream.name, event))

        @contextmanager
        def stream(one):
            assert self.current is None
            self.current = one
            yield
            self.current = None

        self.Event, self.Stream, self.stream = Event, Stream, stream

    def synchronize(self, device): ...


class OnCuda:
    """A pipeline on the CPU that says it is on a GPU."""

    device = torch.device("cuda")

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def __getattr__(self, name):
        return getattr(self.pipeline, name)


@pytest.fixture
def cuda(monkeypatch):
    notes = Notes()
    monkeypatch.setattr(module, "cuda", notes)
    monkeypatch.setattr(module, "_pinned_like", torch.empty_like)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    return notes


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_frames_equal_serials(cuda, count):
    frames = clip(count)
    want = drive(SerialScheduler(build(), meter=Meter()), frames)
    meter = Meter()
    have = drive(StreamsScheduler(OnCuda(build()), meter=meter), frames)
    assert [(f.index, f.pts) for f in have] == [(f.index, f.pts) for f in want]
    for ours, oracle in zip(have, want, strict=True):
        assert torch.equal(ours.pixels, oracle.pixels)
    assert list(meter.latencies()) == (list(STAGES) if count else [])


def test_each_stage_runs_on_its_stream_behind_what_it_reads(cuda):
    drive(StreamsScheduler(OnCuda(build()), meter=Meter()), clip(8))
    assert len(cuda.streams) == len(STAGES)
    after = {(entry[1], entry[2]) for entry in cuda.log if entry[0] == "after"}
    assert after == {
        ("segment", "upload"),
        ("matte", "segment"),
        ("style", "matte"),
        ("composite", "style"),
        ("download", "composite"),
    }
    # An event waited for was recorded before, and by the same frame: nothing of a slot's next one.
    ended = {}
    for number, entry in enumerate(cuda.log):
        if entry[0] == "record":
            ended[id(entry[2])] = number
        elif entry[0] == "after":
            assert id(entry[3]) in ended


def test_the_mattes_are_asked_for_one_frame_behind(cuda):
    segmented, styled = [], []

    def segment(image):
        segmented.append(len(styled))
        light = image.mean(1, keepdim=True)
        return torch.cat([0.5 - light, light - 0.5], 1)

    def style(image):
        styled.append(len(segmented))
        return 1 - image

    drive(StreamsScheduler(OnCuda(build(segment=segment, style=style)), meter=Meter()), clip(8))
    # Frame n is launched for segmentation before frame n - 1 is for its style.
    assert segmented == [0, 0, 1, 2, 3, 4, 5, 6]
    assert styled == [2, 3, 4, 5, 6, 7, 8, 8]


def test_the_only_event_waited_for_is_the_download_a_ring_ago(cuda):
    scheduler = StreamsScheduler(OnCuda(build()), meter=Meter())
    for number, raw in enumerate(clip(8)):
        cuda.log.clear()
        scheduler.submit(raw)
        waits = [entry[1] for entry in cuda.log if entry[0] == "wait"]
        assert waits == (["download"] if number >= DEPTH else [])
        assert [f.index for f in scheduler.ready()] == ([number - DEPTH] if number >= DEPTH else [])


def test_a_frames_tensors_live_until_its_download_has_ended(cuda, monkeypatch):
    images, gone = [], []

    def style(image):
        images.append(weakref.ref(image))
        return 1 - image

    scheduler = StreamsScheduler(OnCuda(build(style=style)), meter=Meter())
    real = cuda.Event.synchronize

    def synchronize(event):
        gone.append(images[len(gone)]() is None)
        real(event)

    monkeypatch.setattr(cuda.Event, "synchronize", synchronize)
    done = drive(scheduler, clip(8))
    assert gone == [False] * 8
    assert len(done) == 8
    assert [image() for image in images] == [None] * 8


def test_a_style_that_is_absent_is_not_run(cuda):
    ran = []

    def style(image):
        ran.append(1)
        return 1 - image

    frames = clip(6)
    for raw in frames[::2]:
        raw.pixels.zero_()
    drive(StreamsScheduler(OnCuda(build(style=style)), meter=Meter()), frames)
    assert len(ran) == 3


def test_closing_drops_what_is_under_way(cuda):
    scheduler = StreamsScheduler(OnCuda(build()), meter=Meter())
    for raw in clip(2):
        scheduler.submit(raw)
    scheduler.close()
    scheduler.close()
    assert list(scheduler.drain()) == []
    assert len(scheduler._free) == DEPTH


# On a GPU ------------------------------------------------------------------------------------


def nets():
    torch.manual_seed(0)
    names = tuple(vocabularies.get("cityscapes"))
    segmenter, styler = DABNet(len(names)), TransformerNet(16)
    for net in (segmenter, styler):
        net.eval().requires_grad_(False).to("cuda")
    routes = [Route(names[:10], "johnson")]
    return stream_of(
        segmenter=Stage(segmenter, "segmenter 's' of x 1"),
        stylers={routes[0].style: Stage(lambda i: styler(i).clamp(0, 1), "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(names, [route.classes for route in routes]),
        routes=routes,
        device=torch.device("cuda"),
    )


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.cuda
def test_real_nets_equal_serial_frame_for_frame(deterministic):
    pipeline, frames = nets(), clip(20, 256, 512)
    want = drive(SerialScheduler(pipeline, meter=Meter()), frames)
    have = drive(StreamsScheduler(pipeline, meter=Meter()), frames)
    assert [f.index for f in have] == list(range(20))
    for ours, oracle in zip(have, want, strict=True):
        assert torch.equal(ours.pixels, oracle.pixels)


@pytest.mark.cuda
def test_the_steady_state_waits_for_nothing_unmeant():
    scheduler = StreamsScheduler(nets(), meter=Meter())
    frames = clip(30, 256, 512)
    drive(scheduler, frames[:10])
    with no_device_wait("cuda"):
        drive(scheduler, frames[10:])


@pytest.mark.cuda
def test_memory_stays_flat_over_1000_frames():
    meter = Meter()
    scheduler, frames = StreamsScheduler(nets(), meter=meter), clip(4, 256, 512)
    drive(scheduler, frames * 25)
    before = torch.cuda.memory_reserved()
    for raw in frames * 250:
        scheduler.submit(raw)
        for _ in scheduler.ready():
            meter.frame_out()
    assert torch.cuda.memory_reserved() == before
    overlap = meter.overlap
    assert overlap is not None
    print(f"overlap {overlap.saved:.0%} of {overlap.sequence:.2f} ms a frame")
