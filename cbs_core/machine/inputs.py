"""Files as sources find them."""

import io
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.contract.errors import SourceError, closest
from cbs_core.machine.files import reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


def input_file(path: str | Path) -> Path:
    """Returns the path of a file that has content.

    Raises:
        SourceError: where it is missing (with the closest name beside it), a folder, or empty.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise SourceError(f"'{path}' is a folder: name a file in it, or use source=folder")
    if str(path) == "-":
        raise SourceError("'-' is standard input, and only files are read: save it to one first")
    if not path.exists():
        raise SourceError(missing(path))
    refuse_pipe(path)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"'{path}' is empty: get the file again")
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read: {reason(error)}") from error
    return path


def refuse_pipe(path: Path) -> None:
    """Refuses what is there and is no file: of a pipe without a writer, opening it has no end.

    Raises:
        SourceError: it is a pipe or a device.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode) or path.is_dir()
    except OSError:
        return  # whoever reads it tells
    if not regular:
        raise SourceError(
            f"'{path}' is a pipe or a device, and only files, which can be read again, are taken: "
            "save it to one first"
        )


_RASTER = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def picture_formats() -> tuple[str, ...]:
    """Returns Pillow's names of the pictures that are read: decoded within this process.

    Left to itself, it would also hand PostScript to Ghostscript, whatever the file's name is.
    """
    from PIL import Image

    Image.init()
    return tuple(kind for kind in _RASTER if kind in Image.OPEN)  # an older Pillow has no AVIF


def frame_count(image: "Image.Image") -> int:
    """Returns how many frames or pages a picture that was opened has."""
    # The second picture of a phone's MPO is no next frame.
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def decoded(path: str | Path, image: "Image.Image") -> "Image.Image":
    """Returns a picture that was opened, decoded; a JPEG that lacks its end marker alone is whole.

    Where its data are all there, what follows them changes nothing; where they end too early, it
    is decoded as if it belonged to them.

    Raises:
        OSError: it is cut short or damaged; other decoders raise nearly anything.
    """
    from PIL import Image

    try:
        image.load()
        return image
    except OSError as error:
        if image.format != "JPEG":
            raise
        data = Path(path).expanduser().read_bytes()
        ends = (b"\xff\xd9", b"\x55\xaa" * 256 + b"\xff\xd9")
        with suppress(OSError):  # cut within its header
            one, other = (Image.open(io.BytesIO(data + end), formats=["JPEG"]) for end in ends)
            if one.tobytes() == other.tobytes():
                return one
        raise error


def to_8_bit(gray: "NDArray[np.generic]") -> "NDArray[np.uint8]":
    """Returns wider grey samples scaled to 8 bit; Pillow would cut them off at 255."""
    import numpy as np

    wide = gray.astype(np.float64)
    if gray.dtype.kind == "f":
        white = 1.0 if wide.max() <= 1 else 255.0
    else:
        # Pillow's 32-bit mode also carries 16-bit samples.
        white = 65535.0 if wide.max() <= 65535 else 2.0**31 - 1
    scaled: NDArray[np.uint8] = np.clip(np.rint(wide * (255 / white)), 0, 255).astype(np.uint8)
    return scaled


def missing(path: Path) -> str:
    """Returns the message for a path that is not there, with the closest name beside it."""
    if path.is_symlink():
        return f"'{path}' is a link to '{path.readlink()}', which is not there: mend the link"
    if not path.parent.is_dir():
        return f"no file '{path}': there is no folder '{path.parent}'"
    try:
        hint = closest(path.name, (entry.name for entry in path.parent.iterdir()))
    except OSError:
        hint = ""
    return f"no file '{path}'{hint or ': check the path'}"
