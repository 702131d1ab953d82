"""Six corruptions of pictures at severity 3, as ImageNet-C defines them.

Source: Hendrycks and Dietterich 2019 (1903.12261) and their code (hendrycks/robustness,
``make_imagenet_c.py``): parameters are those of severity 3, for pictures of 224x224. Chance comes
from a generator that is given, so that every net is shown the same.

Letters: ``H W`` the picture.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate
from skimage.color import hsv2rgb, rgb2hsv

Levels = NDArray[np.float64]
"""``(H,W,3)`` in [0,1]."""


def noise(x: Levels, by: np.random.Generator) -> Levels:
    """Gaussian noise of a standard deviation of 0.18."""
    return x + by.normal(scale=0.18, size=x.shape)


def blur(x: Levels, by: np.random.Generator) -> Levels:
    """Defocus: the mean over a disk of radius 6, whose edge is smoothed by a sigma of 0.5."""
    kernel = disk(6, 0.5)
    return np.stack([correlate(x[..., c], kernel, mode="mirror") for c in range(3)], axis=-1)


def disk(radius: int, sigma: float) -> Levels:
    """Returns the kernel of `blur`, whose sum is 1."""
    row = np.arange(-8, 9)
    whole = (row[:, None] ** 2 + row**2 <= radius**2).astype(np.float64)
    edge = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    edge /= edge.sum()
    smooth: Levels = correlate(whole / whole.sum(), np.outer(edge, edge), mode="mirror")
    return smooth


def fog(x: Levels, by: np.random.Generator) -> Levels:
    """Fog 2.5 times as bright as the scene, its clouds by diamond-square with a decay of 1.7."""
    height, width = x.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    clouds = plasma(side, 1.7, by)[:height, :width, None]
    return (x + 2.5 * clouds) * x.max() / (x.max() + 2.5)


def plasma(side: int, decay: float, by: np.random.Generator) -> Levels:
    """Returns a periodic landscape ``(side, side)`` in [0,1] by the diamond-square algorithm.

    Args:
        side: a power of two.
        decay: what chance is divided by where the grid is halved.
        by: the source of chance.
    """
    land, step, amount = np.zeros((side, side)), side, 100.0

    def mean(total: Levels, amount: float) -> Levels:
        return total / 4 + amount * by.uniform(-amount, amount, total.shape)

    while step >= 2:
        half = step // 2
        corners = land[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres = mean(pairs + np.roll(pairs, -1, 1), amount)
        land[half::step, half::step] = centres
        above = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        land[::step, half::step] = mean(above, amount)
        beside = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        land[half::step, ::step] = mean(beside, amount)
        step, amount = half, amount / decay
    land -= land.min()
    return land / land.max()


def brightness(x: Levels, by: np.random.Generator) -> Levels:
    """Values, of hue, saturation and value, 0.3 higher."""
    hsv = rgb2hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    bright: Levels = hsv2rgb(hsv)
    return bright


def contrast(x: Levels, by: np.random.Generator) -> Levels:
    """A fifth of the distance from each channel's mean."""
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * 0.2 + mean


def jpeg(x: Levels, by: np.random.Generator) -> Levels:
    """JPEG of quality 15."""
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.round(x * 255))).save(file, "JPEG", quality=15)
    return np.asarray(Image.open(file)) / 255


CORRUPTIONS: dict[str, Callable[[Levels, np.random.Generator], Levels]] = {
    one.__name__: one for one in (noise, blur, fog, brightness, contrast, jpeg)
}


def corrupted(picture: NDArray[np.uint8], name: str, seed: int) -> NDArray[np.uint8]:
    """Returns a picture, RGB ``(H,W,3)``, with one of `CORRUPTIONS`; levels are cut off, as there.

    Args:
        picture: the picture.
        name: of the corruption.
        seed: decides what is chance.
    """
    made = CORRUPTIONS[name](picture / 255, np.random.default_rng(seed))
    return np.uint8(np.clip(made, 0, 1) * 255 + 1e-6)
