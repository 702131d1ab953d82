"""What plugins return is looked at: values, and pictures that they were only lent."""

import os
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from cbs_plugins.compositors.guided import GuidedCompositor
from cbs_plugins.compositors.hard import HardCompositor
from test_pipeline import ROUTES, STYLES, build, restyle, scores

from cbs_core.contract.errors import ConfigError, PluginContractError, PluginLoadError
from cbs_core.frame.stage import EVERY, Recall, Stage
from cbs_core.testing import raw_frame
from tests.strange import Odd, Wordless


def spoiled(values, number):
    """Returns a copy whose first value is a number."""
    values = values.clone(memory_format=torch.contiguous_format)
    values.view(-1)[0] = number
    return values


def inverse(image):
    return image.neg_().add_(1)


def blend(image, styled, alpha):
    return torch.lerp(image, styled, alpha)


SPOILED = {
    "sparse style": ({"styler": lambda i: i.to_sparse()}, "styler", "returned torch.sparse"),
    "nan style": ({"styler": lambda i: spoiled(1 - i, torch.nan)}, "styler", "NaN or infinity"),
    "inf style": ({"styler": lambda i: spoiled(1 - i, -torch.inf)}, "styler", "NaN or infinity"),
    "nan logits": ({"segment": lambda i: spoiled(scores(i), torch.nan)}, "segmenter", "NaN or inf"),
    "inf logits": ({"segment": lambda i: spoiled(scores(i), torch.inf)}, "segmenter", "NaN or inf"),
    "nan blend": ({"compositor": lambda *a: spoiled(blend(*a), torch.nan)}, "compositor", "NaN or"),
    "bright style": ({"styler": lambda i: spoiled(i, 1.5)}, "styler", "to 1.5 where"),
    "levels": ({"styler": lambda i: spoiled(i, -1)}, "styler", "from -1 to"),
    "sparse": ({"styler": lambda i: (1 - i).to_sparse()}, "styler", "torch.sparse_coo where a"),
    "no logits": ({"segment": lambda i: scores(i)[..., :0, :0]}, "segmenter", "(1, 4, 0, 0) where"),
    "bright blend": ({"compositor": lambda *a: spoiled(blend(*a), 2)}, "compositor", "to 2 where"),
    "style in place": ({"styler": inverse}, "styler", "changed in place"),
    "logits in place": ({"segment": lambda i: scores(i.mul_(0.5))}, "segmenter", "in place"),
    "blend in place": ({"compositor": lambda i, t, a: i.lerp_(t, a)}, "compositor", "in place"),
    "style blended in place": (
        {"compositor": lambda i, t, a: t.copy_(torch.lerp(i, t, a))},
        "compositor",
        "in place",
    ),
}


def stream(spoil, mode="argmax"):
    spoil = dict(spoil)
    stylers = {"negative": spoil.pop("styler", STYLES["negative"])}
    return build(ROUTES["one"], stylers=stylers, mode=mode, **spoil)


@pytest.mark.parametrize("mode", ["argmax", "soft"])
@pytest.mark.parametrize(("spoil", "plugin", "told"), SPOILED.values(), ids=SPOILED.keys())
def test_the_first_frame_is_looked_at(spoil, plugin, told, mode):
    with pytest.raises(PluginContractError, match=re.escape(told)) as error:
        restyle(stream(spoil, mode), raw_frame(64, 96))
    assert f"the {plugin} '" in str(error.value)
    assert re.search(r" of cbs-\w+ \d\.0 ", str(error.value))
    assert "\n" not in str(error.value)


class From:
    """Fails from a call on."""

    def __init__(self, call, good, bad):
        self.calls, self.call, self.good, self.bad = 0, call, good, bad

    def __call__(self, *inputs):
        self.calls += 1
        return (self.bad if self.calls >= self.call else self.good)(*inputs)


@pytest.mark.parametrize(
    "spoil",
    [
        {"styler": From(3, STYLES["negative"], inverse)},
        {"compositor": From(3, blend, lambda *a: a[0].lerp_(*a[1:]))},
        {"segment": From(3, scores, lambda i: scores(i.mul_(0.5)))},
        {"styler": From(3, STYLES["negative"], lambda i: 1 - i.resize_(0))},
    ],
    ids=["styler", "compositor", "segmenter", "resized"],
)
def test_on_the_host_pictures_that_are_changed_as_a_whole_are_found_in_each_frame(spoil):
    pipeline = stream(spoil)
    for _ in range(2):
        restyle(pipeline, raw_frame(64, 96))
    with pytest.raises(PluginContractError, match="in place"):
        restyle(pipeline, raw_frame(64, 96))


def touched(image):
    image[..., 5, 7] = 0
    return image


