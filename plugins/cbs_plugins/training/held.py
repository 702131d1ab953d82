"""A training set that lies whole on the device, where its views are cut.

A GPU then need not wait for threads that decode and scale.

Letters: ``N`` pictures, ``S`` their longest side, ``B`` views, ``h w`` the crop, ``K`` classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.datasets.labelled import IGNORE
from cbs_plugins.training.augmentation import (
    PADDING,
    SOFT_STRIDE,
    inside,
    sampled,
    seen_places,
)


class Held:
    """Pictures and labels on a device, and views of them.

    A view is that of `cbs_plugins.training.augmentation.View`, within a level of 255, but that
    pixels of a picture made smaller are interpolated, not averaged: below half its size it aliases.

    Args:
        examples: pictures ``(H,W,3)`` and their labels ``(H,W)``, of any sizes. They take
            ``4 N S^2`` bytes: 3000 photographs of 512 pixels 3 GB.
        crop: h and w.
        device: where.
    """

    def __init__(
        self,
        examples: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
        crop: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.crop = crop
        self.shapes = [labels.shape for _, labels in examples]
        """Heights and widths."""
        self._sides = torch.tensor(self.shapes, device=device)
        side = -(-int(self._sides.max()) // SOFT_STRIDE) * SOFT_STRIDE
        self.pictures = torch.empty(len(examples), side, side, 3, dtype=torch.uint8, device=device)
        """``(N,S,S,3)``, `PADDING` right of each and below it."""
        self.pictures[:] = torch.tensor(PADDING, dtype=torch.uint8)
        self._labels = torch.full(
            (len(examples), side, side), IGNORE, dtype=torch.uint8, device=device
        )
        for index, (picture, labels) in enumerate(examples):
            height, width = labels.shape
            self.pictures[index, :height, :width] = torch.from_numpy(picture)
            self._labels[index, :height, :width] = torch.from_numpy(labels)
        self.soft: Tensor | None = None
        """A teacher's logits ``(N,K,S/8,S/8)`` of the pictures, where there are any."""

    def __call__(self, index: Tensor, boxes: Tensor) -> list[Tensor]:
        """Returns views.

        Args:
            index: int64 ``(B,)``, which pictures.
            boxes: ``(B,4)``, what of them is seen (`View.box`).

        Returns:
            The views, uint8 ``(B,3,h,w)``; their labels, uint8 ``(B,h,w)``; with `soft` its logits
            ``(B,K,h/8,w/8)``, and a bool ``(B,h/8,w/8)`` that is true inside the picture.
        """
        down, across = (one[:, None].float() for one in self._sides[index].unbind(1))
        rows, columns = seen_places(boxes, self.crop)
        there = inside(rows, columns)
        rows, columns = rows * down, columns * across
        which = index[:, None, None]
        y, x = _clamped(rows.long(), down)[:, :, None], _clamped(columns.long(), across)[:, None]
        labels = torch.where(there, self._labels[which, y, x], IGNORE)

        y0, y1, low = _neighbours(rows, down)
        x0, x1, right = _neighbours(columns, across)
        low, right = low[:, :, None, None], right[:, None, :, None]
        upper, lower = (
            torch.lerp(
                self.pictures[which, y[:, :, None], x0[:, None]].float(),
                self.pictures[which, y[:, :, None], x1[:, None]].float(),
                right,
            )
            for y in (y0, y1)
        )
        views = torch.lerp(upper, lower, low).round().byte()
        views = torch.where(there[..., None], views, views.new_tensor(PADDING))
        views = views.permute(0, 3, 1, 2)
        if self.soft is None:
            return [views, labels]
        return [views, labels, *self._of_soft(self.soft, index, boxes)]

    def _of_soft(self, soft: Tensor, index: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        side = self.pictures.shape[1]
        cells = self.crop[0] // SOFT_STRIDE, self.crop[1] // SOFT_STRIDE
        rows, columns = seen_places(boxes, cells)
        shares = self._sides[index].float() / side
        seen = sampled(soft[index], rows * shares[:, :1], columns * shares[:, 1:])
        return seen, inside(rows, columns)


def _clamped(places: Tensor, side: Tensor) -> Tensor:
    return torch.minimum(places.clamp(min=0), side.long() - 1)


def _neighbours(places: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the pixels before and after each place, and how near the second one is, in [0,1]."""
    places = torch.minimum((places - 0.5).clamp(min=0), side - 1)
    first = places.long()
    return first, _clamped(first + 1, side), places - first
