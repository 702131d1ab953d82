"""Tiles make the whole frame's picture out of parts that fit, and say so once."""

import logging
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.nets.johnson import TransformerNet

from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame import tiles
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.tiles import OVERLAP, SMALLEST, Tiles
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter
from cbs_core.run.runner import Runner
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.testing import picture
from tests.streams import stream_of

SIZES = [(600, 1000), (257, 900), (1024, 300), (513, 511)]


class Net:
    """A net that fits up to a number of pixels; notes the sizes it was run on."""

    def __init__(self, pixels, net):
        self.pixels, self.net, self.ran = pixels, net, []

    def __call__(self, image, *more):
        if image.shape[2] * image.shape[3] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. ...")
        self.ran.append(tuple(image.shape[2:]))
        return self.net(image, *more)


def negative(image):
    return 1 - image


def smooth(image):
    return F.avg_pool2d(image, 9, 1, 4, count_include_pad=False)


def test_a_frame_that_fits_is_run_whole():
    net = Net(10**9, negative)
    image = picture(600, 1000)
    assert torch.equal(Tiles()(net, "net", image), 1 - image)
    assert net.ran == [(600, 1000)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("call", [negative, smooth])
def test_a_net_that_sees_less_than_the_overlap_gives_the_whole_frames_picture(size, call):
    net, image = Net(SMALLEST**2, call), picture(*size)
    out = Tiles()(net, "net", image)
    # The frame's edges apart, a tile's edge is where smoothing sees less: blended, within a level.
    torch.testing.assert_close(out, call(image), atol=0 if call is negative else 0.02, rtol=1e-5)
    assert set(net.ran) == {(min(SMALLEST, size[0]), min(SMALLEST, size[1]))}


def test_tiles_are_as_large_as_fit():
    net = Net(520 * 520, negative)
    Tiles()(net, "net", picture(600, 1000))
    assert set(net.ran) == {(500, 500)}


def test_small_logits_come_back_at_the_frames_size():
    net = Net(SMALLEST**2, lambda image: F.avg_pool2d(image, 8))
    image = picture(512, 768)
    out = Tiles()(net, "net", image)
    want = F.interpolate(F.avg_pool2d(image, 8), (512, 768), mode="bilinear")
    assert out.shape == (1, 3, 512, 768)
    assert (out - want).abs().mean() < 0.01


def test_every_input_is_cut_at_the_same_place():
    image = picture(512, 768)
    net = Net(SMALLEST**2, lambda image, matte: (image + matte) / 2)
    torch.testing.assert_close(Tiles()(net, "net", image, image[:, :1]), (image + image[:, :1]) / 2)


def test_it_is_told_once_and_not_tried_again(caplog):
    net, run = Net(SMALLEST**2, negative), Tiles()
    attempts = []

    def counting(image):
        attempts.append(tuple(image.shape[2:]))
        return net(image)

    for _ in range(3):
        run(counting, "styler 'wave'", picture(600, 600))
    assert attempts.count((600, 600)) == 1
    ((_, level, told),) = caplog.record_tuples
    assert level == logging.WARNING
    assert told.startswith("a frame of 600x600 does not fit")
    assert "styler 'wave'" in told
    assert f"tiles of {SMALLEST} pixels" in told


@pytest.mark.parametrize("size", [(100, 100), (600, 600)])
def test_less_than_the_smallest_is_not_tried(size):
    net = Net(10, negative)
    with pytest.raises(torch.OutOfMemoryError):
        Tiles()(net, "net", picture(*size))
    assert net.ran == []


def test_tiles_cover_the_frame_and_overlap():
    for length in range(SMALLEST + 1, 3 * SMALLEST):
        starts = tiles._starts(length, SMALLEST)
        assert starts[0] == 0
        assert starts[-1] == length - SMALLEST
        assert all(0 < b - a <= SMALLEST - OVERLAP for a, b in pairwise(starts))


def build(segment, style):
    routes = [Route(("a",), "negative")]
    return stream_of(
        segmenter=Stage(segment, "segmenter 's' of x 1"),
        stylers={routes[0].style: Stage(style, "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("rest", "a"), [("a",)]),
        routes=routes,
        device=torch.device("cpu"),
    )


def halves(image):
    light = image.mean(1, keepdim=True)
    return torch.cat([0.5 - light, light - 0.5], 1)


def test_the_pipeline_falls_back_to_tiles_and_its_picture_stays(caplog):
    image = picture(600, 900)
    want = build(halves, negative)(image)
    have = build(Net(SMALLEST**2, halves), Net(SMALLEST**2, negative))(image)
    assert torch.equal(have.mattes, want.mattes)
    torch.testing.assert_close(have.image, want.image, atol=1e-6, rtol=0)
    tiled = [r for r in caplog.records if "tiles" in r.getMessage()]
    # A command that ran in this process has the log cleaned: a record has its words alone then.
    whats = ["segmenter 's' of x 1", "styler 't' of x 1"]
    assert [what in r.getMessage() for r, what in zip(tiled, whats, strict=True)] == [True, True]


def test_where_the_smallest_tile_does_not_fit_the_run_ends_with_one_line():
    class Source:
        info = StreamInfo(600, 600)

        def __iter__(self):
            yield RawFrame(torch.zeros(600, 600, 3, dtype=torch.uint8), 0, Fraction(0))

    class Sink:
        def open(self, info): ...
        def write(self, frame): ...
        def close(self, *, complete=True): ...
        def abort(self): ...

    scheduler = SerialScheduler(build(Net(10, halves), negative), meter=Meter())
    with pytest.raises(MemoryLimitError, match=r"600x600 does not fit .* make it smaller"):
        Runner(Source(), scheduler, Sink(), meter=Meter()).run()


def test_a_gpu_too_full_for_any_algorithm_makes_do_with_tiles():
    def net(image):
        if image.shape[3] > 300:
            raise RuntimeError("FIND was unable to find an engine to execute this computation")
        return 1 - image

    image = picture(200, 500)
    stage = Stage(net, "styler 'x' of y 1")
    torch.testing.assert_close(Tiles()(stage, stage.what, image), 1 - image)


@pytest.mark.cuda
def test_a_full_gpu_makes_do_with_tiles(caplog):
    device = torch.device("cuda", torch.cuda.current_device())
    net = TransformerNet(32).eval().requires_grad_(False).to(device)
    image = torch.rand(1, 3, 1024, 2048, device=device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    room = torch.cuda.memory_reserved(device) + 700 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / total, device)
    try:
        with torch.inference_mode(), caplog.at_level(logging.WARNING, logger="cbs"):
            stage = Stage(net, "styler 'x' of y 1")
            out = Tiles()(stage, stage.what, image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert out.is_cuda
    assert out.shape == image.shape
    assert out.isfinite().all()
    assert "it goes in tiles of" in caplog.text
