"""Textures of scenes: read with a bound, written as PNG."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import marked as png_mark
from cbs_core.scene.types import Bytes, Floats, Paint

MOST_PIXELS = 8192 * 8192
"""Of a texture: what a small file can claim would fill the memory."""

MOST_TOGETHER = 8 * MOST_PIXELS
"""Of a scene's textures, of which one small picture may be many."""

MOST_TEXTURE = 2**28
"""Bytes of a texture's file."""

MOST_BYTES = 2 * 2**30
"""Of a scene's file."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TGA", "TIFF", "GIF")
"""What is tried: others of Pillow's start programs."""

PNG, KTX = b"\x89PNG", b"\xabKTX"


def decode(data: bytes, name: str, left_out: list[str], others: Sequence[Paint]) -> Bytes:
    """Returns ``(H,W,3)`` or ``(H,W,4)`` of a picture file's content.

    Args:
        data: the content.
        name: what an error calls it.
        left_out: gets a line where the file has more than eight bits a channel.
        others: the scene's textures before it.

    Raises:
        SourceError: it is no picture, or has too many pixels, by itself or with the others.
    """
    if len(data) > MOST_TEXTURE:
        raise SourceError(
            f"the texture {name} has {len(data) / 2**20:.0f} MiB, more than is read: make it "
            "smaller"
        )
    if data[: len(KTX)] == KTX:
        raise SourceError(f"the texture {name} is a KTX2, which is not read: save it as PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise SourceError(
                    f"the texture {name} claims {width}x{height} pixels, more than is read: make "
                    "it smaller"
                )
            held = sum(one.pixels.shape[0] * one.pixels.shape[1] for one in others)
            if held + width * height > MOST_TOGETHER:
                raise SourceError(
                    f"with the texture {name} the scene claims {held + width * height} pixels of "
                    "textures, more than are read: make them smaller"
                )
            return _bytes(picture, data, name, left_out)
    except SourceError:
        raise
    except UnidentifiedImageError as error:
        raise SourceError(
            f"the texture {name} is no {', '.join(FORMATS)}: save it as PNG"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(
            f"the texture {name} cannot be read ({' '.join(str(error).split())}): save it as PNG"
        ) from error


def _bytes(picture: Image.Image, data: bytes, name: str, left_out: list[str]) -> Bytes:
    """Returns the pixels in eight bits a channel."""
    deep = picture.mode.startswith("I") or (data[:4] == PNG and data[24] == 16)
    if deep:
        left_out.append(f"the texture {name} has 16 bits a channel, of which 8 are kept")
    if picture.mode.startswith("I"):  # which Pillow would clip, and not scale
        grey = np.clip(np.array(picture) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    return np.array(picture.convert("RGBA" if has_alpha else "RGB"))


def encode(pixels: Bytes, *, marked: bool = False, webp: bool = False) -> bytes:
    """Returns a PNG, which may say that this program wrote it, or a lossless WebP."""
    out = io.BytesIO()
    if webp:
        Image.fromarray(pixels).save(out, format="webp", lossless=True, exact=True)
    else:
        Image.fromarray(pixels).save(out, format="png", pnginfo=png_mark() if marked else None)
    return out.getvalue()


def told_finite(colours: Floats, left_out: list[str]) -> Floats:
    """Returns colours ``(V,3)`` with white for those that are no numbers, which a line tells."""
    whole = np.asarray(np.isfinite(colours).all(axis=1))
    if whole.all():
        return colours
    left_out.append(f"{(~whole).sum()} vertices have colours that are no numbers, and are white")
    return np.where(whole[:, None], colours, 1.0)


def is_webp(data: bytes) -> bool:
    """Tells whether a file's content is a WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


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
    path = inside(folder, name, owner)
    if not is_there(path):
        raise SourceError(f"'{owner}' needs the file '{name:.80}', which is not there")
    return path


def inside(folder: Path, name: str, owner: Path) -> Path:
    """Returns the path of a file that a scene's file names, whether it is there or not.

    Raises:
        SourceError: it lies neither in the same folder nor below.
    """
    path = folder / name
    plain = "://" not in name and not name.startswith("file:") and not Path(name).is_absolute()
    if not plain or not path.resolve().is_relative_to(folder.resolve()):
        raise SourceError(
            f"'{owner}' names the file '{name:.80}', which is not in its folder: nothing is read "
            "from elsewhere; put it beside, or save the scene as one GLB"
        )
    return path


def is_there(path: Path) -> bool:
    """Tells whether a file is there; a name too long for the system is none."""
    try:
        return path.is_file()
    except OSError:
        return False
