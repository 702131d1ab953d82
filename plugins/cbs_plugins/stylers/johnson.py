"""The feed-forward net of Johnson et al. 2016 (1603.08155): one net a style.

It is the variant of github.com/pytorch/examples (``fast_neural_style``), whose submodule names are
kept so that its checkpoints load strictly: reflection padding, instance normalisation, and nearest
upsampling in place of transposed convolutions.

Letters: ``B`` batch, ``H W`` the frame.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.registry import checked_parameters
from cbs_core.weights import Checkpoint, find, load, load_into

if TYPE_CHECKING:
    from cbs_plugins.stylers.johnson_training import JohnsonTask

DEFAULT_STYLE = "starry_night"

MIN_SIDE = 8
"""Pixels: below this, the reflection padding at a quarter of the size finds nothing to reflect."""


class ConvLayer(nn.Module):
    """A convolution with reflection padding, on the input enlarged where asked."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, upsample: int = 1
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv2d = nn.Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, padding_mode="reflect"
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,h*upsample/stride,w*upsample/stride)``."""
        if self.upsample > 1:
            x = F.interpolate(x, scale_factor=self.upsample, mode="nearest")
        out: Tensor = self.conv2d(x)
        return out


class ResidualBlock(nn.Module):
    """Two convolutions and the input, without an activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ConvLayer(channels, channels, 3)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels,h,w)`` -> the same shape."""
        y = F.relu(self.in1(self.conv1(x)))
        out: Tensor = self.in2(self.conv2(y)) + x
        return out


class TransformerNet(nn.Module):
    """The image transformation net: 1,679,235 parameters at width 32, 424,899 at 16.

    Args:
        width: channels at full size; the released nets have 32, 16 or 8.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = ConvLayer(3, width, 9)
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
        self.deconv1 = ConvLayer(4 * width, 2 * width, 3, upsample=2)
        self.in4 = nn.InstanceNorm2d(2 * width, affine=True)
        self.deconv2 = ConvLayer(2 * width, width, 3, upsample=2)
        self.in5 = nn.InstanceNorm2d(width, affine=True)
        self.deconv3 = ConvLayer(width, 3, 9)

    def forward(self, image: Tensor) -> Tensor:
        """Restyles a picture.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255, H and W at least `MIN_SIDE`.

        Returns:
            RGB, 0..255 but not clamped, with H and W rounded up to multiples of 4.
        """
        x = F.relu(self.in1(self.conv1(image)))
        x = F.relu(self.in2(self.conv2(x)))
        x = F.relu(self.in3(self.conv3(x)))
        x = self.res5(self.res4(self.res3(self.res2(self.res1(x)))))
        x = F.relu(self.in4(self.deconv1(x)))
        x = F.relu(self.in5(self.deconv2(x)))
        out: Tensor = self.deconv3(x)
        return out


class JohnsonStyler(nn.Module):
    """TransformerNet with its scaling: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    The width is the weights' own.

    Args:
        style: a name in the weight folders (``johnson/NAME.*``, else the widest
            ``johnson/NAME_widthN.*``); None is `DEFAULT_STYLE`.
        weights: a file, which goes before a style's name.

    Raises:
        WeightsMissingError: no such style or file.
        WeightsKeysError: the weights of another net.
    """

    def __init__(self, style: str | None = None, weights: str | None = None) -> None:
        super().__init__()
        self.net, checkpoint = read_net(
            weights or find("johnson", style or DEFAULT_STYLE, flag="styler.weights")
        )
        self.weights_files = (checkpoint.file,)
        width = self.net.conv1.conv2d.out_channels

        # Peak resident memory on the CPU, measured: 974 to 1130 at width 32, 493 to 574 at 16, 277
        # to 349 at 8; the part that does not grow with the width is the picture and its copies.
        self.bytes_per_pixel = 64 + 32 * width

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        height, width = image.shape[-2:]
        missing = (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height))
        if any(missing):
            image = F.pad(image, missing, mode="replicate")
        styled: Tensor = self.net(image * 255)
        return styled[..., :height, :width].clamp(0, 255) / 255

    @classmethod
    def task(cls, **params: object) -> "JohnsonTask":
        """Returns the training of a style (`cbs_core.interfaces.Trainable`)."""
        from cbs_plugins.stylers.johnson_training import JohnsonTask

        owner = "training of the styler 'johnson'"
        checked: dict[str, Any] = checked_parameters(JohnsonTask, params, owner=owner)
        return JohnsonTask(**checked)


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
    net = TransformerNet(32 if first is None else len(first))
    load_into(net, replace(checkpoint, tensors=tensors), net="TransformerNet")
    return net, checkpoint


_RUNNING = re.compile(r"in\d+\.(running_mean|running_var|num_batches_tracked)$")