@pytest.mark.parametrize(
    "spoil",
    [
        {"styler": From(3, STYLES["negative"], lambda i: 1 - touched(i))},
        {"compositor": From(3, blend, lambda i, t, a: blend(touched(i), t, a))},
        {"segment": From(3, scores, lambda i: scores(touched(i)))},
    ],
    ids=["styler", "compositor", "segmenter"],
)
def test_pixels_changed_later_are_found_at_times_after(spoil):
    pipeline = stream(spoil)
    for _ in range(EVERY):
        restyle(pipeline, raw_frame(64, 96))
    with pytest.raises(PluginContractError, match="in place"):
        restyle(pipeline, raw_frame(64, 96))


def test_pictures_of_another_size_are_looked_at_too():
    """As a net does that pads: what it changes is its own copy there."""

    def net(image):
        high, wide = (-side % 4 for side in image.shape[2:])
        seen = torch.nn.functional.pad(image, (0, wide, 0, high)) if high or wide else image
        return inverse(seen)[..., : image.shape[2], : image.shape[3]]

    pipeline = stream({"styler": net})
    for _ in range(2):
        restyle(pipeline, raw_frame(63, 97))
    with pytest.raises(PluginContractError, match="in place"):
        restyle(pipeline, raw_frame(64, 96))


def test_on_the_host_values_are_looked_at_in_each_frame():
    plugin = From(3, STYLES["negative"], lambda image: image * torch.nan)
    pipeline = stream({"styler": plugin})
    for _ in range(2):
        restyle(pipeline, raw_frame(64, 96))
    with pytest.raises(PluginContractError, match="NaN"):
        restyle(pipeline, raw_frame(64, 96))


def test_rounding_passes():
    restyle(stream({"styler": lambda image: spoiled(image, 1 + 1e-4)}), raw_frame(64, 96))


def test_a_call_that_fails_for_memory_is_not_the_one_that_is_looked_at():
    def full(image):
        raise torch.OutOfMemoryError("full")

    looked = Stage(From(1, None, full), "styler 's' of x 1")
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(torch.OutOfMemoryError):
        looked.picture(image)
    looked.call.bad = inverse
    with pytest.raises(PluginContractError, match="in place"):
        looked.picture(image)


@pytest.mark.cuda
def test_between_two_looks_on_a_gpu_the_background_stays():
    """And nothing waits there."""
    image = torch.rand(1, 3, 64, 96, device="cuda")
    styler = Stage(From(2, lambda i: 1 - i, lambda i: i * torch.nan), "styler 's' of x 1")
    blended = Stage(HardCompositor(), "compositor 'c' of x 1")
    alpha = (torch.rand(1, 1, 64, 96, device="cuda") > 0.5).float()
    picture = styler.picture(image)
    blended.picture(image, picture, alpha)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = blended.picture(image, styler.picture(image), alpha)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    outside = (alpha == 0).expand_as(image)
    assert torch.equal(out[outside], image[outside])
    for _ in range(EVERY - 2):
        styler.picture(image)
    with pytest.raises(PluginContractError, match="NaN"):
        styler.picture(image)


def test_a_parameter_that_is_no_number_is_refused():
    for value in (torch.nan, torch.inf):
        with pytest.raises(ConfigError, match=r"compositor\.eps"):
            GuidedCompositor(eps=value)


@pytest.mark.parametrize(
    "error", [SystemExit(0), Odd("gone"), GeneratorExit(), Wordless()], ids=repr
)
def test_what_ends_a_program_is_told_by_the_plugins_package(error):
    def fail(image):
        raise error

    with pytest.raises(PluginContractError, match=f"cbs-x 1.0 failed .*{type(error).__name__}"):
        restyle(stream({"styler": fail}), raw_frame(64, 96))


@pytest.mark.parametrize("way", ["reset", "state", "restore"])
def test_so_is_what_a_plugin_says_of_its_state(way):
    def fail(*_):
        raise Odd("gone")

    plugin = SimpleNamespace(**{"reset": lambda: None, "state": dict, "restore": lambda s: None})
    setattr(plugin, way, fail)
    recall = Recall(plugin, "styler 'x' of cbs-x 1.0")
    recall._at = {"one": 1}
    ask = recall.now if way == "state" else partial(recall.bring, None if way == "reset" else {})
    with pytest.raises(PluginLoadError, match=r"cbs-x 1\.0 failed \(Odd: gone\)"):
        ask()


def test_a_plugin_does_not_take_the_working_folder_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "else").mkdir()

    def go(image):
        os.chdir("else")
        return image

    restyle(stream({"styler": go}), raw_frame(64, 96))
    assert os.getcwd() == str(tmp_path)


def test_an_interrupt_in_a_plugin_stays_one():
    def fail(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restyle(stream({"styler": fail}), raw_frame(64, 96))
