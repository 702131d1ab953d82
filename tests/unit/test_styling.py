"""Windows are styled as the whole picture is: the same statistics, the same borders."""

import copy
import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from cbs_plugins.stylers.johnson import JohnsonStyler
from cbs_plugins.stylers.swift import SwiftStyler
from PIL import Image
from safetensors.torch import save_file
from test_johnson import save
from test_swift import save as save_swift

from cbs_core.accelerators.eager import Eager
from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import RegionStyler
from cbs_core.contract.types import RawFrame
from cbs_core.frame.pipeline import prepare
from cbs_core.frame.styling import ByStatistics, Shown
from cbs_core.frame.wanted import parse_extent
from cbs_core.frame.windows import INVISIBLE, occupancy
from cbs_core.run import workshop
from cbs_core.run.stream import Stream
from cbs_core.temporal.wanted import Policy
from cbs_core.testing import picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def styler(tmp_path_factory):
    return JohnsonStyler(weights=str(save(tmp_path_factory.mktemp("weights")))).eval()


class Counted:
    """An `Accelerated` that notes its calls."""

    def __init__(self, inner, name, calls):
        self.inner, self.name, self.calls = inner, name, calls

    @property
    def built(self):
        return self.inner.built

    def __call__(self, *inputs):
        self.calls.append((self.name, tuple(inputs[0].shape)))
        return self.inner(*inputs)


def region(styler, *, policy=None, masked=True, dtype=torch.float32, reach=0, calls=None):
    styler = copy.deepcopy(styler).to(dtype)
    calls = [] if calls is None else calls
    return Driven(
        "styler",
        Counted(Eager(styler.dense_module(), dtype), "dense", calls),
        Counted(Eager(styler.window_module(), dtype), "window", calls),
        policy=policy or Policy(),
        masked=masked,
        halo=styler.halo,
        align=styler.align,
        reach=reach,
    )


class Driven(ByStatistics):
    """One that keeps its memory from frame to frame, as a stream does."""

    memory = None

    def __call__(self, image, matte, scene):
        cells = (occupancy(matte) > INVISIBLE)[:, 0].numpy()
        shown = Shown(matte, [0], cells, scene)
        out, self.memory = super().__call__(image, shown, self.memory)
        return out


