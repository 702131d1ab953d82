"""One picture file."""

from collections.abc import Iterator
from typing import Self

from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import input_file
from cbs_plugins.formats.pictures import picture_size, read_picture


class ImageSource:
    """Gives one picture, upright, as a stream of one frame.

    Args:
        path: any picture that Pillow reads; wider samples are scaled to 8 bit, alpha is kept.

    Raises:
        SourceError: from `__enter__`, where the header cannot be read; from iteration, where the
            pixels cannot.
    """

    info: StreamInfo

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> Self:
        """Reads the header only, so that too large a picture can be refused before decoding."""
        file = input_file(self.path)
        width, height = picture_size(file)
        self.info = StreamInfo(width, height, frames=1, name=file.stem)
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing: the file is only open while it is read."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the picture."""
        pixels, alpha = read_picture(self.path)
        yield RawFrame(pixels, 0, alpha=alpha, name=self.info.name)
