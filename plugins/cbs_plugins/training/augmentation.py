"""Random scale, crop, flip and light of a picture, its labels and a teacher's, by one generator.

Letters: ``H W`` the picture, ``h w`` the crop, ``K`` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.datasets.labelled import IGNORE

PADDING = (124, 116, 104)
"""RGB where a crop is larger than the picture: ImageNet's mean. No label is there."""

SOFT_STRIDE = 8
"""Pixels of a view that a cell of its soft labels stands for, across and down."""


@dataclass(frozen=True, slots=True)
class View:
    """A random part of a picture: scaled, cut out, perhaps mirrored."""

    crop: tuple[int, int]
    """h and w."""

    size: tuple[int, int]
    """Height and width of the scaled picture."""

    top: int
    left: int
    mirrored: bool

    def of_picture(self, picture: NDArray[np.uint8]) -> Tensor:
        """Returns a picture ``(H,W,3)`` seen so: uint8 ``(3,h,w)``, `PADDING` around it."""
        view = np.empty((*self.crop, 3), np.uint8)
        view[:] = PADDING
        filled = self._filled(view, picture, Image.Resampling.BILINEAR)
        return filled.permute(2, 0, 1).contiguous()

    def of_labels(self, labels: NDArray[np.uint8]) -> Tensor:
        """Returns labels ``(H,W)`` seen so: uint8 ``(h,w)``, `IGNORE` around them."""
        view = np.full(self.crop, IGNORE, np.uint8)
        return self._filled(view, labels, Image.Resampling.NEAREST)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, height and width of what is seen, as shares of the picture.

        More than is there where the crop is larger; of a mirrored view from the right, with a
        negative width.
        """
        (height, width), (tall, broad) = self.crop, self.size
        top, left, down, across = self.top / tall, self.left / broad, height / tall, width / broad
        return (top, left + across, down, -across) if self.mirrored else (top, left, down, across)

    def of_soft(self, soft: Tensor) -> tuple[Tensor, Tensor]:
        """Returns soft labels seen so, a cell for `SOFT_STRIDE` pixels, and where they hold.

        Args:
            soft: logits ``(K,h',w')`` of the whole picture.

        Returns:
            Logits ``(K,h/8,w/8)``, and a bool ``(h/8,w/8)`` that is true inside the picture.
        """
        cells = self.crop[0] // SOFT_STRIDE, self.crop[1] // SOFT_STRIDE
        rows, columns = seen_places(torch.tensor([self.box]), cells)
        return sampled(soft[None], rows, columns)[0], inside(rows, columns)[0]

    def _filled(
        self, view: NDArray[np.uint8], picture: NDArray[np.uint8], how: Image.Resampling
    ) -> Tensor:
        height, width = (
            min(n, total - start)
            for n, total, start in zip(self.crop, self.size, (self.top, self.left), strict=True)
        )
        # Only the part that is seen is scaled.
        down, across = (side / n for side, n in zip(picture.shape, self.size, strict=False))
        box = (
            self.left * across,
            self.top * down,
            (self.left + width) * across,
            (self.top + height) * down,
        )
        part = Image.fromarray(picture).resize((width, height), how, box)
        view[:height, :width] = np.asarray(part)
        return torch.from_numpy(np.ascontiguousarray(view[:, ::-1] if self.mirrored else view))


def seen_places(boxes: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns where the centres of a view's rows and columns lie: ``(B,h)`` and ``(B,w)``.

    Args:
        boxes: ``(B,4)`` of views (`View.box`).
        cells: h and w.

    Returns:
        Shares of the picture's height and width, above 1 outside of it.
    """
    top, left, down, across = boxes[..., None].unbind(1)
    rows, columns = ((torch.arange(n, device=boxes.device) + 0.5) / n for n in cells)
    return top + down * rows, left + across * columns


def inside(rows: Tensor, columns: Tensor) -> Tensor:
    """Returns a bool ``(B,h,w)`` that tells which of `seen_places` lie in the picture."""
    return (rows <= 1)[:, :, None] & (columns <= 1)[:, None]


