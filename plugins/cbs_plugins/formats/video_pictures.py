"""What a video's encoder is given, and what was more than 8 bits in its source."""

from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from cbs_core.contract.types import RawFrame, Still

if TYPE_CHECKING:
    from torch import Tensor

DEPTH = 8
"""Bits a channel that are restyled."""


def deep(frame: VideoFrame) -> bool:
    """Tells whether a frame has more than 8 bits a channel."""
    return any(part.bits > DEPTH for part in frame.format.components)


def full_depth(pixels: "Tensor", still: Still) -> NDArray[np.uint16]:
    """Returns uint16 ``(H,W,3)`` of a frame: of pixels that nobody changed the source's own bits.

    Args:
        pixels: uint8 ``(H,W,3)`` on the host.
        still: of a deep source, of the same size.
    """
    assert still.own is not None
    assert still.shown is not None
    values = pixels.numpy()
    same = (values == still.shown.numpy()).all(axis=-1, keepdims=True)
    return np.where(same, still.own.numpy(), values.astype(np.uint16) * 257)


def encoded(frame: RawFrame, *, alpha: bool, deep: bool) -> VideoFrame:
    """Returns a frame for an encoder.

    Args:
        frame: restyled.
        alpha: whether transparency is kept.
        deep: whether more than 8 bits a channel are.
    """
    pixels, still = frame.pixels.cpu(), frame.still
    if deep and still is not None and still.deep and _alike(still.shown, pixels):
        wide = full_depth(pixels, still)
        if not alpha:
            return VideoFrame.from_ndarray(wide, format="rgb48le")
        opaque = np.full(pixels.shape[:2], 65535, np.uint16)
        given = frame.alpha
        mask = opaque if given is None else given.cpu().numpy().astype(np.uint16) * 257
        return VideoFrame.from_ndarray(np.dstack([wide, mask]), format="rgba64le")
    if not alpha:
        return VideoFrame.from_ndarray(pixels.numpy(), format="rgb24")
    whole = np.full(pixels.shape[:2], 255, np.uint8)
    over = whole if frame.alpha is None else frame.alpha.cpu().numpy()
    return VideoFrame.from_ndarray(np.dstack([pixels.numpy(), over]), format="rgba")


def _alike(a: "Tensor | None", b: "Tensor") -> bool:
    return a is not None and a.shape == b.shape
