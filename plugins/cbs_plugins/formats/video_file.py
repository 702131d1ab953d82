"""One video file being written: pictures encoded, everything else copied from the source's file."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cbs_core.contract.errors import SinkError, SinkLostError
from cbs_core.contract.types import RawFrame, Segment, StreamInfo
from cbs_core.machine.unfinished import Unfinished
from cbs_plugins.formats import mastering, muxing
from cbs_plugins.formats.encoding import Encoding
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.hearing import Spoken
from cbs_plugins.formats.media import CONVERSION, open_media, picture_stream, pixel_aspect
from cbs_plugins.formats.segments import packets
from cbs_plugins.formats.sei import captions
from cbs_plugins.formats.timecode import timecode
from cbs_plugins.formats.tracks import MATROSKA, Tracks, missing_from, tags
from cbs_plugins.formats.video_colours import Sampling, pixel_format
from cbs_plugins.formats.video_pictures import encoded

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""AVCOL_SPC -> SWS_CS of the matrices that swscale converts RGB with (libswscale/swscale.h)."""

_TELL_ASPECT = frozenset({"libx264", "libx265"})
"""Encoders whose data tell the shape of pixels; PyAV hands Matroska none (as of version 18)."""

_FAILURES = (av.FFmpegError, OSError)
"""What writing raises: FFmpeg's own, or the file's."""

_REORDERED = 3
"""Frames from which on x265 tells packets their times of decoding."""

_HELD = 32
"""Packets at the end of a joined file that are held back: more than are shuffled."""