def two_objects(height, width):
    """A matte of two objects, one of which touches the frame's lower right corner."""
    matte = torch.zeros(1, 1, height, width)
    matte[..., height // 8 : height // 4, width // 8 : width // 5] = 1
    matte[..., -height // 8 :, -width // 9 :] = 1
    return matte


def psnr(a, b):
    error = float((a - b).square().mean())
    return -10 * math.log10(error) if error else math.inf


def test_fills_its_protocol(styler):
    assert isinstance(styler, RegionStyler)
    assert (styler.halo, styler.align) == (68, 4)


@torch.inference_mode()
def test_the_dense_module_is_the_styler(styler):
    image = picture(65, 131)
    styled, statistics = styler.dense_module()(image)
    torch.testing.assert_close(styled, styler(image), atol=1e-4, rtol=0)
    norms = [m for m in styler.modules() if isinstance(m, torch.nn.InstanceNorm2d)]
    assert statistics.shape == (1, 2 * sum(m.num_features for m in norms))
    seen = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    styler(image)
    for norm in norms:
        norm._forward_pre_hooks.clear()
    want = [f(x) for x in seen for f in (mean, variance)]
    torch.testing.assert_close(statistics, torch.cat(want, 1), atol=1e-2, rtol=1e-4)


def mean(x):
    return x.double().mean((2, 3)).float()


def variance(x):
    return x.double().var((2, 3), correction=0).float()


@pytest.mark.parametrize(
    ("kind", "grid", "halo"),
    [
        (JohnsonStyler, False, 68),
        (JohnsonStyler, True, 56),
        ("smooth", False, 88),
        ("smooth", True, 76),
        (SwiftStyler, False, 104),
        (SwiftStyler, True, 80),
    ],
)
def test_the_halo_is_what_an_output_pixel_depends_on_and_no_more(tmp_path, kind, grid, halo):
    if kind == "smooth":
        tensors = torch.load(save(tmp_path))
        save_file(tensors, tmp_path / "smooth.safetensors", {"smooth": "true"})
        styler = JohnsonStyler(weights=str(tmp_path / "smooth.safetensors"), grid=grid).eval()
    else:
        weights = save(tmp_path) if kind is JohnsonStyler else save_swift(tmp_path)
        styler = kind(weights=str(weights), grid=grid).eval()
    assert styler.halo == halo
    window = styler.window_module()
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    statistics = styler.dense_module()(image)[1].detach()
    start, farthest = 128, 0
    for row in range(start, start + styler.align):  # windows start at multiples of the stride
        image.grad = None
        window(image, statistics)[0, :, row, start].sum().backward()
        rows = image.grad[0].abs().sum((0, 2)).nonzero()[:, 0]
        last = start + styler.align - 1
        farthest = max(farthest, start - int(rows[0]), int(rows[-1]) - last)
    assert halo - styler.align < farthest <= halo


@pytest.mark.parametrize("size", [(512, 640), (301, 450), (130, 133), (64, 96), (7, 300)])
@torch.inference_mode()
def test_windows_equal_dense_styling_with_the_same_statistics(styler, size):
    calls = []
    part = region(styler, calls=calls)
    first, image, matte = picture(*size, seed=1), picture(*size), two_objects(*size)
    part(first, matte, 0)
    out = part(image, matte, 0)
    want = styler.window_module()(image, part.memory.now)
    shown = (matte > 0).expand_as(image)
    assert (out[shown] - want[shown]).abs().max() < 1e-4
    assert [name for name, _ in calls] == ["dense"] + ["window"] * (len(calls) - 1)
    styled = (out != image).any(1).float().mean()
    if size == (512, 640):
        assert styled < 0.15
        assert sum(n * h * w for _, (n, _, h, w) in calls[1:]) < 0.3 * 512 * 640


@torch.inference_mode()
def test_windows_equal_dense_styling_in_bfloat16(styler):
    part = region(styler, dtype=torch.bfloat16)
    image, matte = picture(512, 640), two_objects(512, 640)
    part(picture(512, 640, seed=1), matte, 0)
    out = part(image, matte, 0)
    statistics = part.memory.now
    want = part.window(image, statistics)
    exact = styler.window_module()(image, statistics)
    shown = (matte > 0).expand_as(image)
    found = psnr(out[shown], want[shown])
    print(f"bfloat16: {found:.1f} dB to dense, {psnr(out[shown], exact[shown]):.1f} dB to float32")
    assert found >= 45


@torch.inference_mode()
def test_outside_of_windows_the_picture_is_the_original(styler):
    part = region(styler)
    image, matte = picture(256, 384), two_objects(256, 384)
    part(picture(256, 384, seed=1), matte, 0)
    out = part(image, matte, 0)
    near = torch.nn.functional.max_pool2d(matte, 17, 1, 8).expand_as(image) > 0
    assert torch.equal(out[~near], image[~near])
    assert not torch.equal(out[near], image[near])


@torch.inference_mode()
def test_a_batch_is_styled_as_its_frames_are(styler):
    images = torch.cat([picture(128, 192, seed=seed) for seed in range(3)])
    mattes = torch.cat(
        [two_objects(128, 192), torch.zeros(1, 1, 128, 192), torch.ones(1, 1, 128, 192)]
    )
    together = region(styler)(images, mattes, 0)
    alone = region(styler)
    alone(images[:1], mattes[:1], 0)
    for index in range(3):
        one = slice(index, index + 1)
        shown = (mattes[one] > 0).expand(1, 3, -1, -1)
        want = alone(images[one], mattes[one], 0)
        torch.testing.assert_close(together[one][shown], want[shown], atol=1e-4, rtol=0)
    assert torch.equal(together[1], images[1])


@torch.inference_mode()
def flicker(styler, frames, matte):
    """Mean change from frame to frame in the matte, levels of 255: own statistics, and frozen."""
    shown = (matte > 0).expand(1, 3, -1, -1)
    whole = region(styler, masked=False)

    def change(styled):
        steps = [(b - a).abs().mean().item() for a, b in pairwise(styled)]
        return 255 * sum(steps) / len(steps)

    own = change([styler(frame)[shown] for frame in frames])
    frozen = change([whole(frame, matte, 0)[shown] for frame in frames])
    print(f"flicker, levels of 255: {own:.3f} by each frame's own statistics, {frozen:.3f} frozen")
    return own, frozen


def test_frozen_statistics_do_not_flicker_when_something_passes_elsewhere(styler):
    """Nothing that is farther than the halo can change what is styled by frozen statistics."""
    frames = [picture(128, 256) for _ in range(4)]
    for index, frame in enumerate(frames):
        frame[..., 20:60, 140 + 20 * index : 180 + 20 * index] = torch.tensor([1, 0.9, 0])[
            :, None, None
        ]
    matte = torch.zeros(1, 1, 128, 256)
    matte[..., 20:100, 10:70] = 1
    own, frozen = flicker(styler, frames, matte)
    assert frozen < 0.01 < own


@pytest.mark.shared
@pytest.mark.slow
def test_sensor_noise_flickers_alike_by_frozen_statistics(shared):
    """Over so many pixels, noise of each hardly moves a mean or a variance: either may be lower."""
    pixels = Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB").resize((1024, 512))
    still = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255
    generator = torch.Generator().manual_seed(0)
    frames = [
        (still + 2 / 255 * torch.randn(still.shape, generator=generator)).clamp(0, 1)
        for _ in range(4)
    ]
    for style in ("candy", "mosaic", "udnie"):
        weights = shared / f"weights/johnson/{style}_width16.pth"
        styler = JohnsonStyler(weights=str(weights)).eval()
        own, frozen = flicker(styler, frames, two_objects(512, 1024))
        assert frozen < 1.05 * own


class Squares:
    """Takes white for `car` and all else for `road`."""

    classes = ("road", "car")

    def __call__(self, image):
        white = (image.amin(1, keepdim=True) > 0.99).float()
        return torch.cat([0.5 - white, white - 0.5], 1)


class Blend:
    """A compositor that does not tell its reach."""

    def __call__(self, image, styled, alpha):
        return torch.lerp(image, styled, alpha)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.segmenters._registered, "squares", Squares)
    monkeypatch.setitem(registry.compositors._registered, "blend", Blend)

    def make(*, compositor="hard", styler="johnson", **of_styler):
        if styler == "johnson":
            of_styler["weights"] = str(save(tmp_path))
        return {
            "segmenter": {"name": "squares"},
            "styler": {"name": styler} | of_styler,
            "compositor": {"name": compositor},
            "accelerator": {"name": "eager"},
            "routes": ["car"],
            "matte": "argmax",
            "style_size": None,
        }

    return make


def frame(*corners, size=(256, 384), seed=0):
    """A frame with white squares of 40 pixels."""
    image = picture(*size, seed=seed) * 0.9
    for y, x in corners:
        image[..., y : y + 40, x : x + 40] = 1
    return image


@pytest.mark.parametrize("compositor", ["hard", "feather", "guided", "mrf"])
def test_the_composite_is_as_if_the_whole_frame_were_styled(config, compositor):
    def run(where):
        made = config(compositor=compositor, where=where, statistics="frozen")
        pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
        return [pipeline(frame((16, 16), (200, 340), seed=seed)) for seed in range(3)]

    for image, masked, whole in zip(
        [frame((16, 16), (200, 340), seed=seed) for seed in range(3)],
        run("mask"),
        run("frame"),
        strict=True,
    ):
        assert (masked.image - whole.image).abs().max() < 1 / 255
        far = torch.nn.functional.max_pool2d(masked.mattes, 81, 1, 40).expand_as(image) == 0
        assert torch.equal(masked.image[far], image[far])
        assert far.any()


def test_a_frame_without_the_class_costs_no_styling(config):
    made = config(where="mask")
    pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
    (styling,) = pipeline.plan.stylings.values()
    calls = []
    for name in ("dense", "window"):
        stage = getattr(styling, name)
        setattr(styling, name, replace(stage, call=Counted(stage.call, name, calls)))
    image = frame()
    result = pipeline(image)
    assert (calls, result.styled, result.shown) == ([], {}, (False,))
    assert torch.equal(result.image, image)
    pipeline(frame((16, 16)))
    pipeline(frame((16, 18)))
    pipeline(frame())
    assert [name for name, _ in calls] == ["dense", "window"]
    pipeline.reset()
    pipeline(frame((16, 16)))
    assert [name for name, _ in calls] == ["dense", "window", "dense"]


def test_each_scene_has_its_own_statistics(config):
    made = config(where="mask")
    pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
    (styling,) = pipeline.plan.stylings.values()
    first = frame((16, 16), seed=1)
    for image in (first, first, 1 - 0.9 * frame(seed=2).clamp(0, 0.8)):
        image[..., 100:140, 100:140] = 1
        result = pipeline(image)
    whole = styling.dense.run(image)[0]
    (styled,) = result.styled.values()
    torch.testing.assert_close(styled, whole)


def test_what_was_prepared_is_not_built_again(config):
    made = config(where="mask")
    pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
    (styling,) = pipeline.plan.stylings.values()
    image = frame((16, 16))
    prepare(image, pipeline.plan)
    dense, window = set(styling.dense.call.built), set(styling.window.call.built)
    assert dense == {(1, 3, 256, 384)}
    assert (1, 3, 256, 384) in window
    assert len(window) == 2
    assert pipeline.state.styling.styles == {}, "those of a trial frame are no stream's"
    for left in (0, 4, 8):
        image = frame()
        image[..., 8:68, left : left + 90] = 1
        pipeline(image)
    assert styling.dense.call.built == dense
    assert styling.window.call.built == window


def test_ahead_builds_each_size_before_its_first_frame_whatever_shows(config):
    for where in ("frame", "mask"):
        made = config(where=where)
        pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
        pipeline.ahead = True
        (styling,) = pipeline.plan.stylings.values()
        call = styling.dense.call if where == "mask" else styling.stage.call
        for height, width in [(64, 96), (96, 64)]:
            pipeline.score(torch.zeros(1, 3, height, width), pipeline.plan)
            assert (1, 3, height, width) in call.built
        pipeline.ahead = False
        pipeline.score(torch.zeros(1, 3, 32, 32), pipeline.plan)
        assert (1, 3, 32, 32) not in call.built


@pytest.mark.alone
@pytest.mark.parametrize("where", ["frame", "mask"])
def test_a_style_or_a_built_size_that_comes_in_mid_stream_stalls_nothing(
    config, tmp_path, monkeypatch, where
):
    monkeypatch.setenv("CBS_CACHE", str(tmp_path / "cache"))
    styles = {"car": "net", "road": "other"}
    made = config(where=where) | {
        "accelerator": {"name": "openvino"},
        "routes": {name: {"weights": str(save(tmp_path, style))} for name, style in styles.items()},
    }
    pipeline = Stream(workshop.plan(made, device=CPU, dtype=torch.float32))
    pipeline.ahead = True

    def seconds(height, width, *, white):
        pixels = torch.full((height, width, 3), 255 if white else 90, dtype=torch.uint8)
        begin = time.perf_counter()
        result = pipeline(pipeline.upload(RawFrame(pixels, 0)))
        assert result.shown == (white, not white)
        return time.perf_counter() - begin

    for size in ((192, 256), (256, 192)):
        seconds(*size, white=True)  # builds
        assert seconds(*size, white=False) < 1  # a style that nothing showed yet
    assert seconds(192, 256, white=True) < 1
    assert seconds(256, 192, white=False) < 1


REFUSED = {
    "where": ({"where": "mas"}, "neither frame nor mask; did you mean 'mask'"),
    "statistics": ({"statistics": "sometimes"}, "none of frame"),
    "both": ({"where": "mask", "statistics": "frame"}, "would save nothing"),
    "styler": ({"styler": "none", "where": "mask"}, None),
    "no windows": ({"styler": "whole", "where": "mask"}, "knows no styler.where=mask: say"),
    "no statistics": ({"styler": "whole", "statistics": "frozen"}, "knows no styler.statistics"),
    "compositor": ({"compositor": "blend", "where": "mask"}, r"\(`reach`\): say styler.where"),
    "halo": ({"halo": -1}, "styler.halo must not be negative"),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_go_together_is_one_clear_line(config, monkeypatch, changes, told):
    whole = lambda: lambda image: image  # noqa: E731
    monkeypatch.setitem(registry.stylers._registered, "whole", whole)
    if told is None:  # no route is left: there is nothing that could be refused
        workshop.plan(config(**changes), device=CPU, dtype=torch.float32)
        return
    with pytest.raises(ConfigError, match=told) as error:
        workshop.plan(config(**changes), device=CPU, dtype=torch.float32)
    assert "\n" not in str(error.value)


def test_null_is_what_fits():
    """And it is known that nobody said so: `steady=full` chooses by it."""
    assert replace(parse_extent(None, None), said=True) == parse_extent("frame", "frame")
    assert replace(parse_extent("mask", None), said=True) == parse_extent("mask", "scene")
