"""Playlists (HLS, ffconcat): files that name others, which a stranger may have written."""

import io
import shlex
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
    """Whether a file says that it is one of HLS, whatever its name is."""
    return _begins(path, b"#EXTM3U")


def refuse_lists(path: Path) -> None:
    """Looks at what an ffconcat list names, which FFmpeg opens without asking a `Guard`.

    Raises:
        SourceError: it names what lies elsewhere, is no file, or is itself a list.
    """
    if not _begins(path, b"ffconcat version"):
        return
    for line in path.read_text(errors="replace").splitlines():
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        if words[:1] != ["file"]:
            continue
        name = " ".join(words[1:])
        named = (path.parent / name).resolve()
        if not named.is_relative_to(path.resolve().parent):
            raise SourceError(_elsewhere(path, name))
        if not named.is_file():
            raise SourceError(_no_file(path, name))
        if _begins(named, b"ffconcat version", b"#EXTM3U"):
            raise SourceError(f"'{path}' names '{name}', which is a list too: name videos alone")


def _begins(path: Path, *words: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(32).lstrip(b"\xef\xbb\xbf").startswith(words)


def _elsewhere(playlist: Path, name: str) -> str:
    return (
        f"'{playlist}' names '{name}', and a playlist may name only what lies in its own folder or "
        "below: move it there"
    )


def _no_file(playlist: Path, name: str) -> str:
    return f"'{playlist}' names '{name}', which is no file: add it"


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
            raise SourceError(_elsewhere(self._playlist, name))
        if not path.is_file():
            raise SourceError(_no_file(self._playlist, name))
        self._opened[path] += 1
        if self.opening and self._opened[path] > _NESTED:
            raise SourceError(f"'{self._playlist}' names itself: give the video that it is of")
        return path.open("rb")
