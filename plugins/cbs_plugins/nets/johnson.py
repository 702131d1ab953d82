"""The feed-forward net of Johnson et al. 2016 (1603.08155): one net a style.

It is the variant of github.com/pytorch/examples (``fast_neural_style``), whose submodule names are
kept so that its checkpoints load strictly: reflection padding, instance normalisation, and nearest
upsampling in place of transposed convolutions. Three of its layers are computed in another way,
which gives the same numbers up to rounding in three quarters to five sixths of the time on a CPU.

Letters: ``B`` batch, ``H W`` the frame.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_plugins.nets.style_net import Normalise, StyleNet, by_own

SQUARE = 4
"""Pixels a side that the first and the last layer compute at once on CUDA."""


SMOOTH = "smooth"
"""Key of a weight file's header: ``true`` for a net that was trained so."""

STRIDE = 4
"""Pixels of the picture for each at the net's narrowest: windows start at multiples of it."""


REACH = 54
"""Pixels that an output pixel of the net depends on to each side, counted from the last layer to
the first: 4 + 1, at half the size 1, at a quarter ten times 1, at half 1, and 1 + 4, which is 4 + 1
+ 2 + 40 + 2 + 1 + 4."""

SMOOTH_REACH = REACH + 1 + 2 + 8 + 4 + 2 + 1 + 2
"""Those of a smooth one; the last by how its blurs lie to the strides."""


class ConvLayer(nn.Module):
    """A convolution with reflection padding."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, padding_mode="reflect"
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,ceil(h/stride),ceil(w/stride))``."""
        out: Tensor = self.conv2d(x)
        return out


class UpsampleConvLayer(ConvLayer):
    """A 3x3 convolution of the picture enlarged twice by nearest neighbours.

    Of the nine pixels that it sees, four at most differ. So the picture is not enlarged: a 2x2
    convolution gives the four pixels of the enlarged one that lie around a corner of its pixels, by
    sums of the weights, at four ninths of the operations. Around the edge, the reflection of the
    enlarged picture is the repetition of this one.
    """

    seen: Tensor

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3)
        # The odd row above a corner sees the row above it twice, the even one below it once. A
        # buffer, because a tensor made on the way would make CUDA wait, and no graph can hold it.
        seen = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]])
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,2h,2w)``."""
        weight, bias, seen = self.conv2d.weight, self.conv2d.bias, self.seen
        assert bias is not None
        four = torch.einsum("pak,qbl,oikl->opqiab", seen, seen, weight).flatten(0, 2)
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        corners = F.conv2d(x, four, bias.repeat_interleave(4))
        return F.pixel_shuffle(corners, 2)[..., 1:-1, 1:-1]


class InputConvLayer(ConvLayer):
    """A 9x9 convolution of three channels, by `conv_by_squares` on CUDA."""

    def __init__(self, channels_out: int) -> None:
        super().__init__(3, channels_out, 9)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,3,h,w)`` -> ``(B,channels_out,h,w)``."""
        if not x.is_cuda or any(side % SQUARE for side in x.shape[2:]):
            return super().forward(x)
        assert self.conv2d.bias is not None
        x = F.pad(x, (4, 4, 4, 4), mode="reflect")
        return conv_by_squares(x, self.conv2d.weight, self.conv2d.bias, SQUARE, gather=True)


class OutputConvLayer(ConvLayer):
    """A 9x9 convolution to three channels, by `conv_by_squares`.

    Processors multiply by 8, 16 or 32 output channels; three leave most of that empty. On a CPU a
    10x10 convolution of stride 2 gives the twelve values of 2x2 pixels in the time of sixteen.
    """

    def __init__(self, channels_in: int) -> None:
        super().__init__(channels_in, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)``, h and w multiples of 4 -> ``(B,3,h,w)``."""
        weight, bias = self.conv2d.weight, self.conv2d.bias
        assert bias is not None
        x = F.pad(x, (4, 4, 4, 4), mode="reflect")
        side = SQUARE if x.is_cuda else 2
        return conv_by_squares(x, weight, bias, side, gather=x.is_cuda)


def conv_by_squares(
    x: Tensor, weight: Tensor, bias: Tensor, side: int, *, gather: bool = False
) -> Tensor:
    """Returns a convolution, the pixels of each square of ``side`` by ``side`` at once.

    Args:
        x: ``(B,C,h,w)``.
        weight: ``(D,C,rows,columns)``.
        bias: ``(D,)``.
        side: divides the height and the width of what is returned.
        gather: whether the pixels of squares of the input are made channels first, so that it is a
            convolution without a stride: of 9x9 by squares of 4, a 3x3 one of many channels, for
            which GPUs are made.
    """
    places = range(side)
    moved = [F.pad(weight, (q, side - 1 - q, p, side - 1 - p)) for p in places for q in places]
    together = torch.stack(moved, 1).flatten(0, 1)
    stride = side
    if gather:
        x, together, stride = F.pixel_unshuffle(x, side), F.pixel_unshuffle(together, side), 1
    return F.pixel_shuffle(F.conv2d(x, together, bias.repeat_interleave(side**2), stride), side)


SOFT = (1.0, 2.0, 1.0)
"""Nothing of what alternates from pixel to pixel, half of what takes four pixels."""

SHARP = (-1.0, 4.0, 10.0, 4.0, -1.0)
"""Nothing of what alternates from pixel to pixel, three quarters of what takes four pixels."""


class Smooth(nn.Module):
    """Takes away what alternates from pixel to pixel.

    Before a stride it keeps fine detail from turning into coarse one, and around an enlargement it
    keeps the net's stride from showing (Zhang 2019, 1904.11486): strokes then move along with what
    they are on, where without it they depend on the place within a square of four pixels.

    Args:
        channels: of the layer.
        line: weights along rows and columns.
    """

    kernel: Tensor

    def __init__(self, channels: int, line: tuple[float, ...] = SOFT) -> None:
        super().__init__()
        weights = torch.tensor(line) / sum(line)
        kernel = (weights[:, None] * weights).expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)
        self.edge = [len(line) // 2] * 4

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels,h,w)`` -> the same shape."""
        x = F.pad(x, self.edge, mode="reflect")
        return F.conv2d(x, self.kernel, groups=len(self.kernel))


