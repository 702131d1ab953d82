"""Landscapes that are drawn: what the segmenter is trained on, and what the source shows.

Letters: ``H W`` the picture.
"""

import numpy as np
from numpy.typing import NDArray

CLASSES = ("background", "sky", "grass")


def scene(
    seed: int, height: int, width: int, time: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns a landscape ``(H,W,3)`` RGB and the ids of `CLASSES` ``(H,W)``.

    A sky of some blue, two hills of some green, a house and a balloon of other colours.

    Args:
        seed: of shapes and colours.
        height: H.
        width: W.
        time: in [0,1); the balloon flies across the picture in it.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    blue = np.array([random.uniform(0.3, 0.7), random.uniform(0.5, 0.8), random.uniform(0.85, 1)])
    picture = blue * (0.75 + 0.25 * y[..., None]) + 0.25 * (1 - y[..., None]) * blue
    labels = np.full((height, width), CLASSES.index("sky"), np.uint8)

    def paint(where: NDArray[np.bool_], colour: NDArray[np.float64], name: str) -> None:
        picture[where] = colour
        labels[where] = CLASSES.index(name)

    for depth in (0.5, 0.65):
        green = np.array([random.uniform(0.1, 0.45), random.uniform(0.45, 0.75), 0.15])
        phase, waves = random.uniform(0, 6.28), random.uniform(3, 8)
        ridge = depth + 0.08 * np.sin(waves * x + phase)
        paint(y > ridge, green, "grass")
    left, top = random.uniform(0.1, 0.7), random.uniform(0.5, 0.6)
    house = (x > left) & (x < left + 0.16) & (y > top) & (y < top + 0.2)
    paint(house, _other(random), "background")
    across = (random.uniform(0, 1) + time) % 1 * 1.3 - 0.15
    high = random.uniform(0.15, 0.35)
    balloon = np.hypot((x - across) * width / height, y - high) < 0.11
    paint(balloon, _other(random), "background")
    grain = 0.03 * random.standard_normal((height, width, 1))
    return ((picture + grain).clip(0, 1) * 255).round().astype(np.uint8), labels


def _other(random: np.random.Generator) -> NDArray[np.float64]:
    """Returns a red, a yellow, a white or a grey."""
    base = np.array([[0.8, 0.15, 0.1], [0.9, 0.75, 0.2], [0.93, 0.9, 0.88], [0.35, 0.33, 0.32]])
    return (base[random.integers(len(base))] + random.uniform(-0.07, 0.07, 3)).clip(0, 1)
