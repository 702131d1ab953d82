"""Messages beside the pictures in H.264 and HEVC (SEI), as packets hold them.

PyAV hands them out with frames only, by an object that crashes: see `media.orientation`.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from av.video.stream import VideoStream

from cbs_core.contract.stored import Stored
from cbs_plugins.formats.media import open_media, picture_stream

REGISTERED = 4
"""Payload type of what is registered by ITU-T T.35 (ITU-T H.265, D.2.1; the same in H.264)."""

_CAPTIONS = b"\xb5\x00\x31GA94\x03"
"""How such a message begins that holds closed captions (ATSC A/53, part 4)."""

_IN_MPEG2 = b"\0\0\1\xb2GA94\x03"
"""Likewise the user data of MPEG-2."""

_EARLY = 48
"""Packets among which a film that has captions has some."""

_SEI = {"hevc": (1, 0x3F, (39,), 2), "h264": (0, 0x1F, (6,), 1)}
"""Codec -> shift and mask of the type in a unit's first byte, that of SEI, bytes before data."""


def captions(path: Path | Stored) -> list[str]:
    """Returns, in words, that the pictures of a video have closed captions in them; else nothing.

    Raises:
        SourceError: it cannot be opened.
    """
    with open_media(path) as media:
        stream = picture_stream(media, path)
        packets = (bytes(packet) for packet in islice(media.demux(stream), _EARLY))
        if stream.codec_context.name == "mpeg2video":
            found = any(_IN_MPEG2 in packet for packet in packets)
        else:
            found = any(
                kind == REGISTERED and payload.startswith(_CAPTIONS)
                for kind, payload in messages(stream, packets)
            )
    return ["closed captions"] if found else []


def messages(stream: VideoStream, packets: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields type and payload of the SEI messages in some packets, and in the codec's header."""
    name, extra = stream.codec_context.name, stream.codec_context.extradata or b""
    if name not in _SEI:
        return
    shift, mask, types, head = _SEI[name]
    # A stream with start codes has no configuration record, whose first byte is its version.
    width = 0
    if extra[:1] == b"\x01":
        at = 21 if name == "hevc" else 4
        width = (extra[at] & 3) + 1 if len(extra) > at else 4
        units = _recorded(extra) if name == "hevc" else iter(())
    else:
        units = iter(extra.split(b"\0\0\1"))
    for unit in units:
        if unit and unit[0] >> shift & mask in types:
            yield from _payloads(unit[head:])
    for packet in packets:
        for unit in _measured(packet, width) if width else packet.split(b"\0\0\1"):
            if unit and unit[0] >> shift & mask in types:
                yield from _payloads(unit[head:])


def _measured(packet: bytes, width: int) -> Iterator[bytes]:
    """Yields the units of a packet, each of which has its size before it."""
    place = 0
    while place + width < len(packet):
        size = int.from_bytes(packet[place : place + width], "big")
        yield packet[place + width : place + width + size]
        place += width + size


def _recorded(record: bytes) -> Iterator[bytes]:
    """Yields the units of HEVC's configuration record (ISO/IEC 14496-15, 8.3.3.1.2)."""
    place = 23
    for _ in range(record[22] if len(record) > 22 else 0):
        count = int.from_bytes(record[place + 1 : place + 3], "big")
        place += 3
        for _ in range(count):
            if place >= len(record):
                return
            size = int.from_bytes(record[place : place + 2], "big")
            yield record[place + 2 : place + 2 + size]
            place += 2 + size


def _payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    data = data.replace(b"\0\0\3", b"\0\0")  # a zero may not begin what looks like a start code
    place = 0
    while place + 2 < len(data):
        numbers = []
        for _ in range(2):  # type, then size: bytes of 255 add up
            number = 0
            while place < len(data) and data[place] == 255:
                number, place = number + 255, place + 1
            if place >= len(data):
                return
            numbers.append(number + data[place])
            place += 1
        kind, size = numbers
        yield kind, data[place : place + size]
        place += size
