"""One picture file."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Literal, Self

from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import input_file
from cbs_plugins.formats.pictures import frame_rate, read_frames, read_header


class ImageSource:
    """Gives one picture, upright, as a stream of one frame; or all of an animation's.

    Args:
        path: any picture that Pillow reads; wider samples are scaled to 8 bit, alpha is kept,
            colours come as sRGB.
        frames: of an animation, or a file of several pages: ``first`` or ``all``.
        rate: frames a second of pages, which have no times.

    Raises:
        SourceError: from `__enter__`, where the header cannot be read; from iteration, where the
            pixels cannot.
    """

    info: StreamInfo

    def __init__(
        self,
        path: str,
        frames: Literal["first", "all"] = "first",
        rate: float | str = 25,
    ) -> None:
        if frames not in ("first", "all"):
            raise SourceError(f"source.frames={frames} is unknown: choose first or all")
        self.path = path
        self.frames = frames
        self.rate = frame_rate(rate)

    def __enter__(self) -> Self:
        """Reads the header only, so that too large a picture can be refused before decoding."""
        file = input_file(self.path)
        header = read_header(file)
        notes = [f"'{file.name}': {header.lost}"] if header.lost else []
        if header.frames > 1 and self.frames == "first":
            notes.append(
                f"'{file.name}' holds {header.frames} frames, of which the first is taken: "
                "source.frames=all takes them all"
            )
        count = header.frames if self.frames == "all" else 1
        self.info = StreamInfo(
            header.width,
            header.height,
            rate=self.rate,
            frames=count,
            name=file.stem,
            names=(file.stem,) if count == 1 else (),
            notes=tuple(notes),
        )
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing: the file is only open while it is read."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the picture."""
        for frame in read_frames(self.path, rate=Fraction(self.rate)):
            if self.info.frames == 1:
                yield replace(frame, name=self.info.name, duration=None)
                return
            yield frame
