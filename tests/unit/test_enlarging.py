"""A style painted smaller than the frame: where the edges are the frame's, and the strokes grow."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.nets.feed_forward import GOOD_SIZE
from cbs_plugins.stylers.johnson import JohnsonStyler
from test_johnson import save

from cbs_core.accelerators.eager import Eager
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import PluginContractError
from cbs_core.frame.enlarging import FLAT, LUMA, STEEPEST, Enlarged, enlarged, reduced_cells
from cbs_core.frame.sizes import Fit
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import ByStatistics, Shown, Whole, WithMatte
from cbs_core.frame.windows import INVISIBLE, occupancy
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.run import sizing, workshop
from cbs_core.run.settings import Look
from cbs_core.temporal.wanted import Policy
from cbs_core.testing import picture


def shown(matte):
    return Shown(matte, [0], (occupancy(matte) > INVISIBLE)[:, 0].numpy(), 0)


def everywhere(image):
    return shown(torch.ones(len(image), 1, *image.shape[2:]))


def straight(styled, small, image):
    """The same in float64, pixel by pixel."""
    light, paint = (np.tensordot(LUMA, one, 1) for one in (small, styled))
    rows, columns = light.shape

    def square(x, row, column, radius):
        above, left = max(0, row - radius), max(0, column - radius)
        return x[above : row + radius + 1, left : column + radius + 1]

    slope = np.zeros_like(light)
    for row, column in itertools.product(range(rows), range(columns)):
        i, p = square(light, row, column, 2), square(paint, row, column, 2)
        together = (i * p).mean() - i.mean() * p.mean()
        slope[row, column] = np.clip(together / (i.var() + FLAT), -STEEPEST / 2, STEEPEST)
    smooth = np.array(
        [[square(slope, row, column, 1).mean() for column in range(columns)] for row in range(rows)]
    )
    parts = torch.from_numpy(np.concatenate([styled - smooth * light, smooth[None]]))[None]
    parts = F.interpolate(parts, image.shape[1:], mode="bilinear")[0].numpy()
    return np.clip(parts[:3] + parts[3] * np.tensordot(LUMA, image, 1), 0, 1)


@pytest.mark.parametrize("size", [(40, 52), (31, 17), (9, 40)])
def test_it_is_the_straight_line_version(size):
    image, small, styled = picture(*size), picture(16, 12, seed=1), picture(16, 12, seed=2)
    expected = straight(*(one[0].double().numpy() for one in (styled, small, image)))
    np.testing.assert_allclose(enlarged(styled, small, image)[0], expected, atol=2e-5)


def test_paint_that_follows_the_light_has_the_frames_edges():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 37:] = 1
    small = F.interpolate(image, (16, 16), mode="bilinear", antialias=True)
    out = enlarged(0.8 - 0.5 * small, small, image)
    assert (out[..., 30:36] - 0.8).abs().max() < 0.02
    assert (out[..., 38:44] - 0.3).abs().max() < 0.02, "within a pixel, where 4 were one"
    plain = F.interpolate(0.8 - 0.5 * small, (64, 64), mode="bilinear")
    assert (plain[..., 38:44] - 0.3).abs().max() > 0.05


def test_strokes_that_follow_no_light_stay_as_they_are():
    stroke = picture(16, 16, seed=3)
    grey = torch.full((1, 3, 16, 16), 0.5)
    out = enlarged(stroke, grey, torch.full((1, 3, 64, 64), 0.5))
    torch.testing.assert_close(out, F.interpolate(stroke, (64, 64), mode="bilinear"))


@pytest.mark.parametrize(
    "frames",
    [
        *(((64, 96), (32, 48)), ((65, 131), (17, 50)), ((9, 700), (9, 5))),
        *(((105, 114), (98, 50)), ((144, 139), (106, 64)), ((198, 157), (47, 127))),
    ],
)
def test_every_pixel_that_is_needed_is_painted(frames):
    frame, small = frames
    generator = np.random.default_rng(0)
    grid = tuple(-(-side // 8) for side in frame)
    for _ in range(5):
        cells = generator.random((2, *grid)) < 0.1
        found = reduced_cells(cells, frame, small)
        assert found.shape == (2, *(-(-side // 8) for side in small))
        painted = torch.rand(2, 3, *small)
        hidden = torch.from_numpy(found).repeat_interleave(8, 1).repeat_interleave(8, 2)
        spoilt = torch.where(hidden[:, None, : small[0], : small[1]], painted, 0.5)
        light, image = torch.rand(2, 3, *small), torch.rand(2, 3, *frame)
        same = enlarged(painted, light, image) == enlarged(spoilt, light, image)
        inside = torch.from_numpy(cells).repeat_interleave(8, 1).repeat_interleave(8, 2)
        inside = inside[:, None, : frame[0], : frame[1]].expand_as(same)
        assert same[inside].all()


def test_a_frame_of_that_size_is_passed_on():
    image = picture(48, 64)
    seen = []
    inner = Whole(Stage(lambda one: seen.append(one) or 1 - one, "a styler"))
    for scale in (1.0, (48, 64), Fit(48, 64), Fit(600, 600), None):
        out, _ = Enlarged(inner, scale)(image, everywhere(image), None)
        assert torch.equal(out, 1 - image)
        assert seen.pop() is image
    assert Enlarged(inner, Fit(48, 64)).bytes_per_pixel(48, 64) == inner.bytes_per_pixel(48, 64)


@pytest.mark.parametrize("scale", [0.001, 0.3, (5, 200), (200, 300), Fit(24, 32)])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_size_gives_a_picture_of_the_frames(scale, batch, tmp_path):
    styler = JohnsonStyler(weights=str(save(tmp_path))).eval()
    image = torch.cat([picture(50, 70, seed=seed) for seed in range(batch)])
    made = Enlarged(Whole(Stage(styler, "a styler")), scale)
    with torch.inference_mode():
        out, _ = made(image, everywhere(image), None)
        made.prepare(image)
    assert out.shape == image.shape
    assert 0 <= out.min() <= out.max() <= 1


def test_windows_show_what_the_whole_shows(tmp_path):
    styler = JohnsonStyler(weights=str(save(tmp_path))).eval()
    image = picture(400, 640)
    matte = torch.zeros(1, 1, 400, 640)
    matte[..., 200:260, 300:420] = 1
    out = {}
    for masked in (False, True):
        nets = (
            Eager(net, torch.float32) for net in (styler.dense_module(), styler.window_module())
        )
        inner = ByStatistics(
            "a styler",
            *nets,
            policy=Policy(),
            masked=masked,
            halo=styler.halo,
            align=styler.align,
            reach=0,
        )
        made = Enlarged(inner, 0.6)
        assert made.policy == Policy()
        assert made.tells_scenes_apart
        with torch.inference_mode():
            _, memory = made(image, shown(matte), None)
            out[masked], _ = made(image, shown(matte), memory)
    here = matte.bool().expand_as(image)
    assert (out[True] - out[False])[here].abs().max() < 1e-3
    assert (out[True] - out[False]).abs().max() > 0.05, "elsewhere nothing is painted"


def test_a_matte_comes_in_the_size_of_what_is_painted():
    image = picture(64, 96)
    seen = []
    inner = WithMatte(Stage(lambda one, matte: seen.append(matte) or one, "a styler"))
    matte = torch.zeros(1, 2, 64, 96)
    matte[:, 0, :32], matte[:, 1, :, :48] = 1, 0.5
    Enlarged(inner, 0.5)(image, Shown(matte, [0, 1], np.ones((1, 8, 12), bool), 0), None)
    (given,) = seen
    assert given.shape == (1, 1, 32, 48)
    assert 0 <= given.min() <= given.max() <= 1
    assert (given[..., 20:, :20] == 0.5).all()


def test_a_size_too_large_is_told_before_anything_is_allocated():
    image = picture(16, 16)
    made = Enlarged(Whole(Stage(lambda one: pytest.fail("was run"), "a styler")), (10**7, 10**7))
    with pytest.raises(MemoryLimitError, match=r"style_size=\[10000000,10000000\]"):
        made(image, everywhere(image), None)


def test_a_large_frame_costs_what_is_painted():
    inner = Whole(Stage(lambda one: one, "a styler", bytes_per_pixel=1000))
    made = Enlarged(inner, Fit(512, 512))
    assert made.bytes_per_pixel(512, 512) == 1000
    assert 48 < made.bytes_per_pixel(4096, 4096) < 80


class Good:
    """A styler that says what it is good at."""

    good_size = (64, 96)


def test_the_styler_says_what_size_it_is_good_at():
    inner = Whole(Stage(lambda one: one, "a styler"))
    assert sizing.sized("auto", Good(), inner) == Enlarged(inner, Fit(64, 96))
    assert sizing.sized("auto", object(), inner) is inner
    assert sizing.sized(None, Good(), inner) is inner
    assert sizing.sized(0.5, object(), inner) == Enlarged(inner, 0.5)
    bad = Good()
    bad.good_size = "large"
    with pytest.raises(PluginContractError, match="a styler has good_size='large'"):
        sizing.sized("auto", bad, inner)


def test_strokes_take_the_same_share_of_large_frames(tmp_path):
    image = picture(*GOOD_SIZE)
    large = F.interpolate(image, (1024, 1024), mode="bilinear")
    weights = str(save(tmp_path))
    shop = workshop.Workshop(torch.device("cpu"), torch.float32)
    painted = {}
    for spec in ("auto", None):
        look = Look(
            segmenter=Choice("none"),
            styler=Choice("johnson", {"weights": weights}),
            accelerator=Choice("eager"),
            routes=["everything"],
            style_size=spec,
        )
        (styling,) = shop.plan(look, ("thing",)).stylings.values()
        with torch.inference_mode():
            small, _ = styling(image, everywhere(image), None)
            out, _ = styling(large, everywhere(large), None)
        back = F.interpolate(out, GOOD_SIZE, mode="bilinear", antialias=True)
        painted[spec] = float((back - small).abs().mean())
    assert painted["auto"] < painted[None] / 2
