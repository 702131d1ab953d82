"""What feed-forward style nets have in common, and how they normalise.

Letters: ``B`` batch, ``C`` channels, ``h w`` a layer.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

Normalise: TypeAlias = Callable[[nn.InstanceNorm2d, Tensor], Tensor]
"""How a layer's input is normalised: by its own statistics, or by given ones."""


def by_own(layer: nn.InstanceNorm2d, x: Tensor) -> Tensor:
    """Normalises by the mean and variance of each picture's own channels."""
    if x.is_cuda and not layer.training:
        # torch's own takes pictures in another layout than the convolutions: two more passes.
        return normalised(layer, x, *moments(x))
    out: Tensor = layer(x)
    return out


class StyleNet(nn.Module):
    """``(B,3,H,W)`` RGB, 0..255 -> the same, sides rounded up to multiples of the stride."""

    stride: int
    """Pixels of the picture for each at the net's narrowest: windows start at multiples of it."""

    reach: int
    """Pixels to each side that an output pixel depends on."""

    smallest: int
    """Pixels of a side: below, the padding at the net's narrowest finds nothing to reflect."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels."""

    @property
    @abstractmethod
    def last(self) -> nn.Conv2d:
        """The convolution that makes the picture."""

    @abstractmethod
    def forward(self, image: Tensor, normalise: Normalise = by_own) -> Tensor:
        """Restyles a picture, and calls ``normalise`` with each normalisation and its input."""


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of each channel of ``(B,C,h,w)``, float32 ``(B,C)``."""
    if x.is_cuda and x.dtype != torch.float32 and not torch.compiler.is_compiling():
        return moments_of_half(x)
    wide = x.float()  # half precision would lose the variance
    return wide.mean((2, 3)), wide.var((2, 3), correction=0)


def moments_of_half(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of each channel of ``(B,C,h,w)``, float32 ``(B,C)``.

    Sums are float32's, but x itself is not copied as float32, which is a compiler's to avoid. About
    a value near the mean the squares are small, so that none cancel.
    """
    mean = x.mean((2, 3), dtype=torch.float32)
    near = mean.to(x.dtype)
    length = torch.linalg.vector_norm(x - near[..., None, None], dim=(2, 3), dtype=torch.float32)
    square = length.square() / (x.shape[2] * x.shape[3])
    return mean, (square - (mean - near).square()).clamp(min=0)


def normalised(layer: nn.InstanceNorm2d, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Returns instance normalisation of ``(B,C,h,w)`` by ``(1,C)`` or ``(B,C)`` statistics."""
    scale = layer.weight * torch.rsqrt(variance + layer.eps)
    shift = layer.bias - mean * scale
    return torch.addcmul(shift.to(x.dtype)[..., None, None], x, scale.to(x.dtype)[..., None, None])


class Measured:
    """Normalises by a batch's own statistics (`Normalise`), and keeps them."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: nn.InstanceNorm2d, x: Tensor) -> Tensor:
        """Normalises ``(B,C,h,w)`` by the mean and variance of its channels."""
        found = moments(x)
        self.kept.append(found)
        return normalised(layer, x, *found)


def by_given(statistics: Iterable[tuple[Tensor, Tensor]]) -> Normalise:
    """Returns how to normalise by means and variances, layer by layer."""
    given = iter(statistics)
    return lambda layer, x: normalised(layer, x, *next(given))
