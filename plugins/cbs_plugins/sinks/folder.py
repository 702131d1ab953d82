"""A folder of pictures."""

import os
import re
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from cbs_core.contract.errors import SinkError, SinkLostError, SourceError
from cbs_core.contract.stored import Stored
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.files import settle
from cbs_core.machine.unfinished import UnfinishedFolder, elsewhere, left_over, remove, told
from cbs_plugins.formats.beside import Rhythm, not_beside
from cbs_plugins.formats.encoding import check_still
from cbs_plugins.formats.files import missing, reason, rename
from cbs_plugins.formats.pictures import (
    checked_suffix,
    not_kept,
    refuse_transparency,
    write_picture,
)
from cbs_plugins.formats.sound import STEM, write_sound

PART = ".part"
"""A picture that is being written."""


class FolderSink:
    """Writes each frame as a picture, named as in the source or else by its index.

    The pictures gather in a hidden folder beside the final one. A folder that is there already
    keeps its other files.

    Args:
        path: the folder.
        suffix: of every picture; it chooses the format.
        quality: of JPEG and WebP, 1 to 100.
        compress_level: of PNG, 0 (fast) to 9 (small).
        audio: whether to copy a video's sound, as a file of its own beside the pictures.

    Raises:
        SinkError: where the suffix is unknown, or the folder cannot be written.
        SinkLostError: where a picture cannot be, or two frames have one name: those before stay.
    """

    def __init__(
        self,
        path: str,
        suffix: str = ".png",
        quality: int = 95,
        compress_level: int = 4,
        audio: bool = True,
    ) -> None:
        self.path = Path(path).expanduser()
        check_still(quality, compress_level)
        self.quality = quality
        self.compress_level = compress_level
        self._suffix = checked_suffix(suffix, "a picture of the folder")
        self._temporary: Path | None = None
        self._there: frozenset[str] = frozenset()
        self._info: StreamInfo | None = None
        self._end = Fraction(0)
        self._lasts: Fraction | None = None
        self.audio = audio
        self.notes: tuple[str, ...] = ()

    def open(self, info: StreamInfo, /) -> None:
        """Creates the temporary folder."""
        self._info = info
        self._rhythm = Rhythm()
        if info.transparent:
            refuse_transparency(self._suffix)
        if self.path.is_symlink() and not self.path.exists():
            raise SinkError(missing(self.path))
        if self.path.exists() and not self.path.is_dir():
            raise SinkError(f"'{self.path}' is a file, not a folder: choose another output=")
        self._there = self._names()
        self._left = left_over(self.path.absolute())
        self.notes += told(self._left, self.path)
        self._unfinished = UnfinishedFolder(self.path.absolute())
        self._temporary = self._unfinished.path

    def write(self, frame: RawFrame, /) -> None:
        """Writes one picture."""
        assert self._temporary is not None
        name = f"{frame.name or f'{frame.index:06d}'}{self._suffix}"
        picture = self._temporary / name
        if picture.exists():
            raise SinkLostError(f"two frames are named '{name}': rename one of the inputs")
        assert self._info is not None
        part = self._temporary / PART
        try:
            write_picture(
                part,
                self._suffix,
                frame,
                quality=self.quality,
                compress_level=self.compress_level,
                grey=self._info.matte,
            )
            part.rename(picture)  # whatever ends this process, a picture there is whole
        except (SinkError, OSError) as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise SinkLostError(
                f"cannot write '{self.path / name}': {reason(error.__cause__ or error)}; free some "
                "space or choose another place with output="
            ) from error
        lost = not_kept(self._suffix, frame)
        if lost and lost not in self.notes:
            self.notes += (lost,)
        self._end = Fraction(frame.pts) + (frame.duration or 1 / self._info.rate)
        self._lasts = frame.duration
        self._rhythm(frame)

    def close(self, *, complete: bool = True) -> None:
        """Gives the folder its name, or moves the pictures into the one that is there."""
        if self._temporary is None:
            return
        self._write_rest(complete)
        try:
            self._settle(self._temporary)
        except (OSError, SinkError) as error:
            left, self._temporary = self._temporary, None  # what is in it is not removed
            raise SinkLostError(
                f"cannot write '{self.path}': {reason(error)}; what is done is in '{left}'"
            ) from error
        finally:
            self._unfinished.release()
        self._temporary = None
        if complete:
            remove(self._left, f"*{self._suffix}", PART, f"{STEM}.*")

    def _settle(self, temporary: Path) -> None:
        if not self.path.is_dir():
            with suppress(FileExistsError, NotADirectoryError):  # made meanwhile
                temporary.rename(self.path)
                return
        if not self.path.is_dir():
            self.notes += (elsewhere(self.path, settle(temporary, self.path, over=False)),)
            return
        for picture in sorted(temporary.iterdir()):
            due = self.path / picture.name
            final = rename(picture, due, over=picture.name in self._there)
            self.notes += () if final == due else (elsewhere(due, final),)
        temporary.rmdir()

    def taken(self, info: StreamInfo, /) -> tuple[Path, ...]:
        """Returns the files in the folder that would be written over."""
        there = self._names()
        if info.names:
            due = [*there.intersection(f"{stem}{self._suffix}" for stem in info.names)]
        else:
            due = [name for name in there if re.fullmatch(rf"\d{{6,}}{self._suffix}", name)]
        if self.audio and info.media is not None:
            due += [name for name in there if Path(name).stem == STEM]
        return tuple(self.path / name for name in sorted(due))

    def _names(self) -> frozenset[str]:
        return frozenset(os.listdir(self.path)) if self.path.is_dir() else frozenset()

    def _write_rest(self, complete: bool) -> None:
        """Writes a video's sound, and tells what of the video is in none of the files."""
        info = self._info
        if info is None or info.matte or not info.moving or not self._end:
            return
        whole = complete and not info.cut
        if info.media is not None:
            try:
                self._look_again(info, info.media, None if whole else self._end)
            except (SourceError, SinkLostError) as error:  # the pictures made of it stay
                if whole and isinstance(error, SinkLostError):
                    raise
                self.notes += (f"what else the video has is not beside the pictures: {error}",)
        self.notes += (*self._rhythm.uneven(self._lasts if whole else None),)

    def _look_again(self, info: StreamInfo, media: Path | Stored, end: Fraction | None) -> None:
        assert self._temporary is not None
        name = ""
        if self.audio:
            try:
                name, inexact = write_sound(self._temporary, media, info.start, end)
            except SinkError as error:
                raise SinkLostError(str(error)) from error
            said = f"the sound is in '{name}'; pictures come {_rate(info.rate)} a second"
            self.notes += (said, *inexact) if name else ()
        self.notes += (*not_beside(media, self._temporary / name if name else None),)

    def abort(self) -> None:
        """Removes the temporary folder."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
            self._unfinished.release()


def _rate(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")
