from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.mrf import MRFCompositor, min_cut

from cbs_core.contract.errors import ConfigError


def scene(height=96, width=128, *, cell=8, noise=0.02):
    """A bright disc on a dark ground, its true matte, and that matte in coarse cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    true = ((y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2).float()[None, None]
    generator = torch.Generator().manual_seed(0)
    image = 0.3 + 0.4 * true + noise * torch.randn(1, 3, height, width, generator=generator)
    middle = true[..., cell // 2 :: cell, cell // 2 :: cell]
    return image.clamp(0, 1), true, F.interpolate(middle, scale_factor=float(cell), mode="nearest")


def matte(compositor, image, alpha):
    """The matte that the compositor blends by."""
    dark = torch.zeros_like(image)
    return compositor(dark + image, dark + image + 1, alpha)[:, :1] - image[:, :1]


def iou(one, two):
    return ((one * two).sum() / torch.maximum(one, two).sum()).item()


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_minimum_of_all_labels(seed):
    rng = np.random.default_rng(seed)
    pairs = np.array([[0, 1, 3, 4, 6, 7, 0, 1, 2, 3, 4, 5], [1, 2, 4, 5, 7, 8, 3, 4, 5, 6, 7, 8]])
    favour, weights = rng.normal(0, 1, 9), rng.random(12)

    def energy(x):
        return -(favour * x).sum() + (weights * (x[pairs[0]] != x[pairs[1]])).sum()

    least = min(energy(np.array(x)) for x in product([False, True], repeat=9))
    assert energy(min_cut(favour, pairs, weights)) == pytest.approx(least, abs=0.03)


def test_a_coarse_matte_gets_the_pictures_edge():
    image, true, coarse = scene()
    before, after = iou(coarse, true), iou(matte(MRFCompositor(feather=0), image, coarse), true)
    assert before < 0.93
    assert after > 0.995


def test_the_boundary_gets_shorter_where_the_picture_says_nothing():
    _, true, coarse = scene()
    image = torch.full((1, 3, *true.shape[2:]), 0.5)

    def length(labels):
        """Unlike neighbours, of eight, over their distance."""
        straight = labels.diff(dim=2).abs().sum() + labels.diff(dim=3).abs().sum()
        slanted = (
            labels[..., 1:, 1:] - labels[..., :-1, :-1],
            labels[..., 1:, :-1] - labels[..., :-1, 1:],
        )
        return (straight + sum(d.abs().sum() for d in slanted) / 2**0.5).item()

    out = matte(MRFCompositor(feather=0), image, coarse)
    assert iou(out, true) > iou(coarse, true)
    assert length(out) < 0.9 * length(coarse)


@pytest.mark.parametrize("outlier", [0, 1])
def test_outlier_pixels_go(outlier):
    image, true, _ = scene(noise=0)
    alpha = true.clone()
    y, x = (48, 64) if outlier == 0 else (5, 5)
    alpha[..., y : y + 2, x : x + 2] = outlier
    assert torch.equal(matte(MRFCompositor(feather=0), image, alpha).round(), true)


def test_without_smoothness_the_matte_stays():
    image, _, coarse = scene()
    assert torch.equal(matte(MRFCompositor(smoothness=0, feather=0), image, coarse).round(), coarse)


@pytest.mark.parametrize("strength", [0.25, 0.6])
def test_is_linear_in_the_mattes_scale(strength):
    image, _, coarse = scene()
    styled = 1 - image
    full = MRFCompositor()(image, styled, coarse)
    weak = MRFCompositor()(image, styled, coarse * strength)
    torch.testing.assert_close(weak, torch.lerp(image, full, strength), atol=1e-6, rtol=0)


def test_distant_mattes_are_superposed():
    image, _, _ = scene(96, 160)
    left, right = torch.zeros(2, 1, 1, 96, 160).unbind()
    left[..., 20:43, 10:33] = 1
    right[..., 50:71, 110:140] = 1
    compositor = MRFCompositor()
    both = compositor(image, 1 - image, left + right)
    parts = compositor(image, 1 - image, left) + compositor(image, 1 - image, right) - image
    torch.testing.assert_close(both, parts, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("width", "feather"), [(8, 2), (3, 0), (5, 6)])
def test_the_background_is_exact_beyond_band_and_feather(width, feather):
    image, _, coarse = scene()
    out = MRFCompositor(width=width, feather=feather)(image, 1 - image, coarse)
    reach = 2 * (width + feather) + 1
    near = F.max_pool2d(coarse, reach, 1, reach // 2).expand_as(image) > 0
    assert torch.equal(out[~near], image[~near])


def test_a_soft_matte_keeps_its_values_nearby():
    image, true, _ = scene(noise=0)
    alpha = F.avg_pool2d(true, 9, 1, 4) * 0.8
    out = matte(MRFCompositor(feather=0), image, alpha)
    torch.testing.assert_close(out, 0.8 * true, atol=1e-2, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (17, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_any_size_works_in_any_dtype(size, dtype):
    image, styled = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
    alpha = torch.zeros(2, 1, *size, dtype=dtype)
    alpha[0, :, : size[0] // 2 + 1, : size[1] // 2] = 1
    out = MRFCompositor()(image, styled, alpha)
    assert out.shape == image.shape
    assert out.dtype == dtype
    assert torch.equal(out[1], image[1])


def test_batch_items_do_not_mix():
    image, _, coarse = scene()
    images = torch.cat([image, image.flip(3)])
    alphas = torch.cat([coarse, coarse.roll(9, 3) * 0.5])
    both = MRFCompositor()(images, 1 - images, alphas)
    alone = MRFCompositor()(images[1:], 1 - images[1:], alphas[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "arguments",
    [{"width": 0}, {"smoothness": -1}, {"sigma": 1e-9}, {"smoothness": 1e300}, {"feather": -1}],
)
def test_values_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match="compositor"):
        MRFCompositor(**arguments)
