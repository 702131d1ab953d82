"""The grid of a net's stride is taken out of its picture, and nothing else."""

import itertools

import numpy as np
import pytest
import torch
from cbs_plugins.nets.lattice import ALONG, AROUND, REACH, STRIDE, WithoutGrid
from cbs_plugins.sources.sample import sample_file
from cbs_plugins.stylers.johnson import HALO, WIDE_HALO, JohnsonStyler
from PIL import Image
from test_johnson import save

from cbs_core.evaluation.faults import Faults
from cbs_core.testing import picture

STYLES = ("starry_night", "wave", "the_scream", "composition_vii", "udnie", "woman_with_hat")
SIDE = 96


def straight(x):
    """The same in float64, one pixel after the other."""
    rows, columns = x.shape

    def at(row, column):
        # Beyond the picture its outermost squares are repeated.
        for place, side in ((row, rows), (column, columns)):
            assert -3 * STRIDE <= place < side + 3 * STRIDE
        inside = [
            place % STRIDE + (0 if place < 0 else side - STRIDE) if not 0 <= place < side else place
            for place, side in ((row, rows), (column, columns))
        ]
        return x[inside[0], inside[1]]

    along, around = (np.array(w) / np.sum(w) for w in (ALONG, AROUND))

    def own(row, column):
        return sum(
            wr * wc * at(row + STRIDE * (i - 2), column + STRIDE * (j - 2))
            for (i, wr), (j, wc) in itertools.product(enumerate(along), repeat=2)
        )

    margin = 3
    means = np.array(
        [
            [own(row, column) for column in range(-margin, columns + margin)]
            for row in range(-margin, rows + margin)
        ]
    )
    out = np.empty_like(x)
    for row, column in itertools.product(range(rows), range(columns)):
        block = means[row : row + 7, column : column + 7]
        out[row, column] = x[row, column] - means[row + 3, column + 3] + around @ block @ around
    return out


@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_it_is_the_straight_line_version(size):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = WithoutGrid().double()(x)
    for one, had in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        np.testing.assert_allclose(had, straight(one.numpy()), atol=1e-7)


def test_what_all_squares_have_alike_goes():
    grid = torch.rand(1, 3, STRIDE, STRIDE).repeat(1, 1, SIDE // STRIDE, SIDE // STRIDE)
    out = WithoutGrid()(grid)
    torch.testing.assert_close(out, grid.mean((2, 3), keepdim=True).expand_as(out))


def test_slopes_stay():
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    slope = (0.3 * rows + 0.7 * columns)[None, None].expand(1, 3, -1, -1)
    out = WithoutGrid()(slope)
    inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    torch.testing.assert_close(out[inside], slope[inside])
    assert (out - slope).abs().max() < 2, "of 67"


@pytest.mark.parametrize("period", [2.7, 3.0, 5.5, 6.0, 8.0, 16.0, 40.0])
def test_strokes_of_other_periods_stay(period):
    wave = torch.cos(2 * torch.pi * torch.arange(float(SIDE)) / period)
    x = (wave[:, None] + wave)[None, None].expand(1, 3, -1, -1)
    out = WithoutGrid()(x)[..., 16:-16, 16:-16]
    share = (out * x[..., 16:-16, 16:-16]).sum() / x[..., 16:-16, 16:-16].square().sum()
    assert abs(share - 1) < 0.1


def test_it_reaches_as_far_as_it_says():
    x = torch.zeros(1, 3, SIDE, SIDE)
    x[..., 48, 48] = 1
    rows = (WithoutGrid()(x)[0, 0].abs().sum(1) > 0).nonzero()[:, 0]
    assert (48 - int(rows[0]), int(rows[-1]) - 48) == (REACH, REACH)
    assert REACH == 11
    assert HALO - 2 + REACH <= WIDE_HALO < HALO + 2 + REACH + STRIDE


def test_the_net_s_own_picture_can_be_had(tmp_path):
    weights = str(save(tmp_path))
    image = picture(64, 96)
    own = JohnsonStyler(weights=weights, grid=True).eval()
    with torch.inference_mode():
        expected = WithoutGrid()(own.net(image * 255)).clamp(0, 255) / 255
        torch.testing.assert_close(JohnsonStyler(weights=weights).eval()(image), expected)
        torch.testing.assert_close(own(image), own.net(image * 255).clamp(0, 255) / 255)


@pytest.mark.parametrize("style", STYLES)
def test_no_style_of_the_package_shows_a_grid(style):
    def measured(grid):
        styler = JohnsonStyler(style=style, grid=grid).eval()
        faults = Faults()
        with torch.inference_mode():
            for name in ("astronaut", "cat"):
                pixels = Image.open(sample_file(name)).convert("RGB").resize((256, 256))
                image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255
                faults.add(styler, image, styler(image))
        return faults.means()

    found = measured(grid=False)
    for period in (2, 4, 8):
        own = found[f"unstyled_grid_{period}"]
        assert found[f"grid_{period}"] <= max(3, own + 1), period
    assert measured(grid=True)["grid_4"] > 10, "which is what is measured"
