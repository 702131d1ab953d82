"""The feed-forward net of Johnson et al. 2016 (1603.08155) as a styler: one net a style.

It restyles whole pictures, and windows by the statistics of a whole one (`RegionStyler`).

Letters: ``B`` batch, ``H W`` the frame, ``h w`` a window of it, ``S`` numbers in the statistics.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import find
from cbs_core.contract.errors import ConfigError
from cbs_plugins.nets.johnson import STRIDE, Normalise, by_own, moments, normalised, read_net
from cbs_plugins.nets.lattice import WithoutGrid

if TYPE_CHECKING:
    from cbs_plugins.training.johnson import JohnsonTask

DEFAULT_STYLE = "starry_night"

MIN_SIDE = 8
"""Pixels: below this, the reflection padding at a quarter of the size finds nothing to reflect."""

GOOD_SIZE = (512, 512)
"""Strokes of the 256 pixels that these nets are trained on, seen from twice as far: in larger
pictures they turn into a texture of the photograph."""

HALO = 56
"""Pixels that an output pixel of the net depends on to each side, counted from the last layer to
the first: 4 + 1, at half the size 1, at a quarter ten times 1, at half 1, and 1 + 4, which is 4 + 1
+ 2 + 40 + 2 + 1 + 4 = 54; rounding to the strides makes it 55, and whole strides 56."""

WIDE_HALO = 68
"""Those with what takes the grid out: 11 more (`cbs_plugins.nets.lattice.REACH`)."""


class JohnsonStyler(nn.Module):
    """TransformerNet with its scaling: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    The width is the weights' own.

    Args:
        style: a name in the weight folders (``johnson/NAME.*``, else the widest
            ``johnson/NAME_widthN.*``); None is `DEFAULT_STYLE`.
        weights: a file, which goes before a style's name.
        halo: pixels around a window that are styled with it and cut off (`RegionStyler`), rounded
            up to multiples of `STRIDE`; None is `WIDE_HALO`, or `HALO` where the grid is left, with
            which windows are exact.
        grid: whether the grid of four pixels that the net makes is left as it is; None is no.

    Raises:
        ConfigError: a negative halo.
        WeightsMissingError: no such style or file.
        WeightsKeysError: the weights of another net.
    """

    align = STRIDE
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
        exact = HALO if grid else WIDE_HALO
        self.halo = exact if halo is None else -(-halo // STRIDE) * STRIDE
        self.finish = nn.Identity() if grid else WithoutGrid()
        self.net, checkpoint = read_net(
            weights or find("johnson", style or DEFAULT_STYLE, flag="styler.weights")
        )
        self.weights_files = (checkpoint.file,)
        width = self.net.conv1.conv2d.out_channels

        # Peak resident memory on the CPU, measured: 974 to 1130 at width 32, 493 to 574 at 16, 277
        # to 349 at 8; the part that does not grow with the width is the picture and its copies.
        self.bytes_per_pixel = 64 + 32 * width

    def forward(self, image: Tensor, normalise: Normalise = by_own) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        height, width = image.shape[-2:]
        missing = (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height))
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

    @classmethod
    def task(cls, **params: object) -> "JohnsonTask":
        """Returns the training of a style (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_core.training.recipe import bind
        from cbs_plugins.training.johnson import JohnsonTask
        from cbs_plugins.training.johnson_recipe import Recipe

        return JohnsonTask(bind(Recipe, params, owner="training of the styler 'johnson'"))


class Dense(nn.Module):
    """``(B,3,H,W)`` -> the picture styled, and its statistics float32 ``(B,S)``.

    They are the mean and the variance of each normalisation's input, one after the other.
    """

    def __init__(self, styler: JohnsonStyler) -> None:
        super().__init__()
        self.styler = styler

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Restyles by the picture's own statistics."""
        found: list[Tensor] = []

        def by_measured(layer: nn.InstanceNorm2d, x: Tensor) -> Tensor:
            mean, variance = moments(x)
            found.extend((mean, variance))
            return normalised(layer, x, mean, variance)

        styled = self.styler(image, by_measured)
        return styled, torch.cat(found, dim=1)


class Window(nn.Module):
    """``(B,3,h,w)`` and the statistics ``(1,S)`` of the whole picture -> the window styled."""

    def __init__(self, styler: JohnsonStyler) -> None:
        super().__init__()
        self.styler = styler
        self.channels = [
            layer.num_features for layer in styler.modules() if isinstance(layer, nn.InstanceNorm2d)
        ]

    def forward(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Restyles by the given statistics."""
        given = iter(torch.split(statistics, [n for n in self.channels for _ in range(2)], dim=1))

        def by_given(layer: nn.InstanceNorm2d, x: Tensor) -> Tensor:
            return normalised(layer, x, next(given), next(given))

        out: Tensor = self.styler(image, by_given)
        return out
