"""The static metadata of HDR video: the display that it was graded on, and how light it gets.

Both are numbers for a player's tone mapping (SMPTE ST 2086, CTA-861.3). Containers hold them, and
so do H.264 and HEVC themselves, in messages beside the pictures (SEI). PyAV hands them out with
frames only, by an object that crashes: see `media.orientation`. So they are read from the header
and the first packet, and given to encoders by their own options.
"""

import struct
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from av.video.stream import VideoStream

from cbs_core.contract.stored import Stored
from cbs_core.contract.types import StreamInfo
from cbs_plugins.formats.media import header_of, open_media, picture_stream
from cbs_plugins.formats.sei import REGISTERED, messages
from cbs_plugins.formats.video_colours import curve

_DISPLAY, _LIGHT = 137, 144
"""Payload types of SEI messages (ITU-T H.265, D.2.1; the same in H.264)."""

_HDR10_PLUS = b"\xb5\x00\x3c\x00\x01"
"""How such a message begins (ST 2094-40, as ITU-T T.35 registers it)."""

_FIRST = 4
"""Packets that are looked at: a recording may begin with one that cannot be decoded."""

_OPTIONS = {
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libx264": ("x264-params", "mastering-display", "cll"),
}
"""Encoder -> its option for parameters of its own, and the two of them."""


@dataclass(frozen=True, slots=True)
class Mastering:
    """What a video says of itself."""

    display: bytes = b""
    """24 bytes, as SEI and an MP4 have them: x and y of green, blue, red and white, in steps of
    0.00002, and the most and the least light, in 0.0001 cd/m2. Empty for none."""

    light: bytes = b""
    """4 bytes: the lightest pixel and the lightest frame's mean, in cd/m2. Empty for none."""

    dynamic: tuple[str, ...] = ()
    """Names of what it says frame by frame, which nothing here keeps."""

    def lost(self, codec: str) -> str:
        """Returns, in words, what an encoder does not write of it; empty for nothing."""
        held = codec in _OPTIONS
        names = [*self.dynamic]
        names += ["mastering display"] if self.display and not held else []
        names += ["light level"] if self.light and not held else []
        way = ": sink.codec=libx265 keeps it" if len(names) > len(self.dynamic) else ""
        return f"of the source's HDR {', '.join(names)} is not kept{way}" if names else ""

    def options(self, codec: str, options: dict[str, str]) -> dict[str, str]:
        """Returns an encoder's options with those that write it; the same where it cannot."""
        if codec not in _OPTIONS or not (self.display or self.light):
            return options
        key, display, light = _OPTIONS[codec]
        said = [options[key]] if options.get(key) else []
        if self.display:
            n = struct.unpack(">8H2I", self.display)
            places = (f"{name}({n[2 * at]},{n[2 * at + 1]})" for at, name in enumerate("GBR"))
            said.append(f"{display}={''.join(places)}WP({n[6]},{n[7]})L({n[8]},{n[9]})")
        if self.light:
            most, mean = struct.unpack(">2H", self.light)
            said.append(f"{light}={most},{mean}")
        return {**options, key: ":".join(said)}


def kept(source: VideoStream | None, info: StreamInfo) -> Mastering:
    """Returns what is to be written of a stream's: of HDR all, of a matte and others nothing.

    Raises:
        SourceError: its file cannot be opened any more.
    """
    if source is None or info.media is None or info.matte or not curve(source):
        return Mastering()
    return read(info.media)


def read(path: Path | Stored) -> Mastering:
    """Returns what a video says, by its container or, where that does not, by its codec.

    Raises:
        SourceError: it cannot be opened.
    """
    with open_media(path) as media:
        stream = picture_stream(media, path)
        header = header_of(stream)
        found = {kind: _box(header, kind, size) for kind, size in ((b"mdcv", 24), (b"clli", 4))}
        dynamic = {"Dolby Vision"} if b"dvvC" in header or b"dvcC" in header else set()
        packets = (bytes(packet) for packet in islice(media.demux(stream), _FIRST))
        for kind, payload in messages(stream, packets):
            if kind == _DISPLAY and len(payload) == 24:
                found[b"mdcv"] = found[b"mdcv"] or payload
            elif kind == _LIGHT and len(payload) == 4 and any(payload):  # 0 is unknown
                found[b"clli"] = found[b"clli"] or payload
            elif kind == REGISTERED and payload.startswith(_HDR10_PLUS):
                dynamic.add("HDR10+")
    return Mastering(found[b"mdcv"], found[b"clli"], tuple(sorted(dynamic)))


def _box(header: bytes, kind: bytes, size: int) -> bytes:
    place = header.find(struct.pack(">I4s", size + 8, kind))
    return header[place + 8 : place + 8 + size] if place >= 0 else b""
