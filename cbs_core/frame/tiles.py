"""Where a frame does not fit into the memory with a net: overlapping tiles, never another device.

A tile sees only itself, so the result is not quite the whole frame's: instance normalisation
measures each tile apart, and their tones may differ. The blend over the overlap hides the seams,
not that.

Letters: ``B`` batch, ``C`` channels, ``H W`` the frame, ``h w`` a net's output.
"""

import logging
import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from cbs_core.contract.tensors import to_size

log = logging.getLogger("cbs")

SMALLEST = 256
"""Pixels a side. With smaller tiles a net sees too little to make a picture of."""

OVERLAP = 64
"""Pixels that neighbours share and are blended over."""


class Tiles:
    """Runs nets on whole frames while these fit, then on tiles, of half the side until they fit.

    A size that did not fit is not tried again: each failed attempt costs time.
    """

    def __init__(self) -> None:
        self._sides: dict[str, int] = {}
        self._told: dict[str, int] = {}

    def __call__(self, net: Callable[..., Tensor], what: str, *inputs: Tensor) -> Tensor:
        """Returns what a net makes of a frame.

        Args:
            net: takes the inputs, or the same part of each; returns ``(B,C,h,w)``.
            what: names the net in the warning.
            inputs: all ``(B,*,H,W)``.

        Returns:
            The net's own output; from tiles ``(B,C,H,W)``.

        Raises:
            torch.OutOfMemoryError: the smallest tiles do not fit either.
        """
        height, width = inputs[0].shape[2:]
        side = min(self._sides.get(what, max(height, width)), max(height, width))
        while True:
            try:
                out = net(*inputs) if side >= max(height, width) else _tiled(net, inputs, side)
                break
            except torch.OutOfMemoryError:
                if side <= SMALLEST:
                    raise
            # Here and not above: the error holds on to what the attempt had allocated.
            if inputs[0].is_cuda:
                torch.cuda.empty_cache()
            side = self._sides[what] = max(SMALLEST, side // 2)
        if side < self._told.get(what, max(height, width)):
            self._told[what] = side
            log.warning(
                "a frame of %dx%d does not fit into the device's memory with the %s: it goes in "
                "tiles of %d pixels from now on, whose tones may differ; make it smaller, or use "
                "precision=fp16",
                *(width, height, what, side),
            )
        return out


def _tiled(net: Callable[..., Tensor], inputs: tuple[Tensor, ...], side: int) -> Tensor:
    image = inputs[0]
    height, width = image.shape[2:]
    high, wide = min(side, height), min(side, width)
    total = image.new_zeros(1, 1, height, width)
    out: Tensor | None = None
    for y, x in product(_starts(height, high), _starts(width, wide)):
        place = (..., slice(y, y + high), slice(x, x + wide))
        part = net(*(one[place] for one in inputs))
        if part.shape[2:] != (high, wide):
            part = to_size(part, (high, wide))
        if out is None:
            out = part.new_zeros(*part.shape[:2], height, width)
        weight = _ramp(y, high, height, image)[:, None] * _ramp(x, wide, width, image)
        out[place] += weight * part
        total[place] += weight
    assert out is not None
    return out / total


def _starts(length: int, side: int) -> list[int]:
    """Returns where tiles begin that cover a length, evenly, with `OVERLAP` at least."""
    if side >= length:
        return [0]
    count = math.ceil((length - OVERLAP) / (side - OVERLAP))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def _ramp(start: int, side: int, length: int, like: Tensor) -> Tensor:
    """Returns weights ``(side,)`` that fall towards the ends, except at the frame's own edges."""
    along = torch.arange(1, side + 1, device=like.device, dtype=like.dtype) / OVERLAP
    weight = torch.ones_like(along)
    if start > 0:
        weight = torch.minimum(weight, along)
    if start + side < length:
        weight = torch.minimum(weight, along.flip(0))
    return weight
