"""The corruptions that augmentation is measured by, against what their definitions give."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.corruptions import CORRUPTIONS, corrupted, disk, plasma


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rows, columns = np.mgrid[0:60, 0:80]
    return np.stack([rows * 4, columns * 3, 255 - rows - columns], axis=2).astype(np.uint8)


def test_noise_has_the_deviation_of_severity_3() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    found = corrupted(grey, "noise", 1) / 255
    # Of a normal distribution of 0.18 about 0.502, cut off at 0 and 1 (2.78 deviations).
    assert found.std() == pytest.approx(0.1787, abs=0.003)
    assert found.mean() == pytest.approx(128 / 255, abs=0.005)


def test_blur_is_a_disk_of_radius_6() -> None:
    kernel = disk(6, 0.5)
    assert kernel.shape == (17, 17)
    assert kernel.sum() == pytest.approx(1)
    assert np.count_nonzero(np.hypot(*np.mgrid[-8:9, -8:9]) <= 6) == 113
    assert kernel[8, 8] == pytest.approx(1 / 113)  # untouched by the smoothing of the edge
    # The topmost point of the disk is alone in its row, weight 0.78698, above a row of seven.
    assert kernel[2, 8] == pytest.approx((0.78698**2 + 0.10651) / 113, rel=1e-4)
    dot = np.zeros((40, 40, 3), np.uint8)
    dot[20, 20] = 255
    assert corrupted(dot, "blur", 0)[20, 20, 0] == 255 // 113


def test_fog_is_of_the_brightness_of_its_definition(picture) -> None:
    land = plasma(256, 1.7, np.random.default_rng(0))
    assert (land.min(), land.max()) == (0, 1)
    white = np.full((64, 64, 3), 255, np.uint8)
    # (1 + 2.5 l) / 3.5 for a landscape l in [0,1]
    found = corrupted(white, "fog", 0)
    assert found.min() == int(255 / 3.5)
    assert found.max() == 255
    assert corrupted(picture, "fog", 0).std() < picture.std()


def test_a_finer_grid_of_fog_is_the_coarser_one_with_less_chance() -> None:
    rough, smooth = (plasma(64, decay, np.random.default_rng(3)) for decay in (1.4, 3.0))
    assert np.abs(np.diff(rough, axis=0)).mean() > 2 * np.abs(np.diff(smooth, axis=0)).mean()


def test_brightness_contrast_and_jpeg(picture) -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert (corrupted(grey, "brightness", 0) == int(100 + 0.3 * 255)).all()
    halves = np.zeros((2, 4, 3), np.uint8)
    halves[:, 2:] = 200
    assert np.unique(corrupted(halves, "contrast", 0)).tolist() == [80, 120]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=15)
    assert (corrupted(picture, "jpeg", 0) == np.asarray(Image.open(file))).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_chance_is_of_the_seed_alone(picture, name) -> None:
    once, again, other = (corrupted(picture, name, seed) for seed in (5, 5, 6))
    assert (once == again).all()
    assert (once != other).any() == (name in ("noise", "fog"))
