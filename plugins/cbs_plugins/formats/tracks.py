"""All that a video file holds beside its pictures: what is copied, and what an output lacks.

Sound, subtitles, cover art, attachments, chapters and tags take one way from a source to an
output; afterwards `missing_from` compares the two files, whatever their containers are.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from cbs_core.contract.errors import SinkError
from cbs_plugins.formats.media import clock_zero, open_media, picture_stream

if TYPE_CHECKING:
    from av.container.core import Chapter

MATROSKA = frozenset({".mkv", ".webm"})

_STALE = frozenset(
    {"encoder", "duration", "alpha_mode", "major_brand", "minor_version", "compatible_brands"}
    | {"bps", "number_of_frames", "number_of_bytes", "vendor_id", "timecode", "rotate"}
)
"""Tags, in lower case, that tell of the file they stand in, not of what it shows."""

_USUAL = frozenset(
    {"title", "artist", "album_artist", "album", "composer", "date", "comment", "genre"}
    | {"copyright", "location", "creation_time", "handler_name", "language"}
)
"""Tags that FFmpeg writes into an MP4 where every player looks for them."""

_APART = 10
"""Seconds by which packets of one time may lie apart in a file, taken widely."""

_PREROLL = Fraction(1, 4)
"""Seconds of sound before a cut that a decoder needs to be exact behind it: Opus wants 0.08 (RFC
7845, 4.6), and MP3 takes bits from the nine frames before."""


def tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that stay true in another file."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith("_statistics")
    }


def unusual(media: InputContainer) -> bool:
    """Whether a file has tags that an MP4 holds only in QuickTime's own table of keys."""
    keys = {key.lower().partition("-")[0] for key in tags(media.metadata)}
    return bool(keys - _USUAL)


def covers(media: InputContainer) -> list[VideoStream]:
    """Returns the pictures that a file holds beside its video."""
    return [s for s in media.streams.video if s.disposition & Disposition.attached_pic]


