"""Textures of scenes: read with a bound, written as PNG."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import marked as png_mark
from cbs_core.scene.types import Bytes

MOST_PIXELS = 8192 * 8192
"""Of a texture: what a small file can claim would fill the memory."""

MOST_BYTES = 2 * 2**30
"""Of a scene's file."""


def decode(data: bytes, name: str) -> Bytes:
    """Returns ``(H,W,3)`` or ``(H,W,4)`` of a picture file's content.

    Raises:
        SourceError: it is no picture, or one of too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise SourceError(
                    f"the texture {name} claims {width}x{height} pixels, more than is read: make "
                    "it smaller"
                )
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            return np.array(picture.convert("RGBA" if has_alpha else "RGB"))
    except SourceError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(
            f"the texture {name} cannot be read ({' '.join(str(error).split())}): save it as PNG"
        ) from error


def encode(pixels: Bytes, *, marked: bool = False) -> bytes:
    """Returns a PNG, which may say that this program wrote it."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="png", pnginfo=png_mark() if marked else None)
    return out.getvalue()


def read(path: Path) -> bytes:
    """Returns the content of a scene's file.

    Raises:
        SourceError: it cannot be read, is empty or too large.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise SourceError(f"'{path}' has {size / 2**30:.1f} GiB, more than is read")
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read ({error.strerror})") from error
    if not data:
        raise SourceError(f"'{path}' is empty: get the file again")
    return data


def beside(folder: Path, name: str, owner: Path) -> Path:
    """Returns a file that a scene's file names, which must lie in the same folder or below.

    Raises:
        SourceError: it lies elsewhere, or is not there.
    """
    path = folder / name
    inside = "://" not in name and not name.startswith("file:") and not Path(name).is_absolute()
    if not inside or not path.resolve().is_relative_to(folder.resolve()):
        raise SourceError(
            f"'{owner}' names the file '{name}', which is not in its folder: nothing is read from "
            "elsewhere; put it beside, or save the scene as one GLB"
        )
    if not path.is_file():
        raise SourceError(f"'{owner}' needs the file '{name}', which is not there")
    return path
