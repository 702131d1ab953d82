"""How FFmpeg's muxers are asked to write a video file."""

import math
import os
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from cbs_plugins.formats.media import open_media
from cbs_plugins.formats.tracks import MATROSKA, covers, unusual

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "ipod",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Suffix, in lower case, -> FFmpeg's name of the container."""

_FINEST = 90_000
"""Ticks a second that times without a file behind them get at least; MPEG's clock."""

_FRAGMENT = 1_000_000
"""Microseconds of film that a run which is killed loses at the most."""


def time_base(source: VideoStream | None, rate: Fraction) -> Fraction:
    """Returns the unit of the pictures' times, in seconds: the source's own where it has one."""
    interval = 1 / rate
    if source is not None and source.time_base:
        return Fraction(source.time_base)
    # A whole part of the interval, so that index / rate is exact.
    return interval / max(round(_FINEST * interval), 1)


def muxer_options(
    suffix: str, media: InputContainer | None, tick: Fraction, *, bare: bool
) -> dict[str, str]:
    """Returns the options with which a file is playable as far as it goes while it is written.

    Args:
        suffix: of the file, in lower case.
        media: the file whose other streams come too.
        tick: the unit of the pictures' times.
        bare: whether there are pictures alone.
    """
    # Each fragment is on the disk when it is whole, for a run that is killed.
    options = {"flush_packets": "1"}
    if suffix in MATROSKA:
        # It would delay everything by the sound's priming samples, which lie before time 0.
        options["avoid_negative_ts"] = "disabled"
        options["cluster_time_limit"] = str(_FRAGMENT // 1000)
        return options
    # Where a stream starts is written in these units; the default is a millisecond.
    sound = media.streams.audio if media else ()
    units = [unit.time_base.denominator for unit in sound if unit.time_base]
    scale = math.lcm(tick.denominator, *units)
    options["movie_timescale"] = str(scale if scale < 2**31 else tick.denominator)
    flags = []
    flags = ["hybrid_fragmented+frag_keyframe"]
    if not any(_is_adts(one) for one in sound):
        # Without it FFmpeg shows of what a killed run left nothing before the second fragment.
        flags.append("delay_moov")
    if media is not None and not bare and unusual(media) and not covers(media):
        flags.append("use_metadata_tags")  # which leaves cover art out
    options |= {"frag_duration": str(_FRAGMENT), "use_editlist": "1", "movflags": "+".join(flags)}
    return options


def _is_adts(sound: AudioStream) -> bool:
    """Tells whether each packet says itself how it is coded, which a delayed index refuses."""
    context = sound.codec_context
    return context is not None and context.name == "aac" and not context.extradata


def lasting(
    packets: "Sequence[Packet[VideoStream]]",
    tick: int,
    unit: Fraction,
    lasts: Fraction,
    suffix: str,
    rate: Fraction,
) -> None:
    """Gives the last frame its duration; nothing else tells how long that is shown.

    Args:
        packets: the last ones of the pictures, which are changed.
        tick: the last frame's time.
        unit: of it, in seconds.
        lasts: seconds that it is shown.
        suffix: of the file, in lower case.
        rate: frames a second.
    """
    for packet in packets:
        if packet.pts == tick:
            packet.duration = max(round(lasts / packet.time_base), 1)
    if packets and suffix not in MATROSKA:
        # An MP4's film ends with the frame that is decoded last, and B-frames are that. What is
        # shown from then on is lost, unless frames are as far apart as the rate says.
        last, shown, due = packets[-1], tick * unit, 1 / rate
        apart = shown - (last.pts or 0) * last.time_base
        # Times of whole milliseconds, as Matroska's, are up to one off.
        slack = max(due / 100, min(unit, due / 4))
        if any(abs(one - due) > slack for one in (lasts, apart)):
            last.duration = round((shown + lasts) / last.time_base) - (last.pts or 0)


def close(output: OutputContainer, path: Path) -> None:
    """Closes a file.

    Of a fragmented MP4's cover art FFmpeg writes an empty video track too, beside the place where
    players look for it: that is made free space, so that nothing moves.
    """
    numbers = [one.index for one in output.streams if one.disposition & Disposition.attached_pic]
    try:
        output.close()
    finally:
        if numbers:
            _hide_tracks(path, numbers)


def _hide_tracks(path: Path, numbers: Sequence[int]) -> None:
    with path.open("r+b") as file:
        for kind, begin, end in list(_boxes(file, 0, path.stat().st_size)):
            if kind == b"moov":
                tracks = [box for box in _boxes(file, begin, end) if box[0] == b"trak"]
                for _, content, _ in (tracks[number] for number in numbers if number < len(tracks)):
                    file.seek(content - 4)
                    file.write(b"free")


def whole_fragments(path: Path) -> int:
    """Returns the bytes of an MP4 up to the end of its last whole fragment; 0 without any."""
    size, whole, before = path.stat().st_size, 0, b""
    with path.open("rb") as file:
        for kind, _, end in _boxes(file, 0, size):
            if before == b"moof" and kind == b"mdat" and end <= size:
                whole = end
            before = kind
    return whole


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields type, begin of the content and end of the boxes between two places of an MP4."""
    while begin + 8 <= end:
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 16 if size == 1 else 8
        if size == 1 and begin + head <= end:
            (size,) = struct.unpack(">Q", file.read(8))
        if size < head:  # to the end of the file, or damaged
            return
        yield kind, begin + head, begin + size
        begin += size


def cut_off(path: Path, size: int) -> int:
    """Cuts a film that broke off at the end of its last whole fragment.

    Args:
        path: the file.
        size: its bytes up to there.

    Returns:
        How many frames it has.
    """
    os.truncate(path, size)
    with open_media(path) as film:
        return sum(bool(packet.size) for packet in film.demux(film.streams.video[0]))
