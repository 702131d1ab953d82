"""A pastel styler for CBS, which needs nothing but torch.

The package imports nothing of CBS: its entry point says where the styler is, and having
`Pastel.__call__` (through `torch.nn.Module`) is all that the interface asks.

Letters: ``B`` batch, ``H W`` the frame.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Pastel"]

PAPER = 256
"""Side of the square of paper grain that is repeated over the frame, pixels."""

SHADE = (0.03, -0.05, 0.09)
"""RGB that shadows lean toward: plum, since black chalk would muddy its neighbours."""


class Pastel(nn.Module):
    """Chalk pastels on grained paper.

    Strokes melt into patches (a soft Kuwahara filter), lightness settles on a few levels, colours
    move toward white, edges get a faint pencil line, and the paper shows through.

    Args:
        radius: reach of a patch, 1 to 16 pixels.
        levels: steps of lightness, 2 to 32.
        posterise: how firmly lightness settles on them, 0 (not at all) to 1.
        lift: lightness of what was black, 0 to 0.9.
        saturation: 0 (grey) to 2; strong colours are always held back more than weak ones.
        outline: darkness of the pencil line, 0 to 1.
        grain: strength of the paper, 0 to 1.

    Raises:
        ValueError: a parameter is out of its range.
    """

    # Peak working memory on the CPU: 108 to 120 measured, by size and memory format.
    bytes_per_pixel = 120

    paper: Tensor
    shade: Tensor

    def __init__(
        self,
        radius: int = 3,
        levels: int = 7,
        posterise: float = 0.8,
        lift: float = 0.4,
        saturation: float = 1.15,
        outline: float = 0.5,
        grain: float = 0.2,
    ) -> None:
        super().__init__()
        self.radius = _whole("radius", radius, 1, 16)
        self.levels = _whole("levels", levels, 2, 32)
        self.posterise = _within("posterise", posterise, 0, 1)
        self.lift = _within("lift", lift, 0, 0.9)
        self.saturation = _within("saturation", saturation, 0, 2)
        self.outline = _within("outline", outline, 0, 1)
        self.grain = _within("grain", grain, 0, 1)
        # Buffers, since they follow the module to its device: none is made a frame.
        self.register_buffer("paper", _paper(PAPER), persistent=False)
        self.register_buffer("shade", torch.tensor(SHADE).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1], any H and W -> the same."""
        patches = self._patches(image)
        light = _light(patches)
        chroma = patches - light
        line = self._line(light)

        steps = 2 * math.pi * self.levels
        light = light - self.posterise * torch.sin(steps * light) / steps
        strength = chroma.abs().amax(1, keepdim=True)
        chroma = chroma * self.saturation / (1 + strength) + (1 - light) * self.shade

        colour = self.lift + (1 - self.lift) * light + chroma
        colour = colour * (1 - self.outline * line)
        return self._on_paper(colour).clamp(0, 1)

    def _patches(self, image: Tensor) -> Tensor:
        """Smooths within edges: each pixel takes the calmest of the four windows it corners.

        Source: Kuwahara et al. 1976, with the soft choice of Papari et al. 2007.
        """
        height, width = image.shape[2:]
        side = self.radius + 1
        # Variances are differences of near numbers, which half precision would lose.
        padded = F.pad(image.float(), [self.radius] * 4, mode="replicate")
        mean = F.avg_pool2d(padded, side, stride=1)
        light = _light(padded)
        variance = F.avg_pool2d(light * light, side, stride=1) - _light(mean).square()
        calm = (variance.clamp(min=0) + 1e-4).pow(-2)

        total, weights = 0.0, 0.0
        for y in (0, self.radius):
            for x in (0, self.radius):
                window = (..., slice(y, y + height), slice(x, x + width))
                total = total + mean[window] * calm[window]
                weights = weights + calm[window]
        return (total / weights).to(image.dtype)

    def _line(self, light: Tensor) -> Tensor:
        """Returns the dark side of edges, ``(B,1,H,W)`` in [0,1]."""
        near, far = _blur(light, 1), _blur(light, 3)
        return (8 * (far - near)).clamp(0, 1)

    def _on_paper(self, colour: Tensor) -> Tensor:
        height, width = colour.shape[2:]
        tiles = (math.ceil(height / PAPER), math.ceil(width / PAPER))
        paper = self.paper.repeat(1, 1, *tiles)[..., :height, :width]
        return colour + self.grain * 0.25 * paper


def _light(image: Tensor) -> Tensor:
    """``(B,3,H,W)`` -> ``(B,1,H,W)``, luma by ITU-R BT.601."""
    return 0.299 * image[:, 0:1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:3]


def _blur(x: Tensor, radius: int) -> Tensor:
    """Two box filters in a row, near a Gaussian; the border is extended."""
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, [radius] * 4, mode="replicate"), 2 * radius + 1, stride=1)
    return x


def _paper(side: int) -> Tensor:
    """Returns seamless grain ``(1,1,side,side)`` of mean 0 and standard deviation 0.25."""
    noise = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    grain = noise + 3 * F.avg_pool2d(F.pad(noise, [1] * 4, mode="circular"), 3, stride=1)
    return 0.25 * (grain - grain.mean()) / grain.std()


def _within(name: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}={value} must be a number from {low} to {high}")
    return float(value)


def _whole(name: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={value} must be a whole number from {low} to {high}")
    return value
