"""A feed-forward style net for speed: it works at a quarter and at an eighth of the size.

Most of the time of `cbs_plugins.nets.johnson.TransformerNet` goes to its layers at full and at half
the size, which move much and compute little. Here squares of 4x4 pixels come in as channels and go
out again so; in between are residual blocks at an eighth, and a way round them for fine detail. The
layers are Johnson's, and like his the net sees its surroundings alone, but for the statistics of
its normalisations. What squares of 8 pixels have alike is for `cbs_plugins.nets.lattice` to take
out.

Letters: ``B`` batch, ``H W`` the frame.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_plugins.nets.johnson import ConvLayer, ResidualBlock
from cbs_plugins.nets.style_net import Normalise, StyleNet, by_own

SQUARE = 4
"""Pixels a side that come in and go out as channels."""

STRIDE = 8
"""Pixels of the picture for each at the net's narrowest."""

CHANNELS = 3 * SQUARE**2

REACH = 28
"""Pixels to each side of squares of 8 that these depend on, without residual blocks: at a quarter
of the size twice 1, which is one of an eighth; there 1; and coming down to it and to a quarter 1
each, which is another."""

BLOCK = 2 * STRIDE
"""Those of a residual block."""


class SwiftNet(StyleNet):
    """Restyles a picture by one style.

    Args:
        width: channels at a quarter of the size.
        deep: channels at an eighth; None is a third more.
        blocks: residual blocks there.
    """

    stride = STRIDE
    smallest = 2 * STRIDE

    def __init__(self, width: int = 48, deep: int | None = None, blocks: int = 3) -> None:
        super().__init__()
        deep = deep or width * 4 // 3
        self.stem = ConvLayer(CHANNELS, width, 3)
        self.in1 = nn.InstanceNorm2d(width, affine=True)
        self.down = ConvLayer(width, deep, 5, stride=2)
        self.in2 = nn.InstanceNorm2d(deep, affine=True)
        self.blocks = nn.ModuleList(ResidualBlock(deep) for _ in range(blocks))
        self.up = ConvLayer(deep, width, 3)
        self.in3 = nn.InstanceNorm2d(width, affine=True)
        self.mix = ConvLayer(width, width, 3)
        self.in4 = nn.InstanceNorm2d(width, affine=True)
        self.head = ConvLayer(width, CHANNELS, 3)
        self.reach = REACH + BLOCK * blocks

    @property
    def width(self) -> int:
        """Channels at a quarter of the size."""
        return self.stem.conv2d.out_channels

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that makes the picture."""
        return self.head.conv2d

    def forward(self, image: Tensor, normalise: Normalise = by_own) -> Tensor:
        """Restyles a picture.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255, H and W at least `smallest`.
            normalise: called with each normalisation and its input, in order.

        Returns:
            RGB, 0..255 but not clamped, with H and W rounded up to multiples of 8.
        """
        height, width = image.shape[-2:]
        short = (0, -width % STRIDE, 0, -height % STRIDE)
        # A graph has one way for all sizes: an empty padding then.
        if torch.compiler.is_exporting() or any(short):
            image = F.pad(image, short, mode="replicate")
        x = F.pixel_unshuffle(image, SQUARE)
        fine = F.relu(normalise(self.in1, self.stem(x)))
        x = F.relu(normalise(self.in2, self.down(fine)))
        for block in self.blocks:
            x = block(x, normalise)
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = F.relu(normalise(self.in3, self.up(x))) + fine
        x = F.relu(normalise(self.in4, self.mix(x)))
        return F.pixel_shuffle(self.head(x), SQUARE)


def read_net(path: str | Path) -> tuple[SwiftNet, Checkpoint]:
    """Returns the net of a weight file, of the file's own size, and what was read.

    Raises:
        WeightsMissingError: no such file.
        WeightsKeysError: the weights of another net.
    """
    checkpoint = load(path)
    tensors = checkpoint.tensors
    quarter, eighth = tensors.get("stem.conv2d.weight"), tensors.get("down.conv2d.weight")
    blocks = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    if quarter is None or eighth is None:
        net = SwiftNet()  # whose loading tells what is wrong
    else:
        net = SwiftNet(len(quarter), len(eighth), blocks)
    load_into(net, checkpoint, net="SwiftNet")
    return net, checkpoint
