"""Random scale, crop and flip of a picture and its labels, all drawn from one generator.

Letters: ``H W`` the picture, ``h w`` the crop.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.labelled import IGNORE

PADDING = (124, 116, 104)
"""RGB where a crop is larger than the picture: ImageNet's mean. No label is there."""


def augmented(
    picture: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    crop: tuple[int, int],
    scales: Sequence[float],
    generator: torch.Generator,
    *,
    focus: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns a random view: uint8 ``(3,h,w)`` and its labels, uint8 ``(h,w)``.

    Args:
        picture: RGB ``(H,W,3)``.
        labels: ``(H,W)``.
        crop: h and w.
        scales: one of them multiplies the sides.
        generator: the only source of chance.
        focus: a label of which a pixel, if there is any, lies in the crop.
    """

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    scale = scales[below(len(scales))]
    flip = below(2) == 1
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))

    window = []
    rows, columns = np.nonzero(labels == focus) if focus is not None else ((), ())
    place = below(len(rows)) if len(rows) else None
    for side, length, ids in ((size[1], crop[0], rows), (size[0], crop[1], columns)):
        room = max(0, side - length)
        start = below(room + 1)
        if place is not None:
            start = min(max(0, int(ids[place]) - below(length)), room)
        window.append(slice(start, start + length))
    picture, labels = picture[tuple(window)], labels[tuple(window)]

    view = np.empty((*crop, 3), np.uint8)
    view[:] = PADDING
    of_view = np.full(crop, IGNORE, np.uint8)
    height, width = labels.shape
    view[:height, :width], of_view[:height, :width] = picture, labels
    if flip:
        view, of_view = view[:, ::-1], of_view[:, ::-1]
    pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
    return pixels, torch.from_numpy(np.ascontiguousarray(of_view))
