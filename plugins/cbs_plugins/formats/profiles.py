"""Colours of pictures: ICC profiles to sRGB, which the nets know, and back again."""

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from cbs_core.contract.types import Still

if TYPE_CHECKING:
    from torch import Tensor

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
"""Colours that sRGB has too stay as they are, in both directions."""


_ALIKE = 2
"""Levels by which colours of two profiles that are one may differ: each is rounded its own way."""


@lru_cache(maxsize=16)
def _is_srgb(data: bytes) -> bool:
    """Tells whether colours of a profile are sRGB's: by what they become, for names are wrong."""
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    try:
        shown = ImageCms.profileToProfile(
            Image.fromarray(colours),
            ImageCms.ImageCmsProfile(io.BytesIO(data)),
            ImageCms.createProfile("sRGB"),
            _INTENT,
            outputMode="RGB",
        )
    except (OSError, ImageCms.PyCMSError):
        return False
    return int(np.abs(np.asarray(shown).astype(int) - colours).max()) <= _ALIKE


def _read(data: bytes) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(data))
    except (OSError, ImageCms.PyCMSError):
        return None


def to_srgb(image: Image.Image, data: bytes) -> tuple[Image.Image, Image.Image | None, bytes]:
    """Converts a picture without transparency.

    Args:
        image: of any mode that ICC profiles describe.
        data: its profile; empty for none.

    Returns:
        The picture in sRGB; the RGB picture that it was, where it is to be converted back; and the
        profile of that, or of a picture that is sRGB already. A profile that is damaged, or does
        not fit the picture, counts for none.
    """
    profile = _read(data) if data else None
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    if profile is None:
        return image.convert("RGB"), None, b""
    if image.mode == "RGB" and _is_srgb(data):
        return image, None, data
    try:
        shown = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), _INTENT, outputMode="RGB"
        )
    except ImageCms.PyCMSError:
        return image.convert("RGB"), None, b""
    assert shown is not None
    return (shown, image, data) if image.mode == "RGB" else (shown, None, b"")


def told(data: bytes) -> str:
    """Returns the name of a profile whose colours are others than sRGB's; empty for none."""
    profile = _read(data) if data else None
    if profile is None or _is_srgb(data):
        return ""
    return ImageCms.getProfileDescription(profile).strip() or "unnamed"


def from_srgb(pixels: "Tensor", still: Still) -> "Tensor":
    """Returns uint8 ``(H,W,3)`` in the colours of a picture's own profile.

    Pixels that are still as the source gave them become what they were in its file, bit by bit.
    """
    import torch

    profile = _read(still.profile)
    if still.own is None or still.shown is None or profile is None:
        return pixels
    image = Image.fromarray(pixels.numpy())
    back = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), profile, _INTENT, outputMode="RGB"
    )
    converted = torch.from_numpy(np.array(back))
    if still.shown.shape != pixels.shape:
        return converted
    same = (still.shown == pixels).all(dim=-1, keepdim=True)
    return torch.where(same, still.own, converted)
