"""The paper's equation, held against a straight float64 version of it."""

import re

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.feather import FeatherCompositor
from cbs_plugins.compositors.hard import HardCompositor
from kornia.color import rgb_to_ycbcr

from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.types import Instances
from cbs_core.frame import scoring
from cbs_core.frame.enlarging import resized
from cbs_core.frame.mattes import Regions
from cbs_core.frame.pipeline import keep_color
from cbs_core.frame.routes import Route
from cbs_core.frame.sizes import Fit, parse_size
from cbs_core.frame.stage import Stage
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter
from cbs_core.run import stream
from cbs_core.testing import raw_frame
from tests.streams import stream_of
from tests.unit.straight_line import spread

CLASSES = ("road", "car", "person", "sky")
CPU = torch.device("cpu")
ROUTES = {
    "one": [Route(("car",), "negative")],
    "classes together": [Route(("car", "sky"), "negative")],
    "several": [Route(("car",), "negative"), Route(("sky",), "swap"), Route(("road",), "grey")],
    "strengths": [
        Route(("car",), "negative", strength=0.6),
        Route(("sky",), "swap", strength=0.25),
        Route(("person",), "negative"),
    ],
    "shared class": [Route(("car", "sky"), "negative"), Route(("car",), "swap", strength=0.5)],
}
STYLES = {
    "negative": lambda image: 1 - image,
    "swap": lambda image: image.flip(1),
    "grey": lambda image: image.mean(1, keepdim=True).expand_as(image),
}