def sampled(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns maps ``(B,K,H,W)`` at rows ``(B,h)`` and columns ``(B,w)``, shares of their size."""
    # grid_sample counts from -1 to 1.
    across = (columns * 2 - 1)[:, None].expand(-1, rows.shape[1], -1)
    down = (rows * 2 - 1)[:, :, None].expand(-1, -1, columns.shape[1])
    grid = torch.stack([across, down], 3)
    seen = F.grid_sample(maps.float(), grid, padding_mode="border", align_corners=False)
    return seen.to(maps.dtype)


def random_view(
    shape: tuple[int, ...],
    crop: tuple[int, int],
    scales: Sequence[float],
    generator: torch.Generator,
    *,
    focus: NDArray[np.bool_] | None = None,
) -> View:
    """Draws a view of a picture.

    Args:
        shape: of the picture, height and width first.
        crop: h and w.
        scales: one of them multiplies the sides.
        generator: the only source of chance.
        focus: places of the picture, on a grid of any size; one of them, if there are any, lies in
            the view.
    """

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    scale = scales[below(len(scales))]
    mirrored = below(2) == 1
    size = tuple(max(1, round(side * scale)) for side in shape[:2])
    place = None  # as shares of the height and the width
    if focus is not None and focus.any():
        places = np.argwhere(focus)
        place = (places[below(len(places))] + 0.5) / focus.shape
    corner = []
    for axis, (side, length) in enumerate(zip(size, crop, strict=True)):
        room = max(0, side - length)
        start = below(room + 1)
        if place is not None:
            start = min(max(0, int(place[axis] * side) - below(length)), room)
        corner.append(start)
    return View(crop, (size[0], size[1]), corner[0], corner[1], mirrored)


def random_light(count: int, amount: float, generator: torch.Generator) -> Tensor:
    """Draws the factors that `jittered` takes, for so many views: ``(B,3)``.

    Args:
        count: B.
        amount: each factor is drawn from ``[1 - amount, 1 + amount]``.
        generator: the only source of chance.
    """
    return 1 + amount * (2 * torch.rand(count, 3, generator=generator) - 1)


def jittered(image: Tensor, light: Tensor) -> Tensor:
    """Returns pictures ``(B,3,h,w)`` in [0,1] in another light.

    Args:
        image: the pictures.
        light: ``(B,3)``, of each the factors of brightness, contrast and saturation; they are
            applied in this order.
    """
    brightness, contrast, saturation = light[..., None, None, None].unbind(1)
    image = (image * brightness).clamp(max=1)
    image = torch.lerp(_grey(image).mean((2, 3), keepdim=True), image, contrast).clamp(0, 1)
    return torch.lerp(_grey(image), image, saturation).clamp(0, 1)


def _grey(pictures: Tensor) -> Tensor:
    """Returns the luminance ``(B,1,h,w)`` of RGB ``(B,3,h,w)`` (ITU-R BT.601)."""
    red, green, blue = pictures.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def random_rectangles(
    count: int, share: float, crop: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draws what `cutmix` takes, for so many views: int64 ``(B,4)``, all 0 where nothing is set.

    Args:
        count: B.
        share: of the views that get a rectangle, of at most half of their area.
        crop: h and w.
        generator: the only source of chance.
    """
    rectangles = torch.zeros(count, 4, dtype=torch.int64)
    cells = crop[0] // SOFT_STRIDE, crop[1] // SOFT_STRIDE
    for slot in range(count if share else 0):
        chance, area, across, y, x = torch.rand(5, generator=generator).tolist()
        if chance >= share:
            continue
        tall = 0.25 + across / 2  # of the area, up to half of the view, this power is the height
        high, broad = (
            max(1, round((area / 2) ** power * side))
            for power, side in zip((tall, 1 - tall), cells, strict=True)
        )
        top, left = int(y * (cells[0] - high + 1)), int(x * (cells[1] - broad + 1))
        rectangles[slot] = torch.tensor([top, left, high, broad])
    return rectangles


def cutmix(views: Sequence[Tensor], rectangles: Tensor) -> list[Tensor]:
    """Sets rectangles of each view's predecessor into it, with all that is known of them.

    A class is then learnt by its own look, and less by what usually surrounds it.

    Source: Yun et al. 2019 (1905.04899); for segmentation French et al. 2020 (1906.01916).

    Args:
        views: what is known of B views: each ``(B,*,h,w)``, at full size or a cell for
            `SOFT_STRIDE` pixels.
        rectangles: ``(B,4)``, top, left, height and width in such cells.
    """
    top, left, high, broad = rectangles[..., None, None].unbind(1)
    height, width = views[0].shape[-2:]
    rows = torch.arange(height // SOFT_STRIDE, device=rectangles.device)[:, None]
    columns = torch.arange(width // SOFT_STRIDE, device=rectangles.device)
    inside = (rows >= top) & (rows < top + high) & (columns >= left) & (columns < left + broad)
    full = inside.repeat_interleave(SOFT_STRIDE, 1).repeat_interleave(SOFT_STRIDE, 2)
    full = F.pad(full, (0, width - full.shape[2], 0, height - full.shape[1]))
    before = torch.arange(len(rectangles), device=rectangles.device) - 1
    mixed = []
    for view in views:
        mask = full if view.shape[-2:] == (height, width) else inside
        mask = mask.view(len(mask), *(1,) * (view.ndim - 3), *mask.shape[1:])
        mixed.append(torch.where(mask, view[before], view))
    return mixed
