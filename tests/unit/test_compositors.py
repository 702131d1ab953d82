import pytest
import torch
from cbs_plugins.compositors.feather import FeatherCompositor
from cbs_plugins.compositors.guided import GuidedCompositor
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.compositors.mrf import MRFCompositor
from kornia.filters import guided_blur

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import Compositor

ALL = [HardCompositor, FeatherCompositor, GuidedCompositor]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def pictures(height=48, width=64, batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    image, styled = torch.rand(2, batch, 3, height, width, generator=generator).to(dtype)
    return image, styled


def square(height=48, width=64, batch=2):
    """A matte that is 1 in the top left quarter."""
    alpha = torch.zeros(batch, 1, height, width)
    alpha[..., : height // 2, : width // 2] = 1
    return alpha


@pytest.mark.parametrize("kind", ALL)
def test_fills_the_interface(kind):
    assert isinstance(kind(), Compositor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_is_bit_exact_at_both_ends(dtype):
    image, styled = pictures(dtype=dtype)
    assert torch.equal(
        HardCompositor()(image, styled, torch.zeros(2, 1, 48, 64, dtype=dtype)), image
    )
    assert torch.equal(
        HardCompositor()(image, styled, torch.ones(2, 1, 48, 64, dtype=dtype)), styled
    )


def test_hard_is_bit_exact_at_both_ends_for_every_pair_of_levels():
    levels = torch.arange(256) / 255
    image = levels.view(1, 1, 256, 1).expand(1, 3, 256, 256)
    styled = levels.view(1, 1, 1, 256).expand(1, 3, 256, 256)
    alpha = torch.zeros(1, 1, 256, 256)
    assert torch.equal(HardCompositor()(image, styled, alpha), image)
    assert torch.equal(HardCompositor()(image, styled, alpha + 1), styled)


def test_hard_is_the_papers_equation():
    image, styled = pictures()
    alpha = torch.rand(2, 1, 48, 64)
    i, t, a = image.double(), styled.double(), alpha.double()
    torch.testing.assert_close(
        HardCompositor()(image, styled, alpha).double(), a * t + (1 - a) * i, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (17, 33), (65, 131), (40, 4)])
def test_any_size_works_in_any_dtype(kind, dtype, size):
    image, styled = pictures(*size, dtype=dtype)
    out = kind()(image, styled, square(*size).to(dtype))
    assert out.shape == image.shape
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("kind", ALL)
def test_full_matte_is_the_style_and_none_is_the_picture(kind):
    image, styled = pictures()
    assert torch.equal(kind()(image, styled, torch.zeros(2, 1, 48, 64)), image)
    torch.testing.assert_close(
        kind()(image, styled, torch.ones(2, 1, 48, 64)), styled, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", [HardCompositor, FeatherCompositor])
def test_linear_in_alpha(kind):
    image, styled = pictures()
    one, two = torch.rand(2, 2, 1, 48, 64)
    compositor = kind()
    both = compositor(image, styled, 0.3 * one + 0.7 * two)
    parts = 0.3 * compositor(image, styled, one) + 0.7 * compositor(image, styled, two)
    torch.testing.assert_close(both, parts, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [FeatherCompositor, GuidedCompositor])
def test_batch_items_do_not_mix(kind):
    image, styled = pictures()
    alpha = square() * torch.rand(2, 1, 48, 64)
    whole = kind()(image, styled, alpha)
    single = kind()(image[1:], styled[1:], alpha[1:])
    torch.testing.assert_close(whole[1:], single, atol=1e-5, rtol=0)


@pytest.mark.parametrize("radius", [0, 1, 4, 9])
def test_feather_reaches_its_radius_and_no_further(radius):
    image, styled = pictures()
    out = FeatherCompositor(radius)(image, styled, square())
    changed = (out != image).any(1)
    assert not changed[:, 24 + radius :].any()
    assert not changed[:, :, 32 + radius :].any()
    assert changed[:, 12, 32 + radius - 1].any()


@pytest.mark.parametrize("radius", [0, 1, 4, 40])
def test_feather_blurs_as_a_convolution_by_its_kernel_does(radius):
    compositor, matte = FeatherCompositor(radius), torch.rand(2, 1, 33, 17)
    kernel = compositor.kernel
    wide = torch.nn.functional.pad(matte, 4 * (radius,), mode="replicate")
    want = torch.nn.functional.conv2d(wide, (kernel.T @ kernel)[None, None])
    torch.testing.assert_close(compositor.blurred(matte), want)
    assert not compositor.blurred(torch.zeros(1, 1, 33, 17)).any()


def test_feather_of_radius_0_is_hard():
    image, styled = pictures()
    assert torch.equal(
        FeatherCompositor(0)(image, styled, square()), HardCompositor()(image, styled, square())
    )


def test_feather_of_half_a_plane_is_symmetric_and_falls():
    image, styled = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., :16] = 1
    row = FeatherCompositor(4)(image, styled, alpha)[0, 0, 16]
    torch.testing.assert_close(row + row.flip(0), torch.ones(32))
    assert (row.diff() <= 1e-6).all()


def test_guided_background_is_bit_exact_beyond_its_reach():
    image, styled = pictures(128, 160)
    out = GuidedCompositor(radius=8, subsample=4)(image, styled, square(128, 160))
    changed = (out != image).any(1)
    assert not changed[:, 64 + 24 :].any()
    assert not changed[:, :, 80 + 24 :].any()


@pytest.mark.parametrize("offset", range(5))
def test_guided_matte_does_not_move_with_the_subsampling(offset):
    """On a guide without edges, half-way stays where the matte's edge is."""
    image, styled = torch.full((1, 3, 64, 64), 0.0), torch.ones(1, 3, 64, 64)
    alpha = torch.zeros(1, 1, 64, 64)
    alpha[..., : 32 + offset] = 1
    row = GuidedCompositor()(image, styled, alpha)[0, 0, 32]
    edge = row.sum().item()
    assert edge == pytest.approx(32 + offset, abs=0.2)


@pytest.mark.parametrize("subsample", [1, 2, 4])
def test_guided_moves_a_coarse_edge_to_the_pictures(subsample):
    """Red on a grey of its own brightness: a guide of one channel would not see the edge."""
    red, grey = torch.tensor([0.9, 0.2, 0.2]), torch.tensor([0.43, 0.43, 0.43])
    image = grey.view(1, 3, 1, 1).repeat(1, 1, 96, 96)
    image[..., :48] = red.view(3, 1, 1)
    styled = image + 0.05
    alpha = torch.zeros(1, 1, 96, 96)
    alpha[..., :45] = 1
    matte = ((GuidedCompositor(subsample=subsample)(image, styled, alpha) - image) / 0.05)[0, 0, 48]
    assert matte[44:48].min() > matte[48:52].max() + 0.5


@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-5])
def test_guided_without_subsampling_equals_kornias_filter_in_float64(eps):
    image, _ = pictures(40, 50)
    alpha = square(40, 50)
    want = guided_blur(image.double(), alpha.double(), 9, eps, border_type="replicate")
    matte = GuidedCompositor(radius=4, eps=eps, subsample=1).filtered(image, alpha)
    torch.testing.assert_close(matte.double(), want, atol=1e-4, rtol=0)


