"""Still pictures: any that Pillow reads becomes 8-bit RGB, and RGB becomes a file again.

Letters: ``H W`` the picture upright, that is after its EXIF orientation.

Nothing here imports torch by itself: sources and sinks are built, and headers read, before that.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from cbs_core.contract.errors import CbsError, PluginLoadError, SinkError, SourceError
from cbs_core.contract.types import RawFrame, Still
from cbs_core.machine import exif
from cbs_core.machine.inputs import decoded, frame_count, picture_formats, to_8_bit
from cbs_plugins.formats import picture_tags
from cbs_plugins.formats.files import input_file, reason
from cbs_plugins.formats.profiles import from_srgb, to_srgb

if TYPE_CHECKING:
    from torch import Tensor

HEIF = frozenset({".heic", ".heif"})
"""Suffixes of the pictures that need the extra ``heif``."""

READABLE = (
    frozenset({".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"})
    | frozenset({".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"})
    | HEIF
)
"""Suffixes, in lower case, by which a folder's pictures are told from its other files."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
"""Above it a picture is taken for a bomb, as Pillow does: its file may be tiny."""

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
HOLDS_PROFILE = frozenset({"PNG", "JPEG", "WEBP", "TIFF"})

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


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's file says before it is decoded."""

    width: int
    """Pixels, upright."""

    height: int
    """Pixels, upright."""

    frames: int = 1
    """Of an animation, or pages."""

    lost: str = ""
    """What no output keeps of it, in words."""


def read_header(path: str | Path) -> Header:
    """Returns what a file's header says: nothing is decoded.

    Raises:
        SourceError: where the file is no picture.
    """
    with _opened(path) as image:
        width, height = image.size
        if exif.orientation(image) >= 5:
            width, height = height, width
        frames = frame_count(image)
        lost = []
        if image.mode in ("CMYK", "LAB"):
            lost.append(f"its {image.mode} colours are converted to sRGB")
        with Path(path).expanduser().open("rb") as file:
            if _deep(image, file):
                lost.append("8 of its bits a channel are kept")
            lost += picture_tags.untold(image, file)
        return Header(width, height, frames, "; ".join(lost))


def _deep(image: Image.Image, file: BinaryIO) -> bool:
    """Tells whether a picture that was opened has more than 8 bits a channel in its file."""
    layouts = (str(tile[3]) for tile in getattr(image, "tile", ()))
    of_heif = image.info.get("bit_depth", 8)
    if image.mode[0] in "IF" or of_heif > 8 or any(";16" in layout for layout in layouts):
        return True
    return image.format in _DEPTHS and _DEPTHS[image.format](file.read(_HEAD))


def picture_size(path: str | Path) -> tuple[int, int]:
    """Returns width and height, upright, from the header alone.

    Raises:
        SourceError: where the file is no picture.
    """
    header = read_header(path)
    return header.width, header.height


def read_picture(path: str | Path) -> "tuple[Tensor, Tensor | None]":
    """Returns uint8 pixels ``(H,W,3)`` in sRGB and, with transparency, alpha ``(H,W)``.

    Wider samples are scaled to 8 bit. Of an animation the first frame is read.

    Raises:
        SourceError: where the file is no picture, a damaged one, or of more than `MOST_PIXELS`.
    """
    frame = next(read_frames(path))
    return frame.pixels, frame.alpha


def read_frames(path: str | Path, *, rate: Fraction = Fraction(25)) -> Iterator[RawFrame]:
    """Yields the frames or pages of a file, with what it holds beside its pixels.

    Args:
        path: the file.
        rate: frames a second where the file states no times.

    Raises:
        SourceError: as `read_picture`.
    """
    pts = Fraction(0)
    with _opened(path) as image:
        for index in range(frame_count(image)):
            if index:
                image.seek(index)
            _refuse_bomb(path, image)
            pixels, alpha, still = _read(path, image)
            # Of a WebP it is known only now.
            lasts = Fraction(round(image.info.get("duration") or 0), 1000) or 1 / rate
            yield RawFrame(pixels, index, pts, alpha, duration=lasts, still=still)
            pts += lasts


def _read(path: str | Path, image: Image.Image) -> "tuple[Tensor, Tensor | None, Still]":
    from torch import from_numpy

    loaded = decoded(path, image)
    turned = exif.orientation(image)
    beside = Still(
        exif.kept(image, turned),
        exif.density(image),
        xmp=picture_tags.xmp(image),
        texts=picture_tags.texts(image),
    )
    upright = _UPRIGHT.get(turned)
    if upright is not None:
        loaded = loaded.transpose(upright)
    if loaded.mode == "F" or loaded.mode.startswith("I"):
        gray = to_8_bit(np.asarray(loaded))
        return from_numpy(np.stack([gray] * 3, axis=-1)), None, beside
    alpha = None
    if loaded.has_transparency_data:
        loaded = loaded.convert("RGBA")
        alpha = from_numpy(np.array(loaded.getchannel("A")))
        loaded = loaded.convert("RGB")
    shown, own, profile = to_srgb(loaded, image.info.get("icc_profile") or b"")
    pixels = from_numpy(np.array(shown))
    if own is None:
        return pixels, alpha, replace(beside, profile=profile)
    wide = from_numpy(np.array(own))
    return pixels, alpha, replace(beside, profile=profile, own=wide, shown=pixels)


