"""DABNet: depth-wise asymmetric bottlenecks for real-time segmentation (Li et al. 2019).

Layer by layer this is section 3 of the paper (arXiv 1907.11357). Submodule names are those of the
official checkpoint (github.com/Reagan1311/DABNet), which therefore loads strictly.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_plugins.nets.backward import depthwise_conv2d, prelu

if TYPE_CHECKING:
    pass


MEANS: dict[str, tuple[float, float, float]] = {
    "cityscapes": (73.158325, 82.90902, 72.3924),
    "camvid": (99.625, 103.330, 105.658),
}
"""RGB mean, 0..255, that the official training subtracted."""


IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""RGB mean, 0..255, of every other vocabulary."""


class BNPReLU(nn.Module):
    """Batch normalisation, then a PReLU with one slope a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.acti = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,C,h,w)`` -> the same shape."""
        x = self.bn(x)
        if self.training and x.device.type == "cpu" and not torch.compiler.is_compiling():
            return prelu(x, self.acti.weight)
        out: Tensor = self.acti(x)
        return out


class Conv(nn.Module):
    """A bias-free convolution that keeps ``ceil(size / stride)``, with BNPReLU where asked."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activate: bool = False,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2 * dilation[0], kernel[1] // 2 * dilation[1])
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding, dilation, groups, bias=False
        )
        self.bn_prelu = BNPReLU(channels_out) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,ceil(h/stride),ceil(w/stride))``."""
        # Inductor fuses shifted sums with their neighbours: on CUDA, cuDNN's depth-wise convolution
        # is two thirds of a compiled net's time. Exported nets keep the convolution.
        conv = self.conv
        compiling = torch.compiler.is_compiling()
        if conv.groups > 1 and compiling and (self.training or x.is_cuda):
            x = depthwise(x, conv.weight, conv.dilation)
        elif conv.groups > 1 and self.training and x.device.type == "cpu":
            x = depthwise_conv2d(x, conv.weight, conv.dilation)
        else:
            x = conv(x)
        out: Tensor = self.bn_prelu(x)
        return out


def depthwise(x: Tensor, weight: Tensor, dilation: tuple[int, ...]) -> Tensor:
    """Returns a depth-wise convolution of odd kernel, padded to keep the size, as shifted sums.

    Args:
        x: ``(B,C,h,w)``.
        weight: ``(C,1,rows,columns)``.
        dilation: of rows and columns.
    """
    rows, columns = weight.shape[2:]
    down, across = rows // 2 * dilation[0], columns // 2 * dilation[1]
    padded = F.pad(x, (across, across, down, down))
    height, width = x.shape[2:]
    out = torch.zeros((), dtype=x.dtype, device=x.device)
    for row in range(rows):
        for column in range(columns):
            top, left = row * dilation[0], column * dilation[1]
            part = padded[:, :, top : top + height, left : left + width]
            out = out + part * weight[:, 0, row, column, None, None].to(x.dtype)
    return out


class DABModule(nn.Module):
    """Depth-wise asymmetric bottleneck: a plain and a dilated branch, and a residual (figure 2)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2

        def depthwise(kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Conv:
            return Conv(half, half, kernel, dilation=dilation, groups=half, activate=True)

        self.bn_relu_1 = BNPReLU(channels)
        self.conv3x3 = Conv(channels, half, (3, 3), activate=True)
        self.dconv3x1 = depthwise((3, 1))
        self.dconv1x3 = depthwise((1, 3))
        self.ddconv3x1 = depthwise((3, 1), (dilation, 1))
        self.ddconv1x3 = depthwise((1, 3), (1, dilation))
        self.bn_relu_2 = BNPReLU(half)
        self.conv1x1 = Conv(half, channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels,h,w)`` -> the same shape."""
        y = self.conv3x3(self.bn_relu_1(x))
        y = self.dconv1x3(self.dconv3x1(y)) + self.ddconv1x3(self.ddconv3x1(y))
        out: Tensor = self.conv1x1(self.bn_relu_2(y)) + x
        return out


class DownSampling(nn.Module):
    """Halves the size: a strided convolution, beside a max pooling where channels are left."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pool = channels_in < channels_out
        convolved = channels_out - channels_in if self.pool else channels_out
        self.conv3x3 = Conv(channels_in, convolved, (3, 3), stride=2)
        self.bn_prelu = BNPReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,ceil(h/2),ceil(w/2))``."""
        y = self.conv3x3(x)
        if self.pool:
            # ceil_mode makes odd sides fit the convolution's; on even ones it changes nothing.
            y = torch.cat([y, F.max_pool2d(x, 2, ceil_mode=True)], 1)
        out: Tensor = self.bn_prelu(y)
        return out


class DABNet(nn.Module):
    """The net of the paper: 756,643 parameters at 19 classes, 754,571 at 11.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.init_conv = nn.Sequential(
            Conv(3, 32, (3, 3), stride=2, activate=True),
            Conv(32, 32, (3, 3), activate=True),
            Conv(32, 32, (3, 3), activate=True),
        )
        self.bn_prelu_1 = BNPReLU(32 + 3)
        self.downsample_1 = DownSampling(32 + 3, 64)
        self.DAB_Block_1 = nn.Sequential()
        for index, dilation in enumerate((2, 2, 2)):
            self.DAB_Block_1.add_module(f"DAB_Module_1_{index}", DABModule(64, dilation))
        self.bn_prelu_2 = BNPReLU(2 * 64 + 3)
        self.downsample_2 = DownSampling(2 * 64 + 3, 128)
        self.DAB_Block_2 = nn.Sequential()
        for index, dilation in enumerate((4, 4, 8, 8, 16, 16)):
            self.DAB_Block_2.add_module(f"DAB_Module_2_{index}", DABModule(128, dilation))
        self.bn_prelu_3 = BNPReLU(2 * 128 + 3)
        self.classifier = nn.Sequential(Conv(2 * 128 + 3, classes, (1, 1)))

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits at an eighth of the size, as the 1x1 convolution gives them.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255 minus the training set's mean; any H and W.

        Returns:
            ``(B,K,ceil(H/8),ceil(W/8))``; the paper resizes them bilinearly to the frame.
        """
        image_2 = F.avg_pool2d(image, 3, 2, 1)
        image_4 = F.avg_pool2d(image_2, 3, 2, 1)
        image_8 = F.avg_pool2d(image_4, 3, 2, 1)

        x = self.bn_prelu_1(torch.cat([self.init_conv(image), image_2], 1))
        x = self.downsample_1(x)
        x = self.bn_prelu_2(torch.cat([self.DAB_Block_1(x), x, image_4], 1))
        x = self.downsample_2(x)
        x = self.bn_prelu_3(torch.cat([self.DAB_Block_2(x), x, image_8], 1))
        logits: Tensor = self.classifier(x)
        return logits