class ResidualBlock(nn.Module):
    """Two convolutions and the input, without an activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ConvLayer(channels, channels, 3)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor, normalise: Normalise = by_own) -> Tensor:
        """``(B,channels,h,w)`` -> the same shape."""
        y = F.relu(normalise(self.in1, self.conv1(x)))
        return normalise(self.in2, self.conv2(y)) + x


class TransformerNet(StyleNet):
    """The image transformation net: 1,679,235 parameters at width 32, 424,899 at 16.

    Args:
        width: channels at full size; the released nets have 32, 16 or 8.
        smooth: whether `Smooth` is before each change of size and after each enlargement, as in
            nets that were trained so; others lose their finest strokes by it.
    """

    stride = STRIDE

    def __init__(self, width: int = 32, *, smooth: bool = False) -> None:
        super().__init__()
        self.reach = SMOOTH_REACH if smooth else REACH
        self.smallest = (3 if smooth else 2) * STRIDE
        around = Smooth if smooth else _same
        self.before2, self.before3 = around(width), around(2 * width)
        self.before4, self.before5 = around(4 * width, SHARP), around(2 * width, SHARP)
        self.after4, self.after5 = around(2 * width), around(width)
        self.conv1 = InputConvLayer(width)
        self.in1 = nn.InstanceNorm2d(width, affine=True)
        self.conv2 = ConvLayer(width, 2 * width, 3, stride=2)
        self.in2 = nn.InstanceNorm2d(2 * width, affine=True)
        self.conv3 = ConvLayer(2 * width, 4 * width, 3, stride=2)
        self.in3 = nn.InstanceNorm2d(4 * width, affine=True)
        self.res1 = ResidualBlock(4 * width)
        self.res2 = ResidualBlock(4 * width)
        self.res3 = ResidualBlock(4 * width)
        self.res4 = ResidualBlock(4 * width)
        self.res5 = ResidualBlock(4 * width)
        self.deconv1 = UpsampleConvLayer(4 * width, 2 * width)
        self.in4 = nn.InstanceNorm2d(2 * width, affine=True)
        self.deconv2 = UpsampleConvLayer(2 * width, width)
        self.in5 = nn.InstanceNorm2d(width, affine=True)
        self.deconv3 = OutputConvLayer(width)

    @property
    def width(self) -> int:
        """Channels at full size."""
        return self.conv1.conv2d.out_channels

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that makes the picture."""
        return self.deconv3.conv2d

    def forward(self, image: Tensor, normalise: Normalise = by_own) -> Tensor:
        """Restyles a picture.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255, H and W at least `smallest`.
            normalise: called with each normalisation and its input, in order.

        Returns:
            RGB, 0..255 but not clamped, with H and W rounded up to multiples of 4.
        """
        x = F.relu(normalise(self.in1, self.conv1(image)))
        x = F.relu(normalise(self.in2, self.conv2(self.before2(x))))
        x = F.relu(normalise(self.in3, self.conv3(self.before3(x))))
        for block in (self.res1, self.res2, self.res3, self.res4, self.res5):
            x = block(x, normalise)
        x = F.relu(normalise(self.in4, self.after4(self.deconv1(self.before4(x)))))
        x = F.relu(normalise(self.in5, self.after5(self.deconv2(self.before5(x)))))
        out: Tensor = self.deconv3(x)
        return out


def _same(channels: int, line: tuple[float, ...] = SOFT) -> nn.Module:
    return nn.Identity()


def read_net(path: str | Path) -> tuple[TransformerNet, Checkpoint]:
    """Returns the net of a weight file, of the file's own width, and what was read.

    Raises:
        WeightsMissingError: no such file.
        WeightsKeysError: the weights of another net.
    """
    checkpoint = load(path)
    # Checkpoints from before PyTorch 0.4 hold running statistics, which were never used.
    tensors = {k: t for k, t in checkpoint.tensors.items() if not _RUNNING.search(k)}
    first = tensors.get("conv1.conv2d.weight")
    smooth = checkpoint.metadata.get(SMOOTH) == "true"
    net = TransformerNet(32 if first is None else len(first), smooth=smooth)
    load_into(net, replace(checkpoint, tensors=tensors), net="TransformerNet")
    return net, checkpoint


_RUNNING = re.compile(r"in\d+\.(running_mean|running_var|num_batches_tracked)$")
