"""What is wrong with a styler's pictures to the eye, in figures: grids, crawling strokes, borders.

A loss of style or content does not see these: a grid of four pixels has the right Gram matrices.

Letters: ``H W`` the picture, ``N`` a window's side.
"""

from collections.abc import Callable
from statistics import fmean

import torch
from torch import Tensor

PERIODS = (2, 4, 8)
"""Pixels: what nets with strides of 2, 4 and 8 may print on a picture."""

WINDOW = 64
"""N: all periods divide it, so that each has a bin of its own."""

NEAR, FAR = 3, 5
"""Bins from a grid's own to those of its neighbourhood, which its window does not reach."""

SHIFTS = (1, 2, 3)
"""Pixels to the right and down. A net of stride 4 has another phase at each."""

MARGIN = 16
"""Pixels at a picture's edge: its border, and what differs with what a shift brings in."""

LEAST = 16
"""Pixels that must be left inside the margins for a shift to be measured."""

LUMINANCE = (0.299, 0.587, 0.114)


class Grid:
    """Power at the bins of a grid over the median of their neighbourhood, over many pictures.

    The spectra of Hann windows that overlap by half are added up. Photographs have about 2, and a
    grid that can be seen on a screen 10 and more.
    """

    def __init__(self) -> None:
        self._power = torch.zeros(WINDOW, WINDOW, dtype=torch.float64)

    def add(self, image: Tensor) -> None:
        """Adds a picture ``(1,3,H,W)``; one smaller than a window adds nothing."""
        pixels = _luminance(image)
        if min(pixels.shape) < WINDOW:
            return
        hann = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
        parts = pixels.unfold(0, WINDOW, WINDOW // 2).unfold(1, WINDOW, WINDOW // 2)
        parts = (parts - parts.mean((2, 3), keepdim=True)) * hann[:, None] * hann
        self._power += torch.fft.fft2(parts).abs().square().mean((0, 1))

    def ratios(self) -> dict[str, float]:
        """Returns the ratio by period, ``grid_2`` and so on; none of pictures that are flat.

        Each is the largest of the rows', the columns' and the checks'.
        """
        if not bool(self._power.max() > 0):
            return {}
        return {f"grid_{period}": self._ratio(WINDOW // period) for period in PERIODS}

    def _ratio(self, bin_: int) -> float:
        steps = range(-FAR, FAR + 1)
        ring = [(a, b) for a in steps for b in steps if max(abs(a), abs(b)) >= NEAR]
        found = []
        for row, column in ((bin_, 0), (0, bin_), (bin_, bin_)):
            around = [self._power[(row + a) % WINDOW, (column + b) % WINDOW] for a, b in ring]
            found.append(float(self._power[row, column] / torch.stack(around).median()))
        return max(found)


def equivariance(style: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Returns how much strokes change where a picture moves by a few pixels.

    The picture is cut `SHIFTS` further right and down, restyled, and compared where both show the
    same. What is returned is the mean absolute difference over that of two neighbouring pixels: at
    0 strokes move along with the picture, at 1 they differ as much as if it had not been followed
    by one pixel.

    Args:
        style: ``(1,3,H,W)`` RGB in [0,1] -> the same.
        image: ``(1,3,H,W)``, each side at least 2 `MARGIN` + `LEAST` pixels.
    """
    most = max(SHIFTS)
    height, width = (side - most for side in image.shape[2:])

    def styled(shift: int) -> Tensor:
        part = image[..., shift : shift + height, shift : shift + width]
        return style(part.contiguous()).double()

    still = styled(0)
    differences = [
        (still[..., shift:, shift:] - styled(shift)[..., :-shift, :-shift])[
            ..., MARGIN:-MARGIN, MARGIN:-MARGIN
        ]
        .abs()
        .mean()
        for shift in SHIFTS
    ]
    inside = still[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    steps = (inside.diff(dim=2).abs().mean() + inside.diff(dim=3).abs().mean()) / 2
    return float(torch.stack(differences).mean() / steps.clamp_min(1e-6))


class Border:
    """How far the outermost `MARGIN` pixels of pictures differ from the ring inside of them."""

    def __init__(self) -> None:
        self._outer: list[tuple[float, float]] = []
        self._inner: list[tuple[float, float]] = []

    def add(self, image: Tensor) -> None:
        """Adds a picture ``(1,3,H,W)``; one that has no second ring adds nothing."""
        pixels = _luminance(image)
        if min(pixels.shape) <= 4 * MARGIN:
            return
        for found, first in ((self._outer, 0), (self._inner, MARGIN)):
            ring = _ring(pixels, first)
            found.append((float(ring.mean()), float(ring.std())))

    def ratios(self) -> dict[str, float]:
        """Returns ``border_mean`` and ``border_deviation``; 1 is no difference.

        They are the luminance's mean and standard deviation of all borders over those of all rings.
        """
        if not self._outer:
            return {}
        return {
            name: fmean(of[index] for of in self._outer)
            / max(1e-6, fmean(of[index] for of in self._inner))
            for index, name in enumerate(("border_mean", "border_deviation"))
        }


class Faults:
    """All of them over many photographs, beside the photographs' own where they have any."""

    def __init__(self) -> None:
        self._of = {"": (Grid(), Border()), "unstyled_": (Grid(), Border())}
        self._moved: list[float] = []

    def add(self, style: Callable[[Tensor], Tensor], image: Tensor, styled: Tensor) -> None:
        """Adds a photograph and what the styler makes of it.

        Args:
            style: ``(1,3,H,W)`` RGB in [0,1] -> the same.
            image: ``(1,3,H,W)``.
            styled: of the same size.
        """
        for measures, picture in zip(self._of.values(), (styled, image), strict=True):
            for measure in measures:
                measure.add(picture)
        if min(image.shape[2:]) >= 2 * MARGIN + LEAST:
            self._moved.append(equivariance(style, image))

    def means(self) -> dict[str, float]:
        """Returns each by its name; what pictures are too small for is not there."""
        found = {
            prefix + name: value
            for prefix, measures in self._of.items()
            for measure in measures
            for name, value in measure.ratios().items()
        }
        return found | ({"equivariance": fmean(self._moved)} if self._moved else {})


def _ring(pixels: Tensor, first: int) -> Tensor:
    height, width = pixels.shape
    inside = torch.zeros_like(pixels, dtype=torch.bool)
    inside[first : height - first, first : width - first] = True
    last = first + MARGIN
    inside[last : height - last, last : width - last] = False
    return pixels[inside]


def _luminance(image: Tensor) -> Tensor:
    weights = torch.tensor(LUMINANCE, dtype=torch.float64)
    return (image[0].detach().cpu().double() * weights[:, None, None]).sum(0)
