"""The pictures of a folder."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import missing, reason
from cbs_plugins.formats.pictures import READABLE, frame_rate, picture_size, read_picture


def _natural(path: Path) -> list[tuple[int, str]]:
    # "img2" before "img10": runs of digits compare as numbers.
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


class FolderSource:
    """Gives the pictures that lie directly in a folder, ``img2`` before ``img10``.

    Hidden files are passed over. Sizes may differ from picture to picture.

    Args:
        path: the folder.
        rate: frames a second, which sets each frame's `pts`; also ``30000/1001``.
        on_error: ``raise`` stops at a picture that cannot be read; ``skip`` counts it in
            ``damaged`` and goes on.

    Raises:
        SourceError: where there is no such folder, no picture in it, or one cannot be read.
    """

    info: StreamInfo

    def __init__(
        self, path: str, rate: float | str = 25, on_error: Literal["raise", "skip"] = "raise"
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise SourceError(f"on_error='{on_error}' is unknown: choose raise or skip")
        self.path = path
        self.rate = frame_rate(rate)
        self.on_error = on_error
        self.damaged = 0

    def __enter__(self) -> Self:
        """Lists the folder and reads the header of its first picture."""
        folder = Path(self.path).expanduser()
        if not folder.exists():
            raise SourceError(missing(folder))
        try:
            entries = list(folder.iterdir())
        except OSError as error:
            raise SourceError(f"folder '{folder}' cannot be read: {reason(error)}") from error
        self._files = sorted(
            (
                entry
                for entry in entries
                if entry.suffix.lower() in READABLE
                and not entry.name.startswith(".")
                and entry.is_file()
            ),
            key=_natural,
        )
        stems = Counter(file.stem.casefold() for file in self._files)
        # a.jpg beside a.png: with their suffixes their outputs stay two.
        self._names = [
            file.name if stems[file.stem.casefold()] > 1 else file.stem for file in self._files
        ]
        size = self._first_size()
        if size is None:
            raise SourceError(
                f"folder '{folder}' holds no picture that can be read: known suffixes are "
                f"{' '.join(sorted(READABLE))}"
            )
        self.info = StreamInfo(
            *size, rate=self.rate, frames=len(self._files), name=folder.resolve().name or "output"
        )
        return self

    def _first_size(self) -> tuple[int, int] | None:
        for file in self._files:
            try:
                return picture_size(file)
            except SourceError:
                if self.on_error == "raise":
                    raise
        return None

    def __exit__(self, *exc: object) -> None:
        """Does nothing: each file is only open while it is read."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the pictures in order."""
        index = 0
        for file, name in zip(self._files, self._names, strict=True):
            try:
                pixels, alpha = read_picture(file)
            except SourceError:
                if self.on_error == "raise":
                    raise
                self.damaged += 1
                continue
            yield RawFrame(pixels, index, index / self.rate, alpha, name)
            index += 1