def covered(image, alpha, **arguments):
    """What `guided` makes of a matte, ``(H,W)``."""
    out = GuidedCompositor(**arguments)(image, (image < 0.5).float(), alpha)
    return ((out - image) / ((image < 0.5).float() - image)).mean(1)[0]


def test_guided_leaves_no_veil_on_what_looks_like_the_object_and_takes_nothing_off_it():
    """An object of two greys on a picture of two, one of which is nearly one of its own."""
    coarse = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(0)) > 0.5
    cells = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    alpha = square(96, 128, 1)
    image = torch.where(cells, 0.7, torch.where(alpha > 0.5, 0.2, 0.3)).expand(1, 3, 96, 128)
    cover = covered(image, alpha)
    assert cover[:32, 76:].max() == 0
    assert cover[60:, :48].max() == 0
    assert cover[:32, :48].min() > 0.999


@pytest.mark.parametrize("strength", [1e-6, 0.25, 0.9])
def test_guided_is_linear_in_the_mattes_scale(strength):
    image, styled = pictures()
    alpha = square() * torch.rand(2, 1, 48, 64)
    whole = GuidedCompositor()(image, styled, alpha) - image
    part = GuidedCompositor()(image, styled, strength * alpha) - image
    torch.testing.assert_close(part, strength * whole, atol=1e-5, rtol=0)


def test_two_mattes_that_fill_the_picture_do_so_by_guided_too():
    image, _ = pictures(batch=1)
    alpha = square(batch=1)
    both = covered(image, alpha) + covered(image, 1 - alpha)
    torch.testing.assert_close(both, torch.ones(48, 64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [FeatherCompositor, GuidedCompositor])
def test_tensors_follow_the_device_and_are_no_weights(kind):
    compositor = kind()
    assert not compositor.state_dict()
    meta = compositor.to("meta")
    shapes = [torch.rand(1, c, 32, 32, device="meta") for c in (3, 3, 1)]
    assert meta(*shapes).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (FeatherCompositor, {"radius": -1}),
        (FeatherCompositor, {"radius": 10**6}),
        (GuidedCompositor, {"radius": 10**6}),
        (GuidedCompositor, {"subsample": 10**6}),
        (MRFCompositor, {"width": 10**6}),
        (MRFCompositor, {"sigma": float("nan")}),
        (MRFCompositor, {"smoothness": float("inf")}),
        (GuidedCompositor, {"radius": 0}),
        (GuidedCompositor, {"eps": 0}),
        (GuidedCompositor, {"subsample": 0}),
    ],
)
def test_values_out_of_range_are_refused(kind, arguments):
    with pytest.raises(ConfigError, match="compositor"):
        kind(**arguments)
