"""From plain values to a pipeline, with plugins registered for the test."""

import threading
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError, PluginContractError, PluginLoadError
from cbs_core.contract.types import WeightsFile
from cbs_core.frame.sizes import Fit
from cbs_core.run import settings, workshop
from cbs_core.run.stream import Stream

CPU = torch.device("cpu")


class Segmenter(nn.Module):
    classes = ("road", "car")
    bytes_per_pixel = 100

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.weights_files = (WeightsFile("net.pth", "aa"),)

    def forward(self, image):
        return self.conv(image)


class Styler(nn.Module):
    """Its weight tells the dtype it runs in, the picture whether it is in training mode."""

    made: ClassVar[list["Styler"]] = []

    def __init__(self, style="a"):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.weights_files = (WeightsFile(f"{style}.pth", style), WeightsFile("net.pth", "aa"))
        Styler.made.append(self)

    def forward(self, image):
        assert not self.training
        assert image.dtype == self.scale.dtype
        return image * self.scale


class Plain:
    def __call__(self, image):
        return image


class Window(nn.Module):
    """A `MatteStyler`, which stays float32."""

    bytes_per_pixel = 100

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image):
        raise AssertionError("style_matte is called in its place")

    def style_matte(self, image, matte):
        assert not self.training
        assert not self.scale.requires_grad
        return image * (1 - matte) * self.scale


class Pair(nn.Module):
    def forward(self, image):
        return image, image


class Compositor(nn.Module):
    def forward(self, image, styled, alpha):
        assert not self.training
        return torch.lerp(image, styled, alpha)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    for kind, name, target in [
        ("segmenter", "quarters", Segmenter),
        ("segmenter", "nameless", Plain),
        ("styler", "scaled", Styler),
        ("styler", "plain", Plain),
        ("styler", "window", Window),
        ("styler", "value", lambda: 3),
        ("styler", "pair", Pair),
        ("compositor", "blend", Compositor),
        ("accelerator", "broken", lambda: broken),
    ]:
        monkeypatch.setitem(registry.REGISTRIES[kind]._registered, name, target)
    monkeypatch.setattr(Styler, "made", [])


def broken(module, *, device, dtype, kind):
    raise RuntimeError("no compiler\nfound")


def config(**changes):
    return {
        "segmenter": {"name": "quarters"},
        "styler": {"name": "scaled", "style": "a"},
        "compositor": {"name": "blend"},
        "accelerator": {"name": "eager"},
        "routes": ["car"],
        "matte": "argmax",
    } | changes


def make(dtype=torch.float32, **changes):
    return Stream(workshop.plan(config(**changes), device=CPU, dtype=dtype))


def test_a_pipeline_and_what_it_was_built_from():
    stream = make(routes={"car": "b", "road": "a"})
    built = stream.plan
    assert built.classes == ("road", "car")
    assert [route.params for route in built.routes] == [{"style": "b"}, {"style": "a"}]
    assert sorted(file.sha256 for file in built.facts.weights) == ["a", "aa", "b"]
    assert built.facts.plugins.keys() == {
        "accelerator/eager",
        "compositor/blend",
        "segmenter/quarters",
        "styler/scaled",
    }
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(stream(image).image, image)


def test_one_style_is_built_once_for_all_its_routes():
    make(routes={"car": {"style": "a"}, "road": {"style": "a", "strength": 0.5}})
    assert len(Styler.made) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nets_compute_in_the_precision_and_pictures_stay_float32(dtype):
    built = make(dtype)
    assert Styler.made[0].scale.dtype == dtype
    assert built(torch.rand(1, 3, 8, 8)).image.dtype == torch.float32
    assert built.plan.segmenter.bytes_per_pixel == 100 * dtype.itemsize // 4


def test_the_memory_of_what_stays_float32_is_not_scaled():
    built = make(dtype=torch.bfloat16, styler={"name": "window"})
    assert next(iter(built.plan.stylings.values())).bytes_per_pixel(8, 8) == 100


def test_a_styler_that_uses_the_matte_is_prepared_like_any_other():
    built = make(styler={"name": "window"})
    image = torch.rand(1, 3, 8, 8)
    result = built(image)
    torch.testing.assert_close(result.image, image * (1 - result.mattes))


