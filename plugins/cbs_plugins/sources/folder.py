"""The pictures of a folder."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from cbs_core.contract.errors import CbsError, SourceError, SourceLostError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.files import alike, is_marked
from cbs_plugins.formats.files import missing, reason
from cbs_plugins.formats.pictures import (
    MOST_PIXELS,
    READABLE,
    Header,
    frame_rate,
    read_frames,
    read_header,
    too_large,
)

_SHOWN = 6
"""Names that a line lists."""


def _natural(path: Path) -> list[tuple[int, str]]:
    # "img2" before "img10": runs of digits compare as numbers.
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


class FolderSource:
    """Gives the pictures that lie directly in a folder, ``img2`` before ``img10``.

    Hidden files and sheets of earlier runs are passed over; what else is, is told. Sizes may differ
    from picture to picture. The headers of all are read before the first is decoded.

    Args:
        path: the folder.
        rate: frames a second, which sets each frame's `pts`; also ``30000/1001``.
        on_error: ``raise`` stops at a picture that cannot be read; ``skip`` counts it in
            ``damaged``, names it in ``notes`` and goes on.

    Raises:
        SourceError: where there is no such folder, no picture in it, or one cannot be read.
        SourceLostError: where one behind the first turns out to be damaged.
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
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Lists the folder and reads the header of each picture."""
        self.damaged, self.notes = 0, ()
        folder = Path(self.path).expanduser()
        if not folder.exists():
            raise SourceError(missing(folder))
        try:
            entries = sorted(folder.iterdir(), key=_natural)
        except OSError as error:
            raise SourceError(f"folder '{folder}' cannot be read: {reason(error)}") from error
        seen = [entry for entry in entries if not (entry.name.startswith(".") or _is_sheet(entry))]
        files = [entry for entry in seen if entry.suffix.lower() in READABLE and entry.is_file()]
        self._notes = _passed_over([entry for entry in seen if entry not in set(files)])
        headers = {file: header for file in files if (header := self._header(file)) is not None}
        if not headers:
            raise SourceError(
                f"folder '{folder}' holds no picture that can be read: known suffixes are "
                f"{' '.join(sorted(READABLE))}"
            )
        self._files = dict(zip(headers, _distinct(files=[*headers]), strict=True))
        first = next(iter(headers.values()))
        largest = max(headers, key=lambda file: headers[file].width * headers[file].height)
        self.info = StreamInfo(
            first.width,
            first.height,
            rate=self.rate,
            frames=len(headers),
            moving=False,
            name=folder.resolve().name or "output",
            names=tuple(self._files.values()),
            notes=tuple(self._notes + _told(headers)),
            sizes=len({(header.width, header.height) for header in headers.values()}),
            largest=(headers[largest].width, headers[largest].height, str(largest)),
        )
        return self

    def _header(self, file: Path) -> Header | None:
        try:
            header = read_header(file)
            if header.width * header.height > MOST_PIXELS:
                raise SourceError(too_large(file, header.width, header.height))
        except CbsError as error:
            self._skip(error)
            self._notes.append(f"left out: {error}")
            return None
        return header

    def _skip(self, error: CbsError, kind: type[SourceError] = SourceError) -> None:
        """Counts a picture that cannot be read, or ends the run with the way on."""
        if self.on_error == "raise":
            raise kind(f"{error}; source.on_error=skip goes on without it") from error
        self.damaged += 1

    def __exit__(self, *exc: object) -> None:
        """Does nothing: each file is only open while it is read."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the pictures in order."""
        index = 0
        for file, name in self._files.items():
            try:
                frame = next(read_frames(file))
            except CbsError as error:
                # What is done before it stays.
                self._skip(error, SourceLostError if index else SourceError)
                self.notes += (f"left out: {error}",)
                continue
            yield replace(frame, index=index, pts=index / self.rate, name=name, duration=None)
            index += 1


def _distinct(files: Sequence[Path]) -> list[str]:
    """Returns a name for each file, of which no two are one to any file system.

    That is its stem. a.jpg beside a.png: with their suffixes their outputs stay two. Where such a
    name is another's stem, or differs from another by its case alone, it is numbered.
    """
    stems = Counter(alike(file.stem) for file in files)
    chosen = [file.name if stems[alike(file.stem)] > 1 else file.stem for file in files]
    taken: set[str] = set()
    names = []
    for name in chosen:
        number, distinct = 1, name
        while alike(distinct) in taken:
            number += 1
            distinct = f"{name}.{number}"
        taken.add(alike(distinct))
        names.append(distinct)
    return names


def _is_sheet(file: Path) -> bool:
    """Tells whether a file is the sheet of an earlier run, and no photograph."""
    return file.name.lower().endswith(".sheet.png") and is_marked(file)


def _passed_over(entries: Sequence[Path]) -> list[str]:
    """Returns a line on what of a folder is no picture by its name."""
    files = [entry.name for entry in entries if entry.is_file()]
    return [f"passed over, as no pictures by their names: {_names(files)}"] if files else []


def _told(headers: dict[Path, Header]) -> list[str]:
    lines = []
    moving = [file.name for file, header in headers.items() if header.frames > 1]
    if moving:
        lines.append(f"of several frames the first is taken: {_names(moving)}")
    lost: dict[str, list[str]] = {}
    for file, header in headers.items():
        if header.lost:
            lost.setdefault(header.lost, []).append(f"'{file.name}'")
    return lines + [f"{_names(names)}: {words}" for words, names in lost.items()]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
