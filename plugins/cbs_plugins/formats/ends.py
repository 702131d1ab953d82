"""Whether a video file has its end: what its container announces, and how whole ones end."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from cbs_core.contract.stored import Stored
from cbs_plugins.formats.files import opened
from cbs_plugins.formats.files import size as size_of
from cbs_plugins.formats.media import open_media

STREAMED = frozenset({"mpegts", "mpeg"})
"""FFmpeg's names of containers whose recordings begin and end anywhere, in a packet too."""

_HEADED = frozenset({"flv", "ivf", "mxf"})
"""Those whose header tells how long a file lasts; of others FFmpeg's duration is what is there."""

_TAIL = 65_536 + 282
"""Bytes that are looked at: as many as the largest page of an Ogg file (RFC 3533, 6) has."""

_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"
"""The start code of a NUT file's index, which is its last packet."""


def announced(container: InputContainer) -> Fraction:
    """Returns how long a file's header says that it lasts, in seconds; 0 where it does not."""
    if container.format.name not in _HEADED:
        return Fraction(0)
    return Fraction(container.duration or 0, av.time_base)


def last_time(path: Path | Stored) -> Fraction:
    """Returns when the last packet of all streams ends, in seconds on the file's clock."""
    with open_media(path) as media:
        return max(
            Fraction((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in media.demux()
            if packet.pts is not None
        )


def doubt(path: Path | Stored, container: InputContainer) -> str | None:
    """Returns a line where a file does not end as a whole one does, which some never did."""
    if _ends(path, container):
        return None
    return (
        f"'{path.name}' does not end as a whole file of its kind does: it may be cut short, and is "
        "read as far as it goes"
    )


def _ends(path: Path | Stored, container: InputContainer) -> bool:
    kind = container.format.name
    if kind == "asf":  # one that was cut tells its duration no more
        return bool(container.duration)
    if kind not in ("apng", "gif", "nut", "ogg"):
        return True
    size = size_of(path)
    with opened(path) as file:
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        if kind == "nut":  # what lies before the checksum tells how far from the end it begins
            file.seek(max(size - int.from_bytes(tail[-12:-4], "big"), 0))
            return file.read(8) == _NUT_INDEX
    if kind == "ogg":  # a page's sixth byte tells whether it is the last
        page = tail[tail.rfind(b"OggS") :]
        return len(page) > 5 and bool(page[5] & 4)
    return tail.rstrip(b"\0").endswith(b"\x3b" if kind == "gif" else b"IEND\xaeB`\x82")
