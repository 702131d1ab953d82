"""One picture file."""

from pathlib import Path

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.unfinished import Unfinished, left_over, remove, told
from cbs_plugins.formats.encoding import check_still
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.pictures import (
    checked_suffix,
    not_kept,
    refuse_transparency,
    write_picture,
)


class ImageSink:
    """Writes the one frame of a picture; the suffix chooses the format.

    EXIF, density and ICC profile of the source are kept where the format holds them; ``notes``
    tells what it does not.

    Args:
        path: file to write; ``.png`` is lossless.
        quality: of JPEG and WebP, 1 to 100.
        compress_level: of PNG, 0 (fast) to 9 (small).

    Raises:
        SinkError: where the suffix is unknown, the file cannot be written, or a second frame comes.
    """

    def __init__(self, path: str, quality: int = 95, compress_level: int = 4) -> None:
        self.path = Path(path).expanduser()
        check_still(quality, compress_level)
        self.quality = quality
        self.compress_level = compress_level
        self._suffix = checked_suffix(self.path.suffix, f"'{path}'")
        self._file: Unfinished | None = None
        self._left: list[Path] = []
        self._written = False
        self.notes: tuple[str, ...] = ()

    def open(self, info: StreamInfo, /) -> None:
        """Creates the temporary file, so that an unwritable place is known before the work."""
        if self.path.is_dir():
            raise SinkError(f"'{self.path}' is a folder: name a file in it, or use sink=folder")
        if info.frames is not None and info.frames > 1:
            raise self._too_many()
        if info.transparent:
            refuse_transparency(self._suffix)
        self._grey = info.matte
        self._left = left_over(self.path)
        self.notes += told(self._left, self.path)
        self._file = Unfinished(self.path)

    def write(self, frame: RawFrame, /) -> None:
        """Writes the picture."""
        assert self._file is not None
        if self._written:
            raise self._too_many()
        try:
            write_picture(
                self._file.path,
                self._suffix,
                frame,
                quality=self.quality,
                compress_level=self.compress_level,
                grey=self._grey,
            )
        except SinkError as error:
            raise SinkError(
                f"cannot write '{self.path}': {reason(error.__cause__ or error)}; free some space "
                "or choose another place with output="
            ) from error
        self._written = True
        lost = not_kept(self._suffix, frame)
        self.notes += (lost,) if lost else ()

    def close(self, *, complete: bool = True) -> None:
        """Gives the picture its name; without one, nothing is left."""
        if self._file is not None and self._written:
            self.notes += self._file.finish()
            self._file = None
            remove(self._left)
        self.abort()

    def _too_many(self) -> SinkError:
        return SinkError(
            f"'{self.path}' holds one picture, but the input has more frames: give a folder or a "
            "video file as output="
        )

    def abort(self) -> None:
        """Removes the temporary file."""
        if self._file is not None:
            self._file.discard()
            self._file = None