class VideoFile:
    """A file that is playable as far as it goes while it is written, and an ordinary one at last.

    MP4 grows in fragments that become its index when it is closed (FFmpeg's ``hybrid_fragmented``);
    Matroska does so by itself.

    Args:
        final: the path that it gets when it is whole.
        encoding: of the pictures.
        info: of the stream; with ``media``, the file from which the rest is copied.
        start: seconds of the stream that are this file's 0.
        size: width and height of its frames; others are scaled.
        bare: whether it holds pictures alone, which begin at its 0.

    Raises:
        SinkError: the place cannot be written, or the container cannot hold codec or sound.
    """

    def __init__(
        self,
        final: Path,
        encoding: Encoding,
        info: StreamInfo,
        *,
        start: Fraction = Fraction(0),
        size: tuple[int, int] | None = None,
        bare: bool = False,
    ) -> None:
        self._encoding = encoding
        self._info = info
        self._start = start
        self._bare = bare or info.matte
        self._from_first = bare
        self._pending: list[Packet[VideoStream]] = []
        self.size = size or encoding.size or (info.width, info.height)
        self._frame_size = size or (info.width, info.height)
        self._suffix = final.suffix.lower()
        self.notes: list[str] = []
        self.transparency_lost = False
        self._last: tuple[int, Fraction] | None = None
        self._output: OutputContainer | None = None
        self._media: InputContainer | None = None
        self._tracks: Tracks | Spoken | None = None
        self._begun = self._muxed = False
        self._given = self._header = 0
        self._playable = 0
        """Bytes of it that are one by now."""
        self._broken = False
        self.kept: int | None = None
        """Frames of a file that broke off."""
        self._file = Unfinished(final)
        try:
            self._open()
        except BaseException as error:
            self.discard()
            if isinstance(error, av.FFmpegError | OSError | ValueError):
                raise SinkError(self._why_not(error)) from error
            raise

    def _open(self) -> None:
        info, encoding = self._info, self._encoding
        self._media = open_media(info.media) if info.media else None
        self._source = picture_stream(self._media, info.media or "") if self._media else None
        self._tick = muxing.time_base(self._source, info.rate)
        options = muxing.muxer_options(self._suffix, self._media, self._tick, bare=self._bare)
        self._output = av.open(
            # Not as Python's file: a thread of FFmpeg's that calls back while Python ends crashes.
            str(self._file.path.absolute()),
            "w",
            format=muxing.CONTAINERS[self._suffix],
            container_options=options,
        )
        self._stream = self._add_pictures(self._output)
        if self._media is not None and not self._bare:
            start = info.start + self._start
            self._tracks = Tracks(
                self._output, self._media, self._suffix, audio=encoding.audio, start=start
            )
        elif info.sound is not None and encoding.audio:
            self._tracks = Spoken(self._output, self._suffix, info.sound())
        self._output.start_encoding()
        self._begun = True
        self._header = self._file.size

    @property
    def path(self) -> Path:
        """Where the file will be."""
        return self._file.final

    @property
    def empty(self) -> bool:
        """Whether no frame was written."""
        return self._last is None

    def write(self, frame: RawFrame) -> None:
        """Encodes a frame and copies the rest up to it."""
        if self._from_first and self._last is None:
            self._start = Fraction(frame.pts)
        time = Fraction(frame.pts) - self._start
        tick = round(time / self._tick)
        if self._last is not None and tick <= self._last[0]:
            raise SinkLostError(
                f"frame {frame.index} at {float(frame.pts):.6f} s is not later than the one before "
                f"it by a tick of {self._tick} s: {self._suffix} cannot hold it, choose .mp4"
            )
        self._last = tick, frame.duration or 1 / self._info.rate
        picture = self._to_coded.reformat(
            self._picture(frame),
            width=self.size[0],
            height=self.size[1],
            format=self._stream.pix_fmt,
            interpolation=CONVERSION,
            dst_colorspace=self._matrix,
            dst_color_range=self._stream.codec_context.color_range,
        )
        picture.pts, picture.time_base = tick, self._tick
        self._mux(self._encode(picture))
        self._copy(until=time)
        self._show()

    def _show(self) -> None:
        """Lets the file be seen as a film, once the first frames of it are on the disk."""
        size = self._file.size
        if size <= max(self._header, self._playable):
            return
        if not self._playable:
            self._file.show()
        self._playable = size  # each packet is flushed, so that a fragment is there whole or not

    def join(self, segments: Sequence[Segment]) -> None:
        """Copies the pictures of segments, and the rest beside them."""
        for packet in packets(segments, self._tick, self._start):
            packet.stream = self._stream
            self._pending.append(packet)
            if len(self._pending) > _HELD:
                first = self._pending.pop(0)
                self._mux([first])
                self._copy(until=(first.dts or 0) * self._tick)
        last = round((segments[-1].times[-1] - self._start) / self._tick)
        self._last = last, segments[-1].duration or 1 / self._info.rate

    def _picture(self, frame: RawFrame) -> VideoFrame:
        if frame.alpha is not None and not self._alpha:
            self.transparency_lost = True
        return encoded(frame, alpha=self._alpha, deep=self._deep)

    def close(self, *, complete: bool = True, end: Fraction | None = None) -> None:
        """Finishes the file and gives it its name; a frame must be there.

        Args:
            complete: whether the rest is copied to its end too, not only as far as the pictures.
            end: seconds of the stream where the last frame ends, where that is known.
        """
        assert self._output is not None
        assert self._last is not None
        if self._broken:
            self._break_off()
            return
        tick, lasts = self._last
        if end is not None:
            lasts = end - self._start - tick * self._tick
        rest = self._pending or self._encode(None)
        muxing.lasting(rest, tick, self._tick, lasts, self._suffix, self._info.rate)
        self._mux(rest)
        self._copy(until=None if complete else tick * self._tick + lasts, exact=not complete)
        self.notes += self._tracks.notes if self._tracks is not None else []
        try:
            muxing.close(self._output, self._file.path)
        except _FAILURES as error:
            raise self._failure(error) from error
        self._output = None
        self._compare()
        self._close_media()
        self.notes += self._file.finish()

    def _break_off(self) -> None:
        """Ends a file that could not be written on: at its last whole fragment, with its sound."""
        assert self._output is not None
        with suppress(*_FAILURES):  # it fails once more, and frees what it has
            muxing.close(self._output, self._file.path)
        self._output = None
        self._close_media()
        self.kept = muxing.cut_off(self._file.path, self._playable)
        self.notes += self._file.finish()

    def _compare(self) -> None:
        media = self._info.media
        if self._media is None or media is None or self._source is None or self._bare:
            return
        with open_media(self._file.path) as written:
            lost = missing_from(written, self._media, audio=self._encoding.audio, main=self._source)
        lost += captions(media)
        if lost:
            self.notes.append(
                f"not in '{self.path.name}', for FFmpeg does not write them there: "
                f"{', '.join(lost)}"
            )

    def forget(self) -> None:
        """Takes the file's name away; whatever is still written goes nowhere."""
        self._file.unlink()

    def discard(self) -> None:
        """Removes the file."""
        if self._output is not None:
            with suppress(*_FAILURES):  # on a full disk closing fails as writing did
                self._feed_one()
                self._output.close()
            self._output = None
        self._close_media()
        self._file.discard()

    def _feed_one(self) -> None:
        """Muxes a picture where there was none: of no fragment at all FFmpeg's MP4 crashes."""
        if self._muxed or self._output is None or not self._begun:
            return
        if not self._given:  # VP9's muxer parses what it gets, so that it must be one
            picture = VideoFrame(*self.size, str(self._stream.pix_fmt))
            picture.pts, picture.time_base = 0, self._tick
            self._output.mux(self._stream.encode(picture))
        self._output.mux(self._stream.encode(None))

    def _close_media(self) -> None:
        self._tracks = None
        if self._media is not None:
            self._media.close()
            self._media = None

    def _add_pictures(self, output: OutputContainer) -> VideoStream:
        info, encoding, source = self._info, self._encoding, self._source
        ratio = self._pixel_aspect()
        stream = self._encoded(output)
        context = stream.codec_context
        self._matrix: int | None = None
        self._to_coded = VideoReformatter()
        if encoding.codec == "libx265" and self._suffix not in MATROSKA:
            context.codec_tag = "hvc1"  # Apple's players open no other
        if source is not None:
            tags_in = source.codec_context
            if not (tags_in.format and tags_in.format.is_rgb):  # which is always of full range
                context.color_range = tags_in.color_range
            context.color_primaries = tags_in.color_primaries
            context.color_trc = tags_in.color_trc
            # Untagged, swscale takes BT.601 both ways, so that the values come back the same.
            self._matrix = _MATRICES.get(tags_in.colorspace)
            if self._matrix is not None:
                context.colorspace = tags_in.colorspace
            stream.metadata.update({} if self._bare else tags(source.metadata))
            code = timecode(source, info.start + self._start)
            if code and not self._from_first:
                stream.metadata["timecode"] = code
        if ratio != 1:
            context.sample_aspect_ratio = ratio
        return stream

    def _encoded(self, output: OutputContainer) -> VideoStream:
        """Adds a stream for the encoder."""
        info, encoding = self._info, self._encoding
        width, height = self.size
        hdr = mastering.kept(self._source, info)
        self.notes += [lost] if (lost := hdr.lost(encoding.codec)) else []
        stream = output.add_stream(
            encoding.codec,
            rate=info.rate,
            options=hdr.options(encoding.codec, encoding.options),
            width=width,
            height=height,
            time_base=self._tick,
        )
        if not isinstance(stream, VideoStream):
            raise ValueError(f"{encoding.codec} encodes no pictures")
        stream.pix_fmt, lost = pixel_format(
            encoding.codec,
            self._source,
            width,
            height,
            encoding.pixel_format,
            alpha=info.transparent or (False if info.matte else None),
            matte=info.matte,
        )
        self.notes += [lost] if lost and not info.matte else []
        written = Sampling.of(stream.pix_fmt)
        self._alpha, self._deep = written.alpha, written.bits > 8
        if info.transparent and not self._alpha:
            raise SinkError(
                f"{encoding.codec} in '{self._suffix}' holds no transparency: name a .mov "
                "(ProRes 4444), a .webm or .mkv (VP9), or a folder of PNGs, with sink.codec=auto"
            )
        return stream

    def _pixel_aspect(self) -> Fraction:
        """Returns the width of a pixel over its height; pictures are scaled where none is held."""
        ratio = pixel_aspect(self._source) if self._source is not None else Fraction(1)
        width, height = self.size
        ratio *= Fraction(self._frame_size[0] * height, self._frame_size[1] * width)
        if ratio == 1 or self._suffix not in MATROSKA or self._encoding.codec in _TELL_ASPECT:
            return ratio
        if self._encoding.size is None:
            self.size = max(round(width * ratio / 2) * 2, 2), height
        self.notes.append(
            f"{self._encoding.codec} in '{self._suffix}' holds square pixels only, and these are "
            f"{float(ratio):.3g} times as wide as high: pictures are {self.size[0]}x{self.size[1]}"
        )
        return Fraction(1)

    def _copy(self, until: Fraction | None, *, exact: bool = False) -> None:
        if self._tracks is not None:
            for packet in self._tracks.until(until, exact=exact):
                self._mux([packet])

    def _encode(self, picture: VideoFrame | None) -> "list[Packet[VideoStream]]":
        try:
            packets = self._stream.encode(picture)
        except av.FFmpegError as error:
            raise self._lost(self._why_not(error)) from error
        self._given += picture is not None
        if self._given < _REORDERED and self._encoding.codec == "libx265":
            for packet in packets:  # whose time of decoding is whatever was in its memory
                packet.dts = packet.pts
        return packets

    def _mux(self, packets: "Sequence[Packet[VideoStream]] | Sequence[Packet[Stream]]") -> None:
        assert self._output is not None
        self._muxed |= bool(packets)
        try:
            self._output.mux(packets)
        except _FAILURES as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> SinkError:
        return self._lost(
            f"writing '{self.path}' failed: {reason(error)}; free some space or choose another "
            "place with output="
        )

    def _lost(self, line: str) -> SinkError:
        """Returns the error of a file that cannot be written on: what is a film of it stays."""
        self._broken = True
        if self._suffix not in MATROSKA:  # FFmpeg may have held packets back until now
            self._playable = max(self._playable, muxing.whole_fragments(self._file.path))
        return (SinkLostError if self._playable else SinkError)(line)

    def _why_not(self, error: BaseException) -> str:
        codec = self._encoding.codec
        if "format does not support" in str(error):
            return f"{self._suffix} cannot hold {codec}: write .mov or .mkv, or say sink.codec=auto"
        log = getattr(error, "log", None)
        told = f" ({' '.join(str(log[2]).split())})" if log else ""
        width, height = self.size
        return (
            f"cannot write '{self.path}' with {codec} at {width}x{height}: {reason(error)}{told}; "
            "choose another sink.codec or sink.pixel_format, or both auto"
        )
