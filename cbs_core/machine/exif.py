"""What cameras write beside a picture, read with more patience than Pillow has."""

import struct

from PIL import Image

_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
"""EXIF tags that tell of the picture: title, maker, model, software, time, artist, copyright."""


_PLACE, _SIZE = 0x0201, 0x0202
"""EXIF tags of a thumbnail: where its JPEG begins, and its bytes."""


def orientation(image: Image.Image) -> int:
    """Returns tag 0x0112 of Exif 2.32, 1 to 8; 1, upright, where it cannot be read."""
    # A PNG without EXIF in its header would be decoded in search of one behind the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
        if isinstance(value, bytes):  # of a type that the standard does not allow
            value = next((byte for byte in value if byte), 1)
        if isinstance(value, tuple):
            value = value[0]
        return int(value) if 1 <= int(value) <= 8 else 1
    except Exception:  # damaged EXIF raises nearly anything
        return 1


def kept(image: Image.Image, orientation: int) -> bytes:
    """Returns a picture's EXIF as it is written again: without an orientation and a thumbnail."""
    raw = image.info.get("exif") or b""
    if orientation == 1 and raw and image.format != "TIFF":
        return _without_thumbnail(bytes(raw))
    try:
        exif = image.getexif()
        if image.format == "TIFF":  # whose table also says how its pixels lie
            words = Image.Exif()
            for tag in (tag for tag in _DESCRIPTIVE if tag in exif):
                words[tag] = exif[tag]
            return words.tobytes() if len(words) else b""
        if not raw:
            return b""
        exif.pop(0x0112, None)
        return exif.tobytes()
    except Exception:
        return b""


def _without_thumbnail(data: bytes) -> bytes:
    """Takes the thumbnail out, which shows the picture as it was; damaged EXIF stays as it is.

    Nothing is moved, for makers' notes hold places in it: the table of the thumbnail (IFD1) is
    named no more, and its bytes are made zeros.
    """
    kept = bytearray(data)
    begin = 6 if data.startswith(b"Exif\0\0") else 0
    order = "<" if data[begin : begin + 2] == b"II" else ">"
    try:
        (table,) = struct.unpack_from(f"{order}I", data, begin + 4)
        _, following = _ifd(data, order, begin + table)
        (second,) = struct.unpack_from(f"{order}I", data, following)
        if not second:
            return data
        fields, _ = _ifd(data, order, begin + second)
        struct.pack_into(f"{order}I", kept, following, 0)
    except struct.error:
        return data
    place, size = begin + fields.get(_PLACE, 0), fields.get(_SIZE, 0)
    if _PLACE in fields and place + size <= len(kept):
        kept[place : place + size] = bytes(size)
    return bytes(kept)


def _ifd(data: bytes, order: str, begin: int) -> tuple[dict[int, int], int]:
    """Returns the fields of a table, each with its four bytes as a number, and where it ends."""
    (count,) = struct.unpack_from(f"{order}H", data, begin)
    fields = (struct.unpack_from(f"{order}HHII", data, begin + 2 + 12 * n) for n in range(count))
    return {tag: value for tag, _, _, value in fields}, begin + 2 + 12 * count


def density(image: Image.Image) -> tuple[float, float] | None:
    """Returns pixels an inch, across and down, where the file states them."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 1 and down > 1 else None
