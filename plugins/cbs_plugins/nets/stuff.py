"""A light decoder that learns stuff (sky, road, trees) beside a net that knows things.

Letters: ``B`` batch, ``H W`` the picture, ``C`` channels, ``T`` the net's things, ``S`` stuff.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.contract.tensors import to_size
from cbs_plugins.nets.smp import Summed

DILATIONS = (1, 2, 4, 1)
"""Of the blocks at a sixteenth of the size: stuff is told by what is far around it."""


class Block(nn.Module):
    """A residual block of a depthwise convolution and two of one pixel, ``(B,C,H,W)`` kept."""

    def __init__(self, channels: int, dilation: int = 1, kernel: int = 5) -> None:
        super().__init__()
        reach = dilation * (kernel // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(
                *(channels, channels, kernel),
                padding=reach,
                dilation=dilation,
                groups=channels,
                bias=False,
            ),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,C,H,W)`` -> the same."""
        kept: Tensor = x + self.layers(x)
        return kept


def lateral(given: int, channels: int) -> nn.Sequential:
    """Returns what brings an encoder's features to a decoder's width."""
    return nn.Sequential(nn.Conv2d(given, channels, 1, bias=False), nn.BatchNorm2d(channels))


class StuffDecoder(nn.Module):
    """From an encoder's features at strides of 4, 8, 16 and 32 to logits at a stride of 4.

    Four fifths of its work is at a sixteenth of the size, where the picture's mean is added too;
    from there edges are drawn by shallow features.

    Args:
        given: channels of the features, the finest first.
        classes: S.
        width: channels at a sixteenth; a third of them at an eighth, a sixth at a quarter.
    """

    def __init__(self, given: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        middle, fine = width // 3, width // 6
        self.from_32, self.from_16 = lateral(given[3], width), lateral(given[2], width)
        self.from_8, self.from_4 = lateral(given[1], middle), lateral(given[0], fine)
        self.whole = nn.Conv2d(width, width, 1)
        self.deep = nn.Sequential(*(Block(width, dilation) for dilation in DILATIONS))
        self.to_8 = nn.Conv2d(width, middle, 1, bias=False)
        self.at_8 = Block(middle)
        self.to_4 = nn.Conv2d(middle, fine, 1, bias=False)
        self.at_4 = Block(fine, kernel=3)
        self.head = nn.Conv2d(fine, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features, the finest first -> logits ``(B,S,H/4,W/4)``."""
        at_4, at_8, at_16, at_32 = features
        coarse = self.from_32(at_32)
        coarse = F.relu(coarse + self.whole(coarse.mean((2, 3), keepdim=True)))
        x = F.relu(_twice(coarse) + self.from_16(at_16))
        x = F.relu(_twice(self.to_8(self.deep(x))) + self.from_8(at_8))
        x = F.relu(_twice(self.to_4(self.at_8(x))) + self.from_4(at_4))
        logits: Tensor = self.head(self.at_4(x))
        return logits


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ThingsAndStuff(Summed):
    """A net of segmentation-models-pytorch, whose background a second decoder divides.

    While it is trained the probability of a thing is the net's own, and that of stuff is the net's
    background times the stuff's share of it by the `StuffDecoder`, which sees the same features of
    the same encoder. Afterwards the likeliest stuff has the background's own logit: where the net
    finds a thing, and which, stays as it was. Shares would make things larger (horses of VOC: an
    IoU of 0.854 for 0.878), since a background that is divided wins against nothing.

    Args:
        net: of ``smp``, with an encoder of five strides; its first class is a background.
        stuff: S, the number of classes that take the background's place.
        width: see `StuffDecoder`.
    """

    def __init__(self, net: Any, stuff: int, width: int) -> None:
        super().__init__(net)
        training = self.encoder.training
        with torch.no_grad():
            features = self.encoder.eval()(torch.zeros(1, 3, 64, 64))
        self.encoder.train(training)
        self.stuff = StuffDecoder([f.shape[1] for f in features[-4:]], stuff, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,3,H,W)`` -> logits ``(B,T+S,h,w)``, of the net's own size; H, W multiples of 32."""
        features = self.encoder(x)
        known = self.known(features)
        stuff = to_size(self.stuff(features[-4:]), known.shape[-2:])
        whole = stuff.logsumexp(1, True) if self.training else stuff.amax(1, True)
        return torch.cat([known[:, 1:], known[:, :1] + stuff - whole], 1)
