"""Playlists (HLS): files that name others, which a stranger may have written."""

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from cbs_core.contract.errors import SourceError

TIMEOUT = (30, 60)
"""Seconds that opening, and then each packet, of a playlist may take; a live one waits between."""

_NESTED = 8
"""Times that a playlist may be opened before its media are known: one that names itself has no
end, a live one is read again now and then."""


def is_playlist(path: Path) -> bool:
    """Whether a file says that it is one, whatever its name is."""
    with path.open("rb") as file:
        return file.read(16).lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U")


class Guard:
    """Opens what a playlist names, where that lies in its folder or below; FFmpeg calls it.

    Args:
        playlist: the file that was given.
    """

    def __init__(self, playlist: Path) -> None:
        self._playlist = playlist
        self._folder = playlist.resolve().parent
        self._opened: Counter[Path] = Counter()
        self._refused = False
        self.opening = True

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> BinaryIO:
        """Returns the file of an address.

        Raises:
            SourceError: it lies elsewhere, is no file, or is a playlist that never ends.
        """
        if self._refused:  # FFmpeg tries others; PyAV would print a second error
            return io.BytesIO()
        try:
            return self._open(url.removeprefix("file:"))
        except SourceError:
            self._refused = True
            raise

    def _open(self, name: str) -> BinaryIO:
        path = Path(name).resolve()
        if "://" in name or not path.is_relative_to(self._folder):
            raise SourceError(
                f"'{self._playlist}' names '{name}', and a playlist may name only what lies in its "
                "own folder or below: move it there"
            )
        if not path.is_file():
            raise SourceError(f"'{self._playlist}' names '{name}', which is no file: add it")
        self._opened[path] += 1
        if self.opening and self._opened[path] > _NESTED:
            raise SourceError(f"'{self._playlist}' names itself: give the video that it is of")
        return path.open("rb")
