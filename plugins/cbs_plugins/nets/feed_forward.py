"""Feed-forward style nets as stylers: one net a style.

They restyle whole pictures, and windows by the statistics of a whole one (`RegionStyler`).

Letters: ``B`` batch, ``H W`` the frame, ``h w`` a window of it, ``S`` numbers in the statistics.
"""

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, find
from cbs_core.contract.errors import ConfigError
from cbs_plugins.nets.lattice import WithoutGrid, reach
from cbs_plugins.nets.style_net import Measured, Normalise, StyleNet, by_given, by_own

DEFAULT_STYLE = "starry_night"

GOOD_SIZE = (512, 512)
"""Strokes of the 256 pixels that these nets are trained on, seen from twice as far: in larger
pictures they turn into a texture of the photograph."""


class FeedForward(nn.Module):
    """A style net with its scaling: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    The net's size is the weights' own.

    Args:
        style: a name in the weight folders (``ROOM/NAME.*``, else the widest
            ``ROOM/NAME_widthN.*``); None is `DEFAULT_STYLE`.
        weights: a file, which goes before a style's name.
        halo: pixels around a window that are styled with it and cut off (`RegionStyler`), rounded
            up to multiples of the net's stride; None is what the net sees, with which windows are
            exact.
        grid: whether the grid of the stride that the net makes is left as it is; None is no.

    Raises:
        ConfigError: a negative halo.
        WeightsMissingError: no such style or file.
        WeightsKeysError: the weights of another net.
    """

    room: ClassVar[str]
    """In which folder of the weight folders its styles are."""

    good_size = GOOD_SIZE

    def __init__(
        self,
        style: str | None = None,
        weights: str | None = None,
        halo: int | None = None,
        grid: bool | None = None,
    ) -> None:
        super().__init__()
        if halo is not None and halo < 0:
            raise ConfigError(f"styler.halo must not be negative, as {halo} is")
        self.net, checkpoint = self.read(
            weights or find(self.room, style or DEFAULT_STYLE, flag="styler.weights")
        )
        self.align = stride = self.net.stride
        self.min_side = self.net.smallest
        exact = strides(self.net.reach, stride) + (0 if grid else strides(reach(stride), stride))
        self.halo = exact if halo is None else strides(halo, stride)
        self.finish = nn.Identity() if grid else WithoutGrid(stride)
        self.weights_files = (checkpoint.file,)

    @staticmethod
    def read(path: str | Path) -> tuple[StyleNet, Checkpoint]:
        """Reads the net of a weight file."""
        raise NotImplementedError

    def forward(self, image: Tensor, normalise: Normalise = by_own) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        height, width = image.shape[-2:]
        least = self.min_side
        missing = (0, max(0, least - width), 0, max(0, least - height))
        if any(missing):
            image = F.pad(image, missing, mode="replicate")
        styled: Tensor = self.finish(self.net(image * 255, normalise))
        return styled[..., :height, :width].clamp(0, 255) / 255

    def dense_module(self) -> nn.Module:
        """Returns the styler that also tells its statistics (`RegionStyler`)."""
        return Dense(self)

    def window_module(self) -> nn.Module:
        """Returns the styler that takes its statistics (`RegionStyler`)."""
        return Window(self)


def strides(pixels: int, stride: int) -> int:
    """Returns pixels rounded up to whole strides."""
    return -(-pixels // stride) * stride


class Dense(nn.Module):
    """``(B,3,H,W)`` -> the picture styled, and its statistics float32 ``(B,S)``.

    They are the mean and the variance of each normalisation's input, one after the other.
    """

    def __init__(self, styler: FeedForward) -> None:
        super().__init__()
        self.styler = styler

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Restyles by the picture's own statistics."""
        measured = Measured()
        styled = self.styler(image, measured)
        return styled, torch.cat([part for pair in measured.kept for part in pair], dim=1)


class Window(nn.Module):
    """``(B,3,h,w)`` and the statistics ``(1,S)`` of the whole picture -> the window styled."""

    def __init__(self, styler: FeedForward) -> None:
        super().__init__()
        self.styler = styler
        self.channels = [
            layer.num_features for layer in styler.modules() if isinstance(layer, nn.InstanceNorm2d)
        ]

    def forward(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Restyles by the given statistics."""
        parts = torch.split(statistics, [n for n in self.channels for _ in range(2)], dim=1)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        out: Tensor = self.styler(image, by_given(pairs))
        return out