def test_a_plugin_that_is_no_module_is_called_as_it_is():
    assert make(styler={"name": "plain"})(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"styler": None}, ConfigError, r"styler: no plugin is chosen: say styler=NAME"),
        ({"styler": {"style": "a"}}, ConfigError, r"styler: no plugin is chosen"),
        ({"styler": {"name": "scaled", "x": 1}}, ConfigError, r"no parameter 'x'"),
        ({"segmenter": {"name": "nameless"}}, PluginContractError, "'nameless' .* has no `classes"),
        ({"styler": {"name": "value"}}, PluginContractError, "'value' .* cannot be called"),
        (
            {"accelerator": {"name": "broken"}},
            PluginLoadError,
            r"'quarters' of .* under the accelerator 'broken' .* failed \(Runt.*compiler found\)",
        ),
    ],
)
def test_what_cannot_be_built_is_told(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_a_net_that_returns_no_tensor_is_told_in_the_frameworks_words():
    with pytest.raises(PluginContractError, match=r"'pair' .* returned tuple where a tensor is"):
        make(styler={"name": "pair"}, routes=["car", "road"])(torch.rand(1, 3, 8, 8))


def test_a_new_stream_begins_every_plugin_with_state_anew(monkeypatch):
    forgotten = []

    class Remembering(Plain):
        def reset(self):
            forgotten.append(self)

    monkeypatch.setitem(registry.stylers._registered, "remembering", Remembering)
    stream = make(styler={"name": "remembering"}, routes=["car", "road"])
    stream(torch.rand(1, 3, 8, 8))
    stream(torch.rand(1, 3, 8, 8))
    assert forgotten == []
    stream.reset()
    stream(torch.rand(1, 3, 8, 8))
    assert len(forgotten) == 1


def look(**changes):
    return settings.look(config(**changes))


def test_a_plan_like_an_earlier_one_shares_its_parts():
    shop = workshop.Workshop(CPU, torch.float32)
    one = shop.plan(look(routes={"car": "a"}))
    other = shop.plan(look(routes={"car": {"style": "a", "strength": 0.5}, "road": "b"}))
    assert other.segmenter is one.segmenter
    (style,) = one.stylings
    assert other.stylings[style] is one.stylings[style]
    assert len(Styler.made) == 2


def test_a_plan_is_built_beside_a_stream_and_ready_when_it_is_taken():
    shop = workshop.Workshop(CPU, torch.float32)
    stream = Stream(shop.plan(look(routes={"car": "a"})))
    image = torch.rand(1, 3, 8, 8)
    ordered = shop.order(look(routes={"car": "b"}), image)
    stream(image)
    plan = ordered.result(timeout=30)
    assert (1, 3, 8, 8) in next(iter(plan.stylings.values())).stage.call.built
    stream.plan = plan
    assert stream(image).plan is plan
    shop.close()
    shop.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cbs-workshop")]


def test_what_cannot_be_built_beside_is_told_to_whoever_asks():
    shop = workshop.Workshop(CPU, torch.float32)
    with pytest.raises(ConfigError, match="no parameter 'x'"):
        shop.order(look(styler={"name": "scaled", "x": 1})).result(timeout=30)
    shop.close()


@pytest.mark.parametrize(
    ("good", "spec", "seen"),
    [
        ((64, 96), "auto", Fit(64, 96)),
        ([64, 96], "auto", Fit(64, 96)),
        (None, "auto", None),
        ((64, 96), None, None),
        ((64, 96), 0.5, 0.5),
    ],
)
def test_the_segmenter_says_what_size_it_is_good_at(monkeypatch, good, spec, seen):
    assert make().plan.segment_size is None
    monkeypatch.setattr(Segmenter, "good_size", good, raising=False)
    assert make(segment_size=spec).plan.segment_size == seen
    assert make().plan.segment_size == (None if good is None else Fit(64, 96)), (
        "auto is the default"
    )


@pytest.mark.parametrize("good", [3, "big", (0, 4), (1, 2, 3), ("a", 4)])
def test_a_size_that_is_none_is_told_by_the_plugins_name(monkeypatch, good):
    monkeypatch.setattr(Segmenter, "good_size", good, raising=False)
    with pytest.raises(PluginContractError, match="'quarters' of this process has good_size"):
        make()


@pytest.mark.parametrize(
    ("plugin", "named", "attribute"),
    [(Segmenter, "quarters", "classes"), (Segmenter, "quarters", "good_size"),
     (Styler, "scaled", "good_size"), (Styler, "scaled", "eval")],
)  # fmt: skip
def test_who_exits_where_it_is_asked_what_it_is_is_named(monkeypatch, plugin, named, attribute):
    def leave(self):
        raise SystemExit(0)

    told = leave if attribute == "eval" else property(leave)
    monkeypatch.setattr(plugin, attribute, told, raising=False)
    with pytest.raises(PluginLoadError, match=rf"'{named}' of this process failed \(SystemExit: 0"):
        make()


def test_what_is_kept_is_bounded():
    shop = workshop.Workshop(CPU, torch.float32)
    for number in range(2 * workshop.KEPT):
        shop.plan(look(routes={"car": f"style{number}"}))
    assert len(shop._parts) == workshop.KEPT


def test_a_plan_on_another_device_is_refused():
    stream = make()
    with pytest.raises(ConfigError, match="a stream on cpu cannot go on with a plan on meta"):
        stream.plan = replace(stream.plan, device=torch.device("meta"))
