"""Takes the grid out of a picture that a net with strides has made.

A net that works at a quarter of the size and enlarges twice makes each pixel of a square of four in
another way; what it does to all squares alike is seen as a grid. Around each pixel that is the mean
of those that lie whole squares away, as far as it is no light or shade of the picture: so means are
taken of every fourth pixel, and of these what is left without their own surroundings. Likewise of
an eighth of the size.

Letters: ``B`` batch, ``C`` channels, ``h w`` the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Pixels after which a grid repeats, where nothing else is said."""

ALONG = (0.5, 1.5, 2.0, 1.5, 0.5)
"""Weights of the pixels that lie two squares before to two after: a raised cosine."""

SQUARES = 3
"""By which the picture is enlarged at each side: two, and one that holds a pixel's surroundings."""


def around(stride: int) -> tuple[float, ...]:
    """Returns the weights of a pixel's surroundings.

    They leave nothing of a period of the stride or a part of it, and slopes as they are.

    Example:
        >>> around(4)
        (1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0)
    """
    return tuple(float(stride - abs(place)) for place in range(1 - stride, stride))


def reach(stride: int) -> int:
    """Returns how many pixels to each side a pixel depends on."""
    return stride * (len(ALONG) // 2) + stride - 1


class WithoutGrid(nn.Module):
    """``(B,C,h,w)``, sides of multiples of the stride -> the same without what repeats in squares.

    It is linear, changes nothing that varies slowly or lies at other periods, and knows no edge of
    its own: beyond the picture its outermost squares are repeated.

    Args:
        stride: pixels after which the grid repeats.
    """

    along: Tensor
    around: Tensor

    def __init__(self, stride: int = STRIDE) -> None:
        super().__init__()
        self.stride = stride
        for name, weights in (("along", ALONG), ("around", around(stride))):
            kernel = torch.tensor(weights)
            self.register_buffer(name, kernel / kernel.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the picture without its grid."""
        if torch.is_autocast_enabled(x.device.type):
            # bfloat16 would round 255 levels to 2, and squares of 8 take oneDNN minutes in it.
            with torch.autocast(x.device.type, enabled=False):
                return self._without(x.to(self.along.dtype))
        return self._without(x)

    def _without(self, x: Tensor) -> Tensor:
        if not x.is_cuda:  # depthwise convolutions of three channels take a fourth of the time so
            x = x.contiguous(memory_format=torch.channels_last)
        stride = self.stride
        own = _means(_widened(x, stride), self.along, stride)
        return x - own[..., stride:-stride, stride:-stride] + self._surroundings(own)

    def _surroundings(self, x: Tensor) -> Tensor:
        edge = self.stride - len(self.around) // 2
        return _means(x, self.around, 1)[..., edge:-edge, edge:-edge]


def _means(x: Tensor, weights: Tensor, apart: int) -> Tensor:
    """Returns weighted means of pixels so far apart, along rows and columns, without a margin."""
    channels = x.shape[1]
    for shape, dilation in (((1, 1, 1, -1), (1, apart)), ((1, 1, -1, 1), (apart, 1))):
        kernel = weights.view(shape).expand(channels, -1, -1, -1)
        x = F.conv2d(x, kernel, dilation=dilation, groups=channels)
    return x


def _widened(x: Tensor, stride: int) -> Tensor:
    """Repeats the outermost squares `SQUARES` times."""
    for dim in (2, 3):
        first = x.narrow(dim, 0, stride)
        last = x.narrow(dim, x.shape[dim] - stride, stride)
        x = torch.cat([first] * SQUARES + [x] + [last] * SQUARES, dim)
    return x
