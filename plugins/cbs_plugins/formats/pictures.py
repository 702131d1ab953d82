"""Still pictures: any that Pillow reads becomes 8-bit RGB, and RGB becomes a file again.

Letters: ``H W`` the picture upright, that is after its EXIF orientation.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.contract.types import RawFrame
from cbs_plugins.formats.files import input_file, reason

READABLE = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga"}
    | {".tif", ".tiff", ".webp"}
)
"""Suffixes, in lower case, by which a folder's pictures are told from its other files."""

WRITABLE = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Suffix, in lower case, -> Pillow's name of the format."""

HOLDS_ALPHA = frozenset({"PNG", "WEBP", "TIFF"})

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what undoes it (Exif 2.32, tag 0x0112)."""


def picture_size(path: str | Path) -> tuple[int, int]:
    """Returns width and height, upright, from the header alone: nothing is decoded.

    Raises:
        SourceError: where the file is no picture.
    """
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def read_picture(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """Returns uint8 pixels ``(H,W,3)`` and, where the picture has transparency, alpha ``(H,W)``.

    Wider samples are scaled to 8 bit. Of an animation the first frame is read.

    Raises:
        SourceError: where the file is no picture, or a damaged one.
    """
    with _opened(path) as image:
        upright = _UPRIGHT.get(_orientation(image))
        if upright is not None:
            image = image.transpose(upright)
        if image.mode == "F" or image.mode.startswith("I"):
            gray = _to_8_bit(np.asarray(image))
            return torch.from_numpy(np.stack([gray] * 3, axis=-1)), None
        if image.has_transparency_data:
            rgba = torch.from_numpy(np.array(image.convert("RGBA")))
            return rgba[..., :3].contiguous(), rgba[..., 3].contiguous()
        return torch.from_numpy(np.array(image.convert("RGB"))), None


def write_picture(
    path: Path, suffix: str, frame: RawFrame, *, quality: int = 95, compress_level: int = 4
) -> None:
    """Writes a frame, and its alpha where the format holds it.

    Args:
        path: file to write, of any name.
        suffix: one of `WRITABLE`; it chooses the format.
        frame: pixels and alpha; on any device.
        quality: of JPEG and WebP, 1 to 100.
        compress_level: of PNG, 0 (fast) to 9 (small).

    Raises:
        SinkError: where it cannot be written.
    """
    kind = WRITABLE[suffix]
    pixels = frame.pixels.cpu()
    if frame.alpha is not None and kind in HOLDS_ALPHA:
        pixels = torch.cat([pixels, frame.alpha.cpu()[..., None]], dim=-1)
    elif frame.alpha is not None:
        logging.getLogger("cbs").warning(
            "%s holds no transparency, which is dropped: choose .png to keep it", kind
        )
    options: dict[str, dict[str, int | bool]] = {
        "PNG": {"compress_level": compress_level},
        # Subsampled chroma would smear the colours along a matte's edge.
        "JPEG": {"quality": quality, "subsampling": 0},
        # Without `exact`, the colours under full transparency are lost.
        "WEBP": {"quality": quality, "exact": True},
    }
    try:
        Image.fromarray(pixels.numpy()).save(path, format=kind, **options.get(kind, {}))
    except (OSError, ValueError) as error:
        raise SinkError(f"cannot write a {kind} picture: {reason(error)}") from error


def checked_suffix(suffix: str, what: str) -> str:
    """Returns the suffix in lower case.

    Raises:
        SinkError: where no format has it; ``what`` names the output in the message.
    """
    if suffix.lower() not in WRITABLE:
        raise SinkError(
            f"{what} has the suffix '{suffix}', by which no picture format is known: "
            f"choose one of {', '.join(WRITABLE)}"
        )
    return suffix.lower()


def frame_rate(rate: float | str) -> Fraction:
    """Returns a rate exactly as it is written: 25, 29.97 or ``30000/1001``.

    Raises:
        SourceError: where it is no positive number.
    """
    try:
        value = Fraction(str(rate))
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise SourceError(f"rate={rate} is no positive number of frames a second: try 25")
    return value


def _orientation(image: Image.Image) -> int:
    # A PNG without EXIF in its header would be decoded in search of one behind the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(0x0112, 1))


def _to_8_bit(gray: NDArray[np.generic]) -> NDArray[np.uint8]:
    wide = gray.astype(np.float64)
    if gray.dtype.kind == "f":
        white = 1.0 if wide.max() <= 1 else 255.0
    else:
        # Pillow's 32-bit mode also carries 16-bit samples.
        white = 65535.0 if wide.max() <= 65535 else 2.0**31 - 1
    scaled: NDArray[np.uint8] = np.clip(np.rint(wide * (255 / white)), 0, 255).astype(np.uint8)
    return scaled


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    path = input_file(path)
    try:
        with _any_size(), Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise SourceError(
            f"'{path}' is no picture that can be read: give a PNG, JPEG, WebP or TIFF file"
        ) from error
    except SourceError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise SourceError(
            f"'{path}' is a damaged picture or of an unusual kind ({reason(error)}): "
            "get the file again, or save it as PNG"
        ) from error


@contextmanager
def _any_size() -> Iterator[None]:
    # How large a frame may be is decided by the core, from `picture_size` and the memory there is.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
