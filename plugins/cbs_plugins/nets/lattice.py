"""Takes the grid out of a picture that a net with strides has made.

A net that works at a quarter of the size and enlarges twice makes each pixel of a square of four in
another way; what it does to all squares alike is seen as a grid. Around each pixel that is the mean
of those that lie whole squares away, as far as it is no light or shade of the picture: so means are
taken of every fourth pixel, and of these what is left without their own surroundings.

Letters: ``B`` batch, ``C`` channels, ``h w`` the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Pixels after which a grid repeats."""

ALONG = (0.5, 1.5, 2.0, 1.5, 0.5)
"""Weights of the pixels that lie two squares before to two after: a raised cosine."""

AROUND = (1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0)
"""Weights of a pixel's surroundings: nothing of a period of four or two pixels, and slopes as they
are."""

REACH = STRIDE * (len(ALONG) // 2) + len(AROUND) // 2
"""Pixels to each side that a pixel depends on."""

SQUARES = 3
"""By which the picture is enlarged at each side: two, and one that holds a pixel's surroundings."""


class WithoutGrid(nn.Module):
    """``(B,C,h,w)``, sides of multiples of `STRIDE` -> the same without what repeats in squares.

    It is linear, changes nothing that varies slowly or lies at other periods, and knows no edge of
    its own: beyond the picture its outermost squares are repeated.
    """

    along: Tensor
    around: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, weights in (("along", ALONG), ("around", AROUND)):
            kernel = torch.tensor(weights)
            self.register_buffer(name, kernel / kernel.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the picture without its grid."""
        if not x.is_cuda:  # depthwise convolutions of three channels take a fourth of the time so
            x = x.contiguous(memory_format=torch.channels_last)
        own = _means(_widened(x), self.along, STRIDE)
        return x - own[..., STRIDE:-STRIDE, STRIDE:-STRIDE] + self._surroundings(own)

    def _surroundings(self, x: Tensor) -> Tensor:
        edge = STRIDE - len(self.around) // 2
        return _means(x, self.around, 1)[..., edge:-edge, edge:-edge]


def _means(x: Tensor, weights: Tensor, apart: int) -> Tensor:
    """Returns weighted means of pixels so far apart, along rows and columns, without a margin."""
    channels = x.shape[1]
    for shape, dilation in (((1, 1, 1, -1), (1, apart)), ((1, 1, -1, 1), (apart, 1))):
        kernel = weights.view(shape).expand(channels, -1, -1, -1)
        x = F.conv2d(x, kernel, dilation=dilation, groups=channels)
    return x


def _widened(x: Tensor) -> Tensor:
    """Repeats the outermost squares `SQUARES` times."""
    for dim in (2, 3):
        first = x.narrow(dim, 0, STRIDE)
        last = x.narrow(dim, x.shape[dim] - STRIDE, STRIDE)
        x = torch.cat([first] * SQUARES + [x] + [last] * SQUARES, dim)
    return x
