"""Which frames are segmented, and that between them the matte stays on what moves."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.hard import HardCompositor
from scipy.ndimage import gaussian_filter

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import Instances, RawFrame
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.machine.meter import Meter
from cbs_core.run import settings
from cbs_core.run.schedulers.auto import AutoScheduler
from cbs_core.run.schedulers.pipeline import PipelineScheduler
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.temporal.objects import Selection
from cbs_core.temporal.wanted import parse_every
from tests.streams import stream_of

HEIGHT, WIDTH, TOP, SIDE = 192, 320, 40, 112
SPEED = 8
"""Pixels a frame that the square moves."""


def texture(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(height, width, generator=generator).numpy()
    grey = torch.from_numpy(gaussian_filter(noise, 3))
    return ((grey - grey.mean()) / grey.std() / 8 + 0.5).clamp(0, 1)


BACK, SQUARE = texture(HEIGHT, WIDTH, 0), texture(SIDE, SIDE, 1)


def frame(index, start=40):
    """A red square before a grey ground, both with texture: uint8 ``(H,W,3)`` as a `RawFrame`."""
    picture = BACK.expand(3, -1, -1).clone()
    x = start + SPEED * index
    picture[:, TOP : TOP + SIDE, x : x + SIDE] = SQUARE * torch.tensor([1.4, 0.8, 0.8]).view(
        3, 1, 1
    )
    pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous()
    return RawFrame(pixels, index)


def square(index):
    """Where the square is, ``(H,W)``."""
    out = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    out[TOP : TOP + SIDE, 40 + SPEED * index : 40 + SPEED * index + SIDE] = True
    return out


class Segmenter:
    """Finds the square by its colour, at an eighth of the size; notes what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image)
        red = F.avg_pool2d(image[:, :1] - image[:, 1:2], 8, ceil_mode=True)
        return torch.cat([0.15 - red, red - 0.15], 1) * 20


def make(every, segmenter=None, **kind):
    route = Route(("thing",), "negative")
    return stream_of(
        segmenter=Stage(segmenter or Segmenter(), "segmenter 's' of x 1"),
        stylers={route.style: Stage(lambda image: 1 - image, "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=[route],
        device=torch.device("cpu"),
        segment_every=every,
        **kind,
    )


def segmented(every, frames, reset_before=None):
    """Returns the numbers of the frames that were segmented."""
    segmenter, numbers = Segmenter(), []
    pipeline = make(every, segmenter)
    for number, raw in enumerate(frames):
        if number == reset_before:
            pipeline.reset()
        before = len(segmenter.seen)
        pipeline(pipeline.upload(raw))
        numbers += [number] * (len(segmenter.seen) - before)
    return numbers


def iou(a, b):
    return float((a & b).sum() / (a | b).sum())


def test_the_matte_stays_on_what_moves():
    carrying, each = make(4), make(1)
    carried, own = [], []
    for index in range(4):
        image = each.upload(frame(index))
        carried.append(carrying(image).mattes[0, 0] > 0.5)
        own.append(each(image).mattes[0, 0] > 0.5)
        assert iou(carried[-1], own[-1]) > 0.9
    assert iou(carried[0], own[-1]) < 0.7


def test_what_is_carried_is_what_segmenting_would_give():
    carrying, each = make(4), make(1)
    for index in range(4):
        image = each.upload(frame(index))
        have, want = carrying(image).logits, each(image).logits
        assert have.shape == want.shape
        assert (have - want).abs().mean() < 0.1 * want.abs().mean()


def test_every_nth_frame_is_segmented():
    clip = [frame(index % 5) for index in range(10)]
    assert segmented(3, clip) == [0, 3, 6, 9]
    assert segmented(1, clip) == list(range(10))


def test_one_is_as_if_there_were_no_such_thing():
    logits = torch.randn(1, 2, 24, 40)
    pipeline = make(1, lambda image: logits)
    for index in range(3):
        assert pipeline.score(pipeline.upload(frame(index)), pipeline.plan).logits is logits


def test_a_scene_cut_is_segmented_at_once_and_counted_from():
    def dark(index):
        return RawFrame(frame(index).pixels // 3, index)

    clip = [frame(0), frame(1), dark(2), dark(3), dark(4), dark(5), dark(6)]
    assert segmented(4, clip) == [0, 2, 6]


def test_another_size_is_segmented_at_once():
    def small(index):
        return RawFrame(frame(index).pixels[:160].contiguous(), index)

    assert segmented(5, [frame(0), frame(1), small(2), small(3), frame(4)]) == [0, 2, 4]


def test_a_reset_begins_anew():
    assert segmented(4, [frame(index) for index in range(7)], reset_before=3) == [0, 3]


def test_a_batch_moves_picture_by_picture():
    pipeline = make(4)
    for index in range(4):
        pair = [frame(index), frame(3 - index)]
        image = torch.cat([pipeline.upload(raw) for raw in pair])
        mattes = pipeline(image).mattes[:, 0] > 0.5
        assert iou(mattes[0], square(index)) > 0.85
        assert iou(mattes[1], square(3 - index)) > 0.85


def test_a_selected_component_is_followed():
    pipeline = make(4, selection=Selection(1, (-1, 0), soft=False))
    for index in range(8):
        matte = pipeline(pipeline.upload(frame(index))).mattes[0, 0] > 0.5
        assert iou(matte, square(index)) > 0.85
    assert pipeline.state.styling.followed.frames_without == 0


@pytest.mark.parametrize("found", [1, 0])
def test_a_detectors_objects_are_carried(found):
    seen = []

    def detect(image):
        seen.append(image)
        masks = square(len(seen) * 4 - 4).float()[None].expand(found, -1, -1)
        classes = torch.ones(found, dtype=torch.int64)
        return [Instances(masks, classes, torch.ones(found))]

    pipeline = make(
        4,
        lambda image: pytest.fail("the detector is there for it"),
        detector=Stage(detect, "detector"),
        selection=Selection(1, (-1, 0), soft=False),
    )
    for index in range(8):
        result = pipeline(pipeline.upload(frame(index)))
        assert result.logits.shape == (1, 2, HEIGHT, WIDTH)
        matte = result.mattes[0, 0] > 0.5
        if found:
            assert iou(matte, square(index)) > 0.85
        else:
            assert not matte.any()
    assert len(seen) == 2


def test_each_frame_counts_as_a_segmentation():
    meter, pipeline = Meter(), make(3)
    for index in range(4):
        pipeline(pipeline.upload(frame(index)), meter=meter)
    assert list(meter.latencies()) == ["segment", "matte", "style", "composite"]


@pytest.mark.parametrize("kind", [partial(PipelineScheduler, nets="together"), AutoScheduler])
def test_schedulers_equal_serial(kind):
    def pictures(kind):
        segmenter, done = Segmenter(), []
        scheduler = kind(make(3, segmenter), meter=Meter())
        for index in range(10):
            scheduler.submit(frame(index))
            done.extend(scheduler.ready())
        done.extend(scheduler.drain())
        if kind is not SerialScheduler:
            scheduler.close()
        assert len(segmenter.seen) == 4
        return done

    for ours, oracle in zip(pictures(kind), pictures(SerialScheduler), strict=True):
        assert ours.index == oracle.index
        assert torch.equal(ours.pixels, oracle.pixels)


@pytest.mark.parametrize("spec", [0, -1, 1.5, 2.0, True, None, "3", "x", [2]])
def test_another_value_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'segment_every={spec} ')}") as error:
        parse_every(spec)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="segment_every"):
        settings.look({"segment_every": spec})
