"""What a picture's file tells beside its pixels: XMP, comments, and what no file is written with.

EXIF has a file of its own, `cbs_core.machine.exif`; ICC profiles have `profiles`.
"""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cbs_core.contract.types import Still

COMMENT = "Comment"
"""The one text that a JPEG has, by the name that PNG gives it (11.3.4.2)."""

_MOST_IN_JPEG = {"EXIF": 65_527, "XMP": 65_504}
"""Bytes, for a segment of JPEG holds no more; Pillow raises above it."""

_GAIN_MAP = re.compile(rb"Container:Directory|hdrgm:Version|HDRGainMap")
_OTHERS = re.compile(_GAIN_MAP.pattern + rb"|GCamera:|xmp:Thumbnails")
"""Of XMP that speaks of further pictures in its file, or shows the one that this one was."""

_HEAD = 65_536
"""Bytes in which a picture states its colours."""

_TURNED = re.compile(rb"""(tiff:Orientation(?:=["']|>))[2-8](?=["'<])""")

_SRGB_GAMMA, _SRGB_CHROMA = 45_455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_NEAR = 0.02
"""Part by which a gamma or a primary may differ from sRGB's and count for that."""


def xmp(image: Image.Image) -> bytes:
    """Returns a picture's XMP as it stays true: of an upright picture, alone in its file."""
    data = image.info.get("xmp") or b""
    data = data.encode() if isinstance(data, str) else bytes(data)
    return b"" if _OTHERS.search(data) else _TURNED.sub(rb"\g<1>1", data)


def texts(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """Returns the comment of a JPEG or GIF, the texts of a PNG that was decoded.

    Those that tell of the file itself are left out: what wrote it, and other formats' tables.
    """
    found = getattr(image, "text", None)
    if not isinstance(found, dict):
        comment = image.info.get("comment")
        if isinstance(comment, bytes):
            comment = comment.decode(errors="replace")
        found = {COMMENT: comment} if isinstance(comment, str) and comment.strip("\0 ") else {}
    stale = ("Software", "XML:com.adobe.xmp")
    return tuple(
        (str(key), str(value))
        for key, value in found.items()
        if key not in stale and not key.startswith("Raw profile type")
    )


def untold(image: Image.Image, file: BinaryIO) -> Iterator[str]:
    """Yields, in words, what no output holds of a picture that was opened.

    Args:
        image: opened, not decoded.
        file: the same, for its first bytes.
    """
    described = image.info.get("xmp") or b""
    others = any(image.info.get(key) for key in ("aux", "depth_images"))  # of HEIF
    if image.format == "MPO" or others or _GAIN_MAP.search(described):
        yield "what else is in it (a gain map, depth, or a stereo pair's picture) is left out"
    elif _OTHERS.search(described):
        yield "its XMP, which speaks of other pictures, is left out"
    if 0x0404 in (image.info.get("photoshop") or {}):
        yield "its IPTC is left out"
    said = ""
    if image.format == "PNG":
        said = _png_colours(file)
    elif image.format in ("AVIF", "HEIF") and not image.info.get("icc_profile"):
        said = _nclx(file)
    if said:
        yield f"its {said} not applied: it is taken for sRGB"


def _png_colours(file: BinaryIO) -> str:
    """Returns what of a PNG's chunks says that its colours are not sRGB; empty for nothing."""
    found: dict[bytes, bytes] = {}
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            break
        if size <= 32:
            found[kind] = file.read(size)
            file.seek(4, 1)
        else:
            found[kind] = b""
            file.seek(size + 4, 1)
    code = found.get(b"cICP", b"")  # which the standard puts before all others (11.3.2.6)
    if code and code[:2] != b"\x01\x0d":
        return "colours by cICP are"
    if code or b"iCCP" in found or b"sRGB" in found:
        return ""
    said = []
    if len(gamma := found.get(b"gAMA", b"")) == 4 and not _near(gamma, (_SRGB_GAMMA,)):
        said.append("gamma (gAMA)")
    if len(chroma := found.get(b"cHRM", b"")) == 32 and not _near(chroma, _SRGB_CHROMA):
        said.append("set of primaries (cHRM)")
    return " and ".join(said) + (" is" if len(said) == 1 else " are") if said else ""


def _nclx(file: BinaryIO) -> str:
    """Likewise of the numbers that AVIF and HEIF state (ISO/IEC 14496-12, 12.1.5; ITU-T H.273)."""
    file.seek(0)
    _, found, behind = file.read(_HEAD).partition(b"colrnclx")
    if not found or len(behind) < 4:
        return ""
    primaries, curve = struct.unpack(">2H", behind[:4])
    if curve in (16, 18):
        return f"HDR by {'PQ' if curve == 16 else 'HLG'} is"
    return "set of primaries is" if primaries in (9, 11, 12) else ""


def _near(data: bytes, due: tuple[int, ...]) -> bool:
    values = struct.unpack(f">{len(due)}I", data)
    return all(abs(one - other) <= _NEAR * other for one, other in zip(values, due, strict=True))


def options(kind: str, still: Still) -> dict[str, object]:
    """Returns what Pillow is given to write it into a file of a kind, by its name of that."""
    held: dict[str, object] = {}
    if still.xmp and not _unheld(kind, "XMP", still.xmp):
        if kind == "TIFF":
            held["tiffinfo"] = {700: still.xmp}
        elif kind != "PNG":
            held["xmp"] = still.xmp
    if kind == "PNG" and (still.xmp or still.texts):
        info = PngInfo()
        if still.xmp:
            info.add_itxt("XML:com.adobe.xmp", still.xmp.decode(errors="replace"))
        for key, text in still.texts:
            info.add_itxt(key, text)
        held["pnginfo"] = info
    if kind == "JPEG" and (comment := dict(still.texts).get(COMMENT)):
        held["comment"] = comment.encode()
    if still.exif and not _unheld(kind, "EXIF", still.exif):
        held["exif"] = still.exif
    return held


def not_held(kind: str, still: Still) -> list[str]:
    """Returns the names of what `options` leaves out."""
    lost = [
        name
        for name, data in (("EXIF", still.exif), ("XMP", still.xmp))
        if data and _unheld(kind, name, data)
    ]
    names = [key for key, _ in still.texts if not (kind == "JPEG" and key == COMMENT)]
    if names and kind != "PNG":
        lost.append("texts (" + ", ".join(names[:6]) + (" ...)" if len(names) > 6 else ")"))
    return lost


def _unheld(kind: str, name: str, data: bytes) -> bool:
    if kind == "JPEG":
        return len(data) > _MOST_IN_JPEG[name]
    return kind not in ("PNG", "WEBP", "TIFF")
