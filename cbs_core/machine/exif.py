"""What cameras write beside a picture, read with more patience than Pillow has."""

from PIL import Image

_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
"""EXIF tags that tell of the picture: title, maker, model, software, time, artist, copyright."""


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
    """Returns a picture's EXIF as it is written again: without an orientation."""
    raw = image.info.get("exif") or b""
    if orientation == 1 and raw and image.format != "TIFF":
        return bytes(raw)
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


def density(image: Image.Image) -> tuple[float, float] | None:
    """Returns pixels an inch, across and down, where the file states them."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 1 and down > 1 else None
