"""A style painted on a smaller picture than the frame, and enlarged along the frame's own edges.

Strokes have a size in pixels, so that in a large frame they are fine and in a small one coarse.
Painted on pictures of about one size, they take the same share of every frame.

Letters: ``B`` batch, ``R`` routes, ``H W`` the frame, ``h w`` the smaller picture or a grid.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.frame.sizes import Scale, size_of
from cbs_core.frame.stage import Recall
from cbs_core.frame.styling import Shown, Styling
from cbs_core.frame.windows import CELL, Mask
from cbs_core.machine.memory import check_memory
from cbs_core.temporal.state import Memory
from cbs_core.temporal.wanted import Policy

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, of R, G and B."""

RADIUS = 2
"""Pixels of the smaller picture to each side, over which light and paint are compared."""

FLAT = 1e-3
"""Variance of light below which a place has no edge to follow."""

STEEPEST = 2.0
"""Levels of paint that a level of light becomes at most; against it, half as many."""

NEIGHBOURS = 4
"""Pixels of the smaller picture to each side that a pixel of the enlarged one is made from: 1 since
it lies between pixels, 1 since the slope is smoothed, and `RADIUS` of what that is fitted to."""

BYTES = 4 * 12
"""Of working memory, a pixel of the frame: paint, slope and light enlarged, and their sum."""


@dataclass(frozen=True, slots=True)
class Enlarged:
    """A `Styling` whose style is painted at another size than the frame's."""

    inner: Styling
    scale: Scale
    """Of the picture that is painted."""

    @property
    def what(self) -> str:
        """The plugin in words."""
        return self.inner.what

    @property
    def tells_scenes_apart(self) -> bool:
        """Whether `Shown.scene` is looked at."""
        return self.inner.tells_scenes_apart

    @property
    def recall(self) -> Recall | None:
        """Where the plugin has a state from frame to frame."""
        return self.inner.recall

    @property
    def policy(self) -> Policy | None:
        """When statistics are taken anew."""
        return self.inner.policy

    def bytes_per_pixel(self, height: int, width: int) -> int:
        """Returns the working memory, by a pixel of a frame of that size."""
        small = size_of(self.scale, height, width)
        inner = self.inner.bytes_per_pixel(*small)
        if small == (height, width):
            return inner
        return BYTES + math.ceil(inner * math.prod(small) / (height * width))

    def prepare(self, image: Tensor) -> None:
        """Builds whatever frames like this ``(B,3,H,W)`` need."""
        self.inner.prepare(resized(image, self.scale))

    def __call__(self, image: Tensor, shown: Shown, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns the picture restyled.

        Raises:
            MemoryLimitError: the size was given, is larger than the frame, and too large.
            PluginContractError: the styler broke its interface.
        """
        frame = image.shape[2], image.shape[3]
        size = size_of(self.scale, *frame)
        if size == frame:
            return self.inner(image, shown, memory)
        if math.prod(size) > math.prod(frame):
            cost = 2 * 3 * 4 + self.inner.bytes_per_pixel(*size)
            named = f"style_size=[{size[0]},{size[1]}], a picture"
            check_memory(*size, cost, image.device, what=named)
        small = resized(image, self.scale)
        reduced = replace(shown, cells=reduced_cells(shown.cells, frame, size), size=size)
        styled, memory = self.inner(small, reduced, memory)
        return enlarged(styled, small, image), memory


def resized(image: Tensor, scale: Scale) -> Tensor:
    """Returns the picture ``(B,3,h,w)`` to segment, or to style, of a frame ``(B,3,H,W)``."""
    size = size_of(scale, image.shape[2], image.shape[3])
    if size == image.shape[2:]:
        return image
    # Without antialiasing a smaller picture is a coarser one, which nets have not been shown.
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def enlarged(styled: Tensor, small: Tensor, image: Tensor) -> Tensor:
    """Returns the paint at the frame's size, with the frame's edges where the paint followed them.

    Around each pixel of the smaller picture paint is taken for ``slope · light + rest``, a line
    fitted by least squares; slope and rest are enlarged, and the light is the frame's own. Where
    nothing was made smaller it is the paint itself.

    Args:
        styled: ``(B,3,h,w)`` in [0,1], the paint.
        small: ``(B,3,h,w)``, what was painted over.
        image: ``(B,3,H,W)``, the frame.

    Source: He and Sun 2015 (1505.00996), the fast guided filter, whose guide here is light alone,
    so that colours are the paint's.
    """
    size = image.shape[2:]
    if size.numel() <= small.shape[2:].numel():
        return F.interpolate(styled, size, mode="bilinear", antialias=True).clamp_(0, 1)
    light = _luma(small)
    slope = _slope(light, _luma(styled))
    parts = torch.cat([styled - slope * light, slope], dim=1)
    parts = F.interpolate(parts, size, mode="bilinear")
    return torch.addcmul(parts[:, :3], parts[:, 3:], _luma(image)).clamp_(0, 1)


def _slope(light: Tensor, paint: Tensor) -> Tensor:
    """Returns how paint changes with light around each pixel, all ``(B,1,h,w)``."""
    mean_light, mean_paint = _around(light), _around(paint)
    together = _around(light * paint) - mean_light * mean_paint
    variance = _around(light.square()) - mean_light.square()
    slope = (together / (variance + FLAT)).clamp_(-STEEPEST / 2, STEEPEST)
    return _around(slope, 1)


def _around(x: Tensor, radius: int = RADIUS) -> Tensor:
    """Returns means of squares of ``2 radius + 1`` pixels, cut off at the picture's border."""
    return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)


def _luma(image: Tensor) -> Tensor:
    """Returns the light of a picture: ``(B,3,H,W)`` -> ``(B,1,H,W)``."""
    return (image.permute(0, 2, 3, 1) @ _weights(image.device, image.dtype))[:, None]


@cache
def _weights(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns `LUMA` as a tensor: to make it anew for each frame, a GPU would be waited for."""
    return torch.tensor(LUMA, dtype=dtype, device=device)


def reduced_cells(cells: Mask, frame: tuple[int, int], size: tuple[int, int]) -> Mask:
    """Returns which cells of the smaller picture the enlarged one needs.

    Args:
        cells: ``(B,h,w)``, which are needed of the frame.
        frame: its height and width.
        size: those of the smaller picture.

    Example:
        >>> cells = np.zeros((1, 8, 8), bool)
        >>> cells[0, 0, 7] = True
        >>> reduced_cells(cells, (64, 64), (32, 32))[0].astype(int).tolist()
        [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    rows, columns = (_overlap(*sides) for sides in zip(frame, size, strict=True))
    return np.asarray((rows @ cells.astype(np.float32) @ columns.T) > 0)


def _overlap(frame: int, small: int) -> NDArray[np.float32]:
    """Returns 1 where a cell of the smaller side, a row, is needed by one of the frame's."""
    share = small / frame
    needed = np.arange(-(-frame // CELL)) * CELL
    first, last = needed * share - NEIGHBOURS, (needed + CELL) * share + NEIGHBOURS
    begin = np.arange(-(-small // CELL))[:, None] * CELL
    return ((begin < last) & (begin + CELL > first)).astype(np.float32)
