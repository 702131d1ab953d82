"""Random scale, crop, flip and light of a picture, its labels and a teacher's, by one generator.

Letters: ``H W`` the picture, ``h w`` the crop, ``K`` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.labelled import IGNORE

PADDING = (124, 116, 104)
"""RGB where a crop is larger than the picture: ImageNet's mean. No label is there."""


NOTHING = -1
"""No label."""

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
        filled = self._filled(view, _resized(picture, self.size, Image.Resampling.BILINEAR))
        return filled.permute(2, 0, 1).contiguous()

    def of_labels(self, labels: NDArray[np.uint8]) -> Tensor:
        """Returns labels ``(H,W)`` seen so: uint8 ``(h,w)``, `IGNORE` around them."""
        view = np.full(self.crop, IGNORE, np.uint8)
        return self._filled(view, _resized(labels, self.size, Image.Resampling.NEAREST))

    def of_soft(self, soft: Tensor) -> tuple[Tensor, Tensor]:
        """Returns soft labels seen so, a cell for `SOFT_STRIDE` pixels, and where they hold.

        Args:
            soft: logits ``(K,h',w')`` of the whole picture.

        Returns:
            Logits ``(K,h/8,w/8)``, and a bool ``(h/8,w/8)`` that is true inside the picture.
        """
        rows, columns = ((torch.arange(n // SOFT_STRIDE) + 0.5) * SOFT_STRIDE for n in self.crop)
        if self.mirrored:
            columns = self.crop[1] - columns
        # grid_sample counts from -1 to 1 over the picture.
        rows = (self.top + rows) / self.size[0] * 2 - 1
        columns = (self.left + columns) / self.size[1] * 2 - 1
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        grid = torch.stack([across, down], 2)[None]
        seen = F.grid_sample(soft[None].float(), grid, padding_mode="border", align_corners=False)
        return seen[0].to(soft.dtype), (down <= 1) & (across <= 1)

    def _filled(self, view: NDArray[np.uint8], scaled: NDArray[np.uint8]) -> Tensor:
        part = scaled[self.top :, self.left :][: self.crop[0], : self.crop[1]]
        height, width = part.shape[:2]
        view[:height, :width] = part
        return torch.from_numpy(np.ascontiguousarray(view[:, ::-1] if self.mirrored else view))


def random_view(
    labels: NDArray[np.uint8],
    crop: tuple[int, int],
    scales: Sequence[float],
    generator: torch.Generator,
    *,
    focus: int | None = None,
) -> View:
    """Draws a view of a picture.

    Args:
        labels: of the picture, ``(H,W)``.
        crop: h and w.
        scales: one of them multiplies the sides.
        generator: the only source of chance.
        focus: a label of which a pixel, if there is any, lies in the view.
    """

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    scale = scales[below(len(scales))]
    mirrored = below(2) == 1
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    scaled = _resized(labels, (height, width), Image.Resampling.NEAREST)
    rows, columns = np.nonzero(scaled == (NOTHING if focus is None else focus))
    place = below(len(rows)) if len(rows) else None
    corner = []
    for side, length, ids in ((height, crop[0], rows), (width, crop[1], columns)):
        room = max(0, side - length)
        start = below(room + 1)
        if place is not None:
            start = min(max(0, int(ids[place]) - below(length)), room)
        corner.append(start)
    return View(crop, (height, width), corner[0], corner[1], mirrored)


def jittered(picture: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Returns a picture in another light: brightness, contrast and saturation changed by chance.

    Args:
        picture: uint8 ``(3,h,w)``.
        amount: each factor is drawn from ``[1 - amount, 1 + amount]``; 0 changes nothing and draws
            nothing.
        generator: the only source of chance.
    """
    if not amount:
        return picture
    brightness, contrast, saturation = (
        1 + amount * (2 * torch.rand(3, generator=generator) - 1)
    ).tolist()
    picture = TF.adjust_brightness(picture, brightness)
    picture = TF.adjust_contrast(picture, contrast)
    picture = TF.adjust_saturation(picture, saturation)
    return picture


def _resized(
    picture: NDArray[np.uint8], size: tuple[int, int], how: Image.Resampling
) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize(size[::-1], how))
