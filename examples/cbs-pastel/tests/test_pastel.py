import inspect
from pathlib import Path

import cbs_pastel
import pytest
import torch
import yaml
from cbs_pastel import Pastel

from cbs_core.testing import StylerSuite, picture

PRESETS = Path(cbs_pastel.__file__).parent / "conf" / "styler"


def preset(name):
    params = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert params.pop("name") == "pastel"
    return params


class TestPastel(StylerSuite):
    def create(self):
        return Pastel()


class TestPastelSoft(StylerSuite):
    def create(self):
        return Pastel(**preset("pastel_soft"))


def test_the_preset_states_the_defaults():
    defaults = {key: p.default for key, p in inspect.signature(Pastel).parameters.items()}
    assert preset("pastel") == defaults


def test_pastels_are_lighter_than_the_photograph():
    image = picture(64, 96)
    assert Pastel()(image).mean() > image.mean() + 0.1


def test_patches_are_smooth_and_edges_stay():
    generator = torch.Generator().manual_seed(1)
    image = 0.2 + 0.02 * torch.rand(1, 3, 64, 64, generator=generator)
    image[..., 32:] += 0.6
    out = Pastel(posterise=0, lift=0, outline=0, grain=0)(image)
    assert out[0, 0, :, :24].std() < 0.5 * image[0, 0, :, :24].std()
    step = (out[..., 32] - out[..., 31]).mean()
    assert step > 0.55, "an edge must not be blurred"


def test_lightness_settles_on_levels():
    grey = torch.linspace(0, 1, 256).expand(1, 3, 64, 256)
    out = Pastel(radius=1, levels=4, posterise=1, lift=0, saturation=0, outline=0, grain=0)(grey)
    light = 4 * out.mean(1)
    near = (light - light.round()).abs() < 0.1
    assert near.float().mean() > 0.4, "with no posterising it is a fifth"


def test_the_paper_has_no_seam_and_is_repeated():
    grey = torch.full((1, 3, 300, 600), 0.5)
    out = Pastel()(grey)
    assert torch.equal(out[..., :44, :256], out[..., 256:, 256:512])
    paper = Pastel().paper[0, 0]
    across = (paper[:, 0] - paper[:, -1]).abs().mean()
    within = (paper[:, 1:] - paper[:, :-1]).abs().mean()
    assert 0.5 < across / within < 1.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_stays_close(dtype):
    image = picture(64, 96)
    want = Pastel()(image)
    have = Pastel().to(dtype)(image.to(dtype))
    assert have.dtype == dtype
    assert (have.float() - want).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("radius", 0),
        ("radius", 2.5),
        ("levels", 1),
        ("posterise", 1.1),
        ("lift", 1),
        ("saturation", -0.1),
        ("outline", "dark"),
        ("outline", float("nan")),
        ("grain", True),
    ],
)
def test_a_parameter_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name}=.* must be a .*number from \d"):
        Pastel(**{name: value})
