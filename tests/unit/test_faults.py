"""A styler's faults that people see, planted and found."""

import math

import pytest
import torch
import torch.nn.functional as F

from cbs_core.evaluation.faults import MARGIN, Border, Faults, Grid, equivariance


def noise(seed: int, side: int = 192) -> torch.Tensor:
    """Noise whose spectrum falls as a photograph's; ``(1,3,side,side)``, about 0.5."""
    made = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)
    amplitude = 1 / (rows**2 + columns**2).sqrt().clamp_min(1 / side)
    white = torch.fft.fft2(torch.randn(1, 1, side, side, generator=made))
    pink = torch.fft.ifft2(white * amplitude).real
    return (0.5 + 0.1 * pink / pink.std()).expand(1, 3, side, side).contiguous()


def ratios(*images: torch.Tensor) -> dict[str, float]:
    grid = Grid()
    for image in images:
        grid.add(image)
    return grid.ratios()


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("rows", [True, False])
def test_a_faint_grid_is_found_at_its_period_alone(period: int, rows: bool) -> None:
    image = noise(1)
    wave = torch.cos(torch.arange(192) * 2 * math.pi / period) * 2 * period / 255
    found = ratios(image + (wave[:, None] if rows else wave))
    plain = ratios(image)
    assert found[f"grid_{period}"] > 20
    others = [key for key in found if key != f"grid_{period}"]
    assert [found[key] for key in others] == pytest.approx([plain[key] for key in others], rel=0.2)
    assert max(plain.values()) < 4


def test_a_ratio_by_hand() -> None:
    """A cosine of amplitude 1 has the power (sum of the window squared / 4) at its bin."""
    wave = torch.cos(torch.arange(64) * math.pi / 2)
    grid = Grid()
    grid.add(wave.expand(1, 3, 64, 64))
    hann = torch.hann_window(64, periodic=False, dtype=torch.float64)
    assert float(grid._power[0, 16]) == pytest.approx(float(hann.sum() ** 2 / 2) ** 2, rel=1e-3)


def test_flat_and_small_pictures_have_no_grid() -> None:
    assert ratios(torch.full((1, 3, 80, 80), 0.5), torch.rand(1, 3, 40, 40)) == {}


def test_a_convolution_moves_along_and_a_grid_that_stays_does_not() -> None:
    image = noise(2, 96)
    kernel = torch.full((3, 1, 3, 3), 1 / 9)
    assert equivariance(lambda x: F.conv2d(x, kernel, padding=1, groups=3), image) < 1e-6

    def by_squares(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(F.avg_pool2d(x, 4, ceil_mode=True), scale_factor=4)[
            ..., : x.shape[2], : x.shape[3]
        ]

    assert equivariance(by_squares, image) > 0.5


def test_one_pixel_behind_is_one() -> None:
    """A styler that stays where it is, whatever it is shown, lags by one pixel at a shift of 1."""
    ramp = torch.linspace(0, 1, 99).expand(1, 3, 99, 99)
    still = ramp[..., :96, :96]
    # The ramp's own differences are of columns alone, so the mean of both directions is half.
    assert equivariance(lambda x: still, ramp) == pytest.approx(2 * (1 + 2 + 3) / 3, rel=1e-4)


def borders(images: list[torch.Tensor]) -> dict[str, float]:
    border = Border()
    for image in images:
        border.add(image)
    return border.ratios()


def test_a_dark_border_is_told() -> None:
    images = [noise(seed, 128) for seed in range(20)]
    assert borders(images)["border_mean"] == pytest.approx(1, abs=0.05)
    for image in images:
        image[..., :MARGIN, :] *= 0.5
        image[..., -MARGIN:, :] *= 0.5
    assert borders(images)["border_mean"] < 0.9
    assert borders([noise(1, 64)]) == {}


def test_all_beside_the_photographs_own() -> None:
    faults = Faults()
    image = noise(3, 128)
    faults.add(lambda x: 1 - x, image, 1 - image)
    found = faults.means()
    assert found["equivariance"] == 0
    for name in ("grid_2", "grid_4", "grid_8"):  # a negative has the photograph's spectrum
        assert found[name] == pytest.approx(found[f"unstyled_{name}"], rel=1e-3)
    assert set(found) > {"border_mean", "unstyled_border_deviation"}
    small = Faults()
    small.add(lambda x: x, image[..., :40, :40], image[..., :40, :40])
    assert small.means() == {}