def held_by(container: str, stream: Stream) -> bool:
    """Whether FFmpeg writes a stream, as it is, into a container, by its name of that."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, RuntimeError):
        return False
    return True


class Tracks:
    """Copies the packets of everything but the pictures, bit by bit, as far as the pictures are.

    Args:
        output: before its header is written; the picture stream is there already.
        media: the source.
        suffix: of the output, in lower case.
        audio: whether to copy sound.
        start: seconds on the source's clock that are the output's 0.
        only_audio: whether sound is all there is to copy.

    Raises:
        SinkError: the container cannot hold the sound.
    """

    def __init__(
        self,
        output: OutputContainer,
        media: InputContainer,
        suffix: str,
        *,
        audio: bool,
        start: Fraction,
        only_audio: bool = False,
    ) -> None:
        self._output = output
        self._suffix = suffix
        self._audio = audio
        self._start = start
        self._zero = clock_zero(media) + start
        self._chapters(media)
        output.metadata.update(tags(media.metadata))
        main = picture_stream(media, "")
        self._copies: dict[int, Stream] = {}
        self._late = Fraction(0)
        self._others = 0
        for stream in media.streams:
            wanted_kind = stream.type == "audio" or not only_audio
            if stream.index != main.index and wanted_kind:
                self._add(stream)
        wanted = [stream for stream in media.streams if stream.index in self._copies]
        self._packets = self._shifted(media, wanted)

    def _add(self, stream: Stream) -> None:
        if isinstance(stream, AttachmentStream):
            if self._suffix == ".mkv":
                self._output.add_attachment(
                    stream.name or "attachment",
                    stream.mimetype or "application/octet-stream",
                    stream.data,
                )
            return
        if stream.type == "audio":
            if self._audio:
                self._add_sound(stream)
            return
        cover = bool(stream.disposition & Disposition.attached_pic)
        if cover and self._suffix in MATROSKA:
            if self._suffix == ".mkv":
                self._attach_cover(stream)
            return
        # A time code's track is written anew, from the picture stream's tag; chapters likewise.
        if stream.type == "data" or not held_by(self._output.format.name, stream):
            return
        self._others += stream.type == "video" and not cover
        self._copy(stream)

    def _add_sound(self, stream: Stream) -> None:
        if not held_by(self._output.format.name, stream):
            name = stream.codec_context.name if stream.codec_context else "unknown"
            raise SinkError(
                f"{self._suffix} cannot hold the source's {name} sound: write .mkv, or leave "
                "it out with sink.audio=false"
            )
        self._copy(stream)

    def _copy(self, stream: Stream) -> None:
        copy = self._output.add_stream_from_template(stream)
        copy.metadata.update(tags(stream.metadata))
        copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    def _attach_cover(self, stream: Stream) -> None:
        kind = "png" if stream.codec_context and stream.codec_context.name == "png" else "jpeg"
        # Of a container of its own: reading on from the one that is copied would lose packets.
        with open_media(stream.container.name) as media:
            picture = next((p for p in media.demux(media.streams[stream.index]) if p.size), None)
        if picture is not None:
            name = "cover.png" if kind == "png" else "cover.jpg"
            self._output.add_attachment(name, f"image/{kind}", bytes(picture))

    def _chapters(self, media: InputContainer) -> None:
        kept: list[Chapter] = []
        for chapter in media.chapters():
            unit = chapter["time_base"] or Fraction(1, 1000)
            shift = round(self._start / unit)
            if chapter["end"] > shift:
                begin, end = max(chapter["start"] - shift, 0), chapter["end"] - shift
                kept.append(
                    {
                        "id": len(kept),
                        "start": begin,
                        "end": end,
                        "time_base": unit,
                        "metadata": chapter["metadata"],
                    }
                )
        if kept:
            self._output.set_chapters(kept)

    def _shifted(self, media: InputContainer, streams: list[Stream]) -> Iterator["Packet[Stream]"]:
        early: dict[int, list[Packet[Stream]]] = {}
        exact = self._suffix not in MATROSKA  # an MP4's edit list hides what lies before 0
        if not streams:
            return
        if self._start > _APART and not covers(media):  # which come at the beginning alone
            media.seek(int((self._zero - _APART) * av.time_base))
        with suppress(av.InvalidDataError):  # a cut file's sound ends where its data ends
            for packet in media.demux(streams):
                if packet.size == 0:
                    continue
                shift = round(self._zero / packet.time_base)
                cover = bool(packet.stream.disposition & Disposition.attached_pic)
                if not cover:
                    packet.pts = None if packet.pts is None else packet.pts - shift
                    packet.dts = None if packet.dts is None else packet.dts - shift
                if not self._start or packet.pts is None or cover:
                    yield packet
                elif packet.pts < 0:
                    if packet.stream.type == "audio" and exact:
                        early.setdefault(packet.stream.index, []).append(packet)
                    elif packet.stream.type == "audio":
                        ends = (packet.pts + (packet.duration or 0)) * packet.time_base
                        self._late = max(self._late, ends)
                else:
                    yield from _needed(early.pop(packet.stream.index, []))
                    yield packet

    @property
    def notes(self) -> list[str]:
        """What of the sound is not exact, and whether there are pictures that stay as they are."""
        lines = []
        if self._others:
            lines.append(
                "the source holds further pictures beside its film, which are copied as they are: "
                "they are not restyled"
            )
        if not self._late:
            return lines
        return [
            *lines,
            f"'{self._suffix}' holds whole packets of sound alone, and the first behind "
            f"source.start begins {float(self._late):.3f} s later: .mp4 and .mov begin exactly",
        ]

    def until(self, end: Fraction | None, *, exact: bool = False) -> Iterator["Packet[Stream]"]:
        """Yields the packets, for the output, up to the first that begins later than ``end``.

        Args:
            end: seconds; None for all.
            exact: whether nothing may sound after that: the last packet's duration is cut.
        """
        for packet in self._packets:
            time = (packet.pts or 0) * packet.time_base
            lasts = (packet.duration or 0) * packet.time_base
            if exact and end is not None:
                if time >= end + _APART:
                    return
                if time >= end:
                    continue
                if time + lasts > end:
                    packet.duration = max(int((end - time) / packet.time_base), 1)
            late = end is not None and time > end
            if late and not exact:
                # It may yet turn out to lie behind the end.
                self._packets = chain([packet], self._packets)
                return
            packet.stream = self._copies[packet.stream.index]
            yield packet


def _needed(early: "list[Packet[Stream]]") -> "list[Packet[Stream]]":
    """Returns those of the packets before a cut that what follows is decoded with."""
    return [p for p in early[:-1] if -(p.pts or 0) * p.time_base <= _PREROLL] + early[-1:]


def missing_from(
    written: InputContainer | None, media: InputContainer, *, audio: bool, main: VideoStream
) -> list[str]:
    """Returns, in words, what a source has and the file written from it, if any, has not."""
    have = _inventory(media, main, audio)
    got = _inventory(written, None, audio) if written else Counter()
    lost = [
        f"{count - got[kind]} of {count} {kind}" if got[kind] else kind
        for kind, count in have.items()
        if got[kind] < count
    ]
    kept = tags(written.metadata) if written else {}
    known = {key.lower().partition("-")[0] for key in kept}
    keys = [k for k in tags(media.metadata) if k.lower().partition("-")[0] not in known]
    if keys:
        shown = ", ".join(sorted(keys)[:8]) + (" ..." if len(keys) > 8 else "")
        lost.append(f"tags ({shown})")
    return lost


def _inventory(media: InputContainer, main: VideoStream | None, audio: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    chapters = len(media.chapters())
    found["chapters"] = chapters
    for stream in media.streams:
        lower = {key.lower() for key in stream.metadata}
        found["time code"] |= "timecode" in lower
        if stream.disposition & Disposition.attached_pic:
            found["cover art"] += 1
        elif stream.type == "subtitle":
            found["subtitles"] += 1
        elif stream.type == "attachment":
            found["attachments"] += 1
        elif stream.type == "audio":
            found["sound"] += audio
        elif stream.type == "video":
            found["further pictures"] += 1
        elif stream.type == "data" and "timecode" not in lower and stream.frames != chapters:
            found["data tracks"] += 1
    found["further pictures"] = max(found["further pictures"] - 1, 0)  # one is the film itself
    return found