def write_picture(
    path: Path | BinaryIO,
    suffix: str,
    frame: RawFrame,
    *,
    quality: int = 95,
    compress_level: int = 4,
    grey: bool = False,
) -> None:
    """Writes a frame, and its alpha where the format holds it.

    Args:
        path: file to write, of any name; or one that is open.
        suffix: one of `WRITABLE`; it chooses the format.
        frame: pixels and alpha; on any device.
        quality: of JPEG and WebP, 1 to 100.
        compress_level: of PNG, 0 (fast) to 9 (small).
        grey: whether it is a matte, of one channel.

    Raises:
        SinkError: where it cannot be written.
    """
    kind = WRITABLE[suffix]
    still = frame.still or Still()
    options: dict[str, object] = {
        "PNG": {"compress_level": compress_level},
        # Subsampled chroma would smear the colours along a matte's edge.
        "JPEG": {"quality": quality, "subsampling": 0},
        # Without `exact`, the colours under full transparency are lost.
        "WEBP": {"quality": quality, "exact": True},
    }.get(kind, {})  # type: ignore[assignment]
    pixels = frame.pixels.cpu()
    if kind in HOLDS_PROFILE and still.profile:
        pixels = from_srgb(pixels, still)
        options["icc_profile"] = still.profile
    options |= picture_tags.options(kind, still)
    if kind != "WEBP" and still.density:
        options["dpi"] = still.density
    values = pixels.numpy()
    if grey:
        values = np.ascontiguousarray(values[..., 0])
    elif frame.alpha is not None and kind in HOLDS_ALPHA:
        values = np.dstack([values, frame.alpha.cpu().numpy()])
    elif frame.alpha is not None:
        logging.getLogger("cbs").warning(
            "%s holds no transparency, which is dropped: choose .png to keep it", kind
        )
    try:
        Image.fromarray(values).save(path, format=kind, **options)
    except (OSError, ValueError) as error:
        raise SinkError(f"cannot write a {kind} picture: {reason(error)}") from error


def refuse_transparency(suffix: str) -> None:
    """Refuses a format for pictures that are transparent on purpose.

    Raises:
        SinkError: it holds no transparency.
    """
    if WRITABLE[suffix] not in HOLDS_ALPHA:
        raise SinkError(f"{suffix} holds no transparency: choose .png, .webp or .tiff")


def not_kept(suffix: str, frame: RawFrame) -> str:
    """Returns, in words, what a format does not hold of a frame; empty for nothing."""
    kind, still = WRITABLE[suffix], frame.still
    if still is None:
        return ""
    if still.deep:
        return f"{suffix} is written with 8 bits a channel, of which the source has more"
    lost = picture_tags.not_held(kind, still)
    if still.own is not None and kind not in HOLDS_PROFILE:
        lost.append("the ICC profile, so that colours are sRGB")
    if still.density and kind == "WEBP":
        lost.append("density")
    return f"{suffix} does not hold {', '.join(lost)}: .png does" if lost else ""


def _deep_avif(head: bytes) -> bool:
    # AV1 Codec ISO Media File Format Binding, 2.3.3: high_bitdepth, in the third byte of the box.
    place = head.find(b"av1C")
    return 0 <= place < len(head) - 6 and bool(head[place + 6] & 0x40)


def _deep_jp2(head: bytes) -> bool:
    # ISO/IEC 15444-1, A.5.1: Ssiz of the first component is the depth less one, and its sign.
    place = head.find(b"\xff\x4f\xff\x51")
    return 0 <= place < len(head) - 42 and (head[place + 42] & 0x7F) > 7


_HEAD = 65_536
"""Bytes in which a picture says how it is coded."""

_DEPTHS = {"AVIF": _deep_avif, "JPEG2000": _deep_jp2}
"""Format whose depth Pillow hides -> what tells from its first bytes whether it is above 8."""


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
        SourceError: where it is no number that a video's clock can tell.
    """
    try:
        value = Fraction(str(rate))
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not Fraction(1, 1000) <= value <= 1000:
        raise SourceError(f"rate={rate} is no number of frames a second in 0.001..1000: try 25")
    return value


def _refuse_bomb(path: str | Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise SourceError(too_large(path, width, height))


def too_large(path: str | Path, width: int, height: int) -> str:
    """Returns the message for a picture of more than `MOST_PIXELS`."""
    return (
        f"'{path}' has {width}x{height} pixels, more than the {MOST_PIXELS / 1e6:.0f} million that "
        "are read: make it smaller"
    )


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    path = input_file(path)
    try:
        # Pillow's warnings on odd EXIF are for its caller, and how large a picture may be is
        # decided here and by the core.
        with _any_size, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_formats(path)) as image:
                yield image
    except UnidentifiedImageError as error:
        raise SourceError(
            f"'{path}' is no picture that can be read: give a PNG, JPEG, WebP or TIFF file"
        ) from error
    except CbsError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise SourceError(
            f"'{path}' is a damaged picture or of an unusual kind ({reason(error)}): "
            "get the file again, or save it as PNG"
        ) from error


def _formats(path: Path) -> tuple[str, ...]:
    """Returns the formats to try; of HEIF's, which Pillow does not know, its own alone.

    Raises:
        PluginLoadError: it is HEIF, and what reads that is not installed.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return picture_formats()
    try:
        import pillow_heif
    except ImportError as error:
        raise PluginLoadError(
            f"'{path}' is a HEIC picture: pip install 'class-based-styling[heif]', or save it as "
            "JPEG or PNG"
        ) from error
    pillow_heif.register_heif_opener()
    return ("HEIF",)


class _AnySize:
    """Keeps Pillow's limit, which is the whole process's, away while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                Image.MAX_IMAGE_PIXELS = self._limit


_any_size = _AnySize()