def scores(image):
    """Logits at an eighth of the size, every class somewhere."""
    height, width = (max(1, side // 8) for side in image.shape[2:])
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(len(image), len(CLASSES), height, width, generator=generator)


def build(
    routes, *, mode="argmax", segment=scores, compositor=None, stylers=STYLES, cost=0, **kind
):
    return stream_of(
        segmenter=Stage(segment, "segmenter 'quarters' of cbs-quarters 2.0"),
        stylers={
            route.style: Stage(stylers[route.styler], f"styler '{route.styler}' of cbs-x 1.0", cost)
            for route in routes
        },
        compositor=Stage(compositor or HardCompositor(), "compositor 'c' of cbs-c 3.0"),
        regions=Regions(CLASSES, [route.classes for route in routes], mode),
        routes=routes,
        **kind,
    )


def restyle(pipeline, raw):
    result = pipeline(pipeline.upload(raw))
    return pipeline.finished(raw, result), result


def equation(raw, routes, mode):
    """``U = (1 - Σ A_r) I + Σ A_r T_r``, in float64; uint8 levels, not rounded."""
    image = raw.pixels.permute(2, 0, 1)[None].double() / 255
    logits, size = scores(image).double(), raw.pixels.shape[:2]
    if mode == "argmax":
        labels = F.interpolate(logits, size, mode="bilinear").argmax(1, keepdim=True)
        parts = [(labels == index).double() for index in range(len(CLASSES))]
    else:
        parts = list(F.interpolate(logits.softmax(1), size, mode="bilinear").split(1, dim=1))
        labels = F.interpolate(logits, size, mode="bilinear").argmax(1, keepdim=True)
    users = {name: sum(name in route.classes for route in routes) for name in CLASSES}
    names = [route.classes for route in routes]
    mattes = [sum(parts[CLASSES.index(one)] / users[one] for one in each) for each in names]
    if mode == "soft":  # each ends near its hard one, and its share goes to those that are there
        found = [sum((labels == CLASSES.index(one)).double() for one in each) for each in names]
        near = [spread(one, size) for one in found]
        cut = [matte * there for matte, there in zip(mattes, near, strict=True)]
        union = spread(torch.stack(found).amax(0), size)
        whole = sum(mattes) * union / sum(cut).clamp(min=1e-300)
        mattes = [one * whole for one in cut]
    rest, out = 1.0, 0.0
    for route, matte in zip(routes, mattes, strict=True):
        rest = rest - route.strength * matte
        out = out + route.strength * matte * STYLES[route.styler](image)
    return ((rest * image + out)[0] * 255).permute(1, 2, 0)


@pytest.mark.parametrize("size", [(64, 96), (65, 131), (1, 1)])
@pytest.mark.parametrize("mode", ["argmax", "soft"])
@pytest.mark.parametrize("routes", ROUTES.values(), ids=ROUTES.keys())
def test_the_picture_is_the_equations_within_a_level(routes, mode, size):
    raw = raw_frame(*size)
    done, _ = restyle(build(routes, mode=mode), raw)
    difference = (done.pixels.double() - equation(raw, routes, mode)).abs()
    assert difference.max() <= 1


@pytest.mark.parametrize("routes", ROUTES.values(), ids=ROUTES.keys())
def test_the_background_is_the_sources_to_the_bit(routes):
    raw = raw_frame(65, 131)
    done, result = restyle(build(routes), raw)
    outside = result.mattes[0].sum(0) == 0
    changed = (done.pixels != raw.pixels).any(2)
    assert changed.any()
    assert not (changed & outside).any()


def test_every_level_survives_upload_and_download():
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).repeat(1, 1, 3)
    raw = type(raw_frame(1, 1))(levels, 7, alpha=levels[..., 0], name="a")
    pipeline = build([])
    back = pipeline.finished(raw, pipeline(pipeline.upload(raw)))
    assert torch.equal(back.pixels, levels)
    assert (back.index, back.pts, back.name) == (raw.index, raw.pts, raw.name)
    assert back.alpha is raw.alpha


def test_no_route_leaves_the_picture():
    raw = raw_frame(64, 96)
    assert torch.equal(restyle(build([]), raw)[0].pixels, raw.pixels)


def test_one_route_is_the_compositors_own_picture():
    raw = raw_frame(64, 96)
    pipeline = build(ROUTES["one"], compositor=FeatherCompositor(4))
    image = pipeline.upload(raw)
    result = pipeline(image)
    want = FeatherCompositor(4)(image, 1 - image, result.mattes)
    assert torch.equal(result.image, want)


def test_soft_compositors_are_superposed():
    raw, routes = raw_frame(64, 96), ROUTES["strengths"]
    pipeline = build(routes, compositor=FeatherCompositor(4))
    image = pipeline.upload(raw)
    result = pipeline(image)
    blur = FeatherCompositor(4)
    zero, one = torch.zeros_like(image), torch.ones_like(image)
    want = image.double()
    for index, route in enumerate(routes):
        matte = blur(zero, one, result.mattes[:, index : index + 1]).double() * route.strength
        want = want + matte * (STYLES[route.styler](image) - image).double()
    torch.testing.assert_close(result.image.double(), want, atol=1 / 255, rtol=0)


def counting(style, calls):
    def call(image):
        calls.append(style)
        return STYLES[style](image)

    return call


def test_a_style_whose_classes_are_absent_is_not_run():
    def no_sky(image):
        logits = scores(image)
        logits[:, CLASSES.index("sky")] = -1e4
        return logits

    calls = []
    stylers = {style: counting(style, calls) for style in STYLES}
    routes = [Route(("car",), "negative"), Route(("sky",), "swap")]
    for mode in ("argmax", "soft"):
        _, result = restyle(
            build(routes, mode=mode, segment=no_sky, stylers=stylers), raw_frame(64, 96)
        )
        assert result.shown == (True, False)
        assert result.styled.keys() == {routes[0].style}
    assert calls == ["negative", "negative"]


def test_routes_of_one_style_run_it_once():
    calls = []
    stylers = {style: counting(style, calls) for style in STYLES}
    routes = [Route(("car",), "negative"), Route(("sky",), "negative", strength=0.5)]
    restyle(build(routes, stylers=stylers), raw_frame(64, 96))
    assert calls == ["negative"]


def test_keep_color_takes_only_the_lightness():
    generator = torch.Generator().manual_seed(0)
    image, styled = 0.3 + 0.4 * torch.rand(2, 1, 3, 16, 16, generator=generator)
    styled = image.mean(1, keepdim=True) + 0.1 * (styled - 0.5)
    want, have = rgb_to_ycbcr(image), rgb_to_ycbcr(keep_color(styled, image))
    torch.testing.assert_close(have[:, 1:], want[:, 1:], atol=2e-3, rtol=0)
    torch.testing.assert_close(have[:, :1], rgb_to_ycbcr(styled)[:, :1], atol=2e-3, rtol=0)


def test_keep_color_of_a_route_reaches_the_picture():
    raw, plain = raw_frame(64, 96), Route(("car",), "negative")
    coloured = Route(("car",), "negative", keep_color=True)
    _, result = restyle(build([coloured]), raw)
    image = build([]).upload(raw)
    inside = (result.mattes > 0).expand_as(image)
    want = keep_color(1 - image, image)
    torch.testing.assert_close(result.image[inside], want[inside])
    assert not torch.equal(result.image, restyle(build([plain]), raw)[1].image)


SPOILED = {
    "wrong channels": ({"segment": lambda i: scores(i)[:, :3]}, "segmenter 'quarters'", "(1, 3, "),
    "no logits": ({"segment": lambda i: scores(i)[0]}, "segmenter 'quarters'", "(4, 8, 12)"),
    "labels": ({"segment": lambda i: scores(i).long()}, "segmenter 'quarters'", "int64"),
    "no tensor": ({"segment": lambda i: [1]}, "segmenter 'quarters'", "returned list"),
    "raising": ({"segment": lambda i: 1 / 0}, "segmenter 'quarters'", "ZeroDivisionError: divis"),
    "small style": ({"styler": lambda i: i[..., 1:]}, "styler 'negative'", "(1, 3, 64, 95)"),
    "double style": ({"styler": lambda i: i.double()}, "styler 'negative'", "float64"),
    "complex style": (
        {"styler": lambda i: i + 0j},
        "styler 'negative'",
        "complex64 on cpu where re",
    ),
    "complex logits": ({"segment": lambda i: scores(i) + 0j}, "segmenter 'quarters'", "real numb"),
    "grey style": ({"styler": lambda i: i[:, :1]}, "styler 'negative'", "(1, 1, 64, 96)"),
    "small picture": ({"compositor": lambda i, t, a: i[:, :, 1:]}, "compositor 'c'", "63, 96)"),
}


@pytest.mark.parametrize(("spoil", "plugin", "told"), SPOILED.values(), ids=SPOILED.keys())
def test_a_broken_contract_names_the_plugin_and_its_distribution(spoil, plugin, told):
    spoil = dict(spoil)
    stylers = {"negative": spoil.pop("styler", STYLES["negative"])}
    pipeline = build(ROUTES["one"], stylers=stylers, **spoil)
    with pytest.raises(PluginContractError, match=re.escape(told)) as error:
        restyle(pipeline, raw_frame(64, 96))
    assert plugin in str(error.value)
    assert re.search(r" of cbs-\w+ \d\.0 ", str(error.value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [ConfigError("told"), torch.OutOfMemoryError("full"), torch.AcceleratorError("CUDA error")],
)
def test_errors_that_are_no_broken_contract_come_through(error):
    def fail(image):
        raise error

    with pytest.raises(type(error)) as raised:
        restyle(build([], segment=fail), raw_frame(8, 8))
    assert raised.value is error


@pytest.mark.parametrize("spec", [0.5, [24, 40], 1.0, None])
def test_the_segmenter_sees_its_own_size_and_the_matte_is_the_frames(spec):
    seen = []

    def segment(image):
        seen.append(image)
        return scores(image)

    pipeline = build(ROUTES["one"], segment=segment, segment_size=parse_size(spec))
    image = pipeline.upload(raw_frame(64, 96))
    result = pipeline(image)
    assert result.mattes.shape == (1, 1, 64, 96)
    if spec in (1.0, None):
        assert seen[0] is image
        return
    assert tuple(seen[0].shape[2:]) == ((32, 48) if spec == 0.5 else (24, 40))
    assert 0 <= seen[0].min() <= seen[0].max() <= 1
    torch.testing.assert_close(seen[0].mean(), image.mean(), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("frame", "good", "seen"),
    [
        ((1066, 1600), (384, 512), (352, 544)),
        ((384, 512), (384, 512), (384, 512)),
        ((512, 512), (384, 512), (512, 512)),
        ((64, 48), (384, 512), (64, 48)),
        ((600, 600), (384, 512), (448, 448)),
        ((9, 40000), (384, 512), (9, 29568)),
        ((1080, 1920), (512, 1024), (544, 960)),
    ],
)
def test_large_frames_are_made_as_small_as_the_segmenter_is_good_at(frame, good, seen):
    assert Fit(*good)(*frame) == seen
    if frame[0] * frame[1] < 10**5:
        assert resized(torch.zeros(1, 3, *frame), Fit(*good)).shape[2:] == seen


@pytest.mark.parametrize("spec", [0, 1.5, -0.5, True, "half", [256], [0, 4], [1.5, 2], "12"])
def test_another_segment_size_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match="is neither a height and a width") as error:
        parse_size(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("side", [10**5, 10**9, 10**19])
def test_a_segment_size_too_large_is_told_before_anything_is_allocated(side):
    pipeline = build(
        ROUTES["one"],
        segment=lambda image: pytest.fail("was run"),
        segment_size=parse_size([side, side]),
    )
    with pytest.raises(MemoryLimitError, match=r"segment_size=\[1.*GiB") as error:
        restyle(pipeline, raw_frame(64, 96))
    assert "\n" not in str(error.value)


def test_instances_found_at_another_size_are_enlarged():
    def detect(image):
        masks = torch.zeros(1, *image.shape[2:])
        masks[:, : image.shape[2] // 2] = 1
        none = Instances(masks[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        return [Instances(masks, torch.ones(1, dtype=torch.int64), torch.ones(1)), none]

    plan = build(ROUTES["one"], detector=Stage(detect, "detector"), segment_size=0.5).plan
    one, none = scoring.instances(torch.rand(2, 3, 64, 96), plan)
    assert one.masks.shape == (1, 64, 96)
    assert none.masks.shape == (0, 64, 96)
    assert (one.masks[0].mean(1).round() == (torch.arange(64) < 32)).all()


def test_a_frame_too_large_is_refused_before_any_work(monkeypatch):
    asked = []

    def check(height, width, bytes_per_pixel, device):
        asked.append((height, width, bytes_per_pixel))
        raise MemoryLimitError("too large")

    monkeypatch.setattr(stream, "check_memory", check)
    pipeline = build(ROUTES["one"], segment=lambda image: pytest.fail("was run"), cost=1000)
    with pytest.raises(MemoryLimitError):
        pipeline.admit(raw_frame(64, 96))
    ((height, width, bytes_per_pixel),) = asked
    assert (height, width) == (64, 96)
    assert bytes_per_pixel > 1000 + 3 * 4 * 3


def test_each_size_is_checked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(stream, "check_memory", lambda h, w, cost, device: asked.append((h, w)))
    pipeline = build([])
    for size in [(8, 8), (8, 8), (4, 8), (8, 8)]:
        pipeline.admit(raw_frame(*size))
    assert asked == [(8, 8), (4, 8)]


def test_the_meter_times_every_stage():
    meter = Meter()
    pipeline = build(ROUTES["one"])
    pipeline(pipeline.upload(raw_frame(8, 8)), meter=meter)
    assert list(meter.latencies()) == ["segment", "matte", "style", "composite"]
