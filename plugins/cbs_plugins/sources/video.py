"""A video file, decoded by FFmpeg through PyAV."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Self

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cbs_core.contract.errors import SourceError, SourceLostError
from cbs_core.contract.places import Place
from cbs_core.contract.types import RawFrame, Still, StreamInfo
from cbs_core.contract.windows import Index
from cbs_plugins.formats import clock, ends
from cbs_plugins.formats.deinterlace import Deinterlacer, is_interlaced
from cbs_plugins.formats.files import located, reason
from cbs_plugins.formats.files import size as size_of
from cbs_plugins.formats.media import (
    CONVERSION,
    Orientation,
    clock_zero,
    has_alpha,
    matroska_end,
    open_media,
    orientation,
    picture_stream,
    rotation,
)
from cbs_plugins.formats.video_colours import profile_notes, source_notes
from cbs_plugins.formats.video_pictures import deep

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = Fraction(1, 2)
"""Seconds by which a stream may end before its announced end and still count as whole."""

_REORDERED = 64
"""Packets by which the order of decoding and that of showing differ at the most, taken widely."""

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codec -> the decoder that reads its transparency, which the usual one leaves out."""


class VideoSource:
    """Gives the frames of a video, upright, at the times that the file states.

    Colours are converted with the stream's own matrix and range, to 8 bits. After a damaged packet
    decoding goes on; ``damaged`` counts such packets; frames that the decoder withholds leave a gap
    in time. Where the size changes, frames of another size follow.

    Args:
        path: the file, or its address in a store.
        allow_truncated: whether to take what there is of a file that was cut short.
        start: where to begin: seconds, ``HH:MM:SS.mmm``, or a frame from 0, ``240f``. That place
            is time 0 of the stream.
        end: where to end, likewise; it is itself left out.
        deinterlace: whether to part the fields of interlaced frames (FFmpeg's bwdif, a frame each).

    Raises:
        SourceError: where the file is no video, or is cut short: from `__enter__` where its index
            or its size tells.
        SourceLostError: where it turns out to be cut short, or cannot be decoded on.
    """

    info: StreamInfo

    def __init__(
        self,
        path: str,
        allow_truncated: bool = False,
        start: float | str | None = None,
        end: float | str | None = None,
        deinterlace: bool = False,
    ) -> None:
        self.path = located(path)
        self.allow_truncated = allow_truncated
        self.span = clock.Span.read(start, end)
        self.deinterlace = deinterlace
        self.damaged = 0

    def __enter__(self) -> Self:
        """Opens the file and decodes the first frame, which alone tells the upright size."""
        self.damaged = 0
        self._timeless = False
        self._sought: Fraction | None = None
        self._container = open_media(self.path)
        try:
            self._stream = picture_stream(self._container, self.path)
            self._refuse_cut_index()
            # Frame threads deadlock beside torchvision's own FFmpeg (PyAV as of version 18).
            self._stream.thread_type = "SLICE"
            self._decoder = _decoder(self._stream)
            self._orientation = orientation(self._stream)
            self._rgb, self._deep_rgb = VideoReformatter(), VideoReformatter()
            self._zero = clock_zero(self._container)
            self._tick = Fraction(self._stream.time_base or Fraction(1, 90_000))
            self._rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
            self._timed = self._within_span(self._with_times(self._decode()))
            first = next(self._timed, None)
            if first is None:
                raise SourceError(
                    f"no frame of '{self.path}' can be decoded: it is cut short or damaged; "
                    "copy or download it again"
                    if self.span.whole
                    else f"'{self.path}' has no frame from source.start={self.span.start} to "
                    f"source.end={self.span.end}: choose times inside of it"
                )
            self._timed = chain([first], self._timed)
            self.info = self._describe(*first)
        except BaseException:
            self._container.close()
            raise
        return self

    def _describe(self, frame: VideoFrame, pts: Fraction) -> StreamInfo:
        self._begins = pts
        width, height = frame.width, frame.height
        if self._turn(frame).turned:
            width, height = height, width
        # A frame's number is known only by counting; its time is then the stream's 0.
        self._start = pts if self.span.start.seconds is None else self.span.start.seconds
        interlaced = is_interlaced(self._stream, frame)
        notes = source_notes(self.path.name, self._stream)
        notes += profile_notes(self.path, self._stream)
        if doubt := ends.doubt(self.path, self._container):
            notes.append(doubt)
        if interlaced and not self.deinterlace:
            notes.append(
                f"'{self.path.name}' is interlaced: its fields are restyled woven together and "
                "written as whole frames; source.deinterlace=true parts them"
            )
        return StreamInfo(
            width,
            height,
            rate=self._rate,
            frames=(self._stream.frames or None) if self.span.whole else None,
            media=self.path,
            name=self.path.stem,
            notes=tuple(notes),
            start=self._start,
            cut=not self.span.whole,
        )

    def __exit__(self, *exc: object) -> None:
        """Closes the file."""
        self._container.close()

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames; their times increase strictly, from the chosen start."""
        held: RawFrame | None = None
        try:
            for index, (frame, time) in enumerate(self._timed):
                if held is not None:
                    yield held
                held = self._raw(frame, index, time)
        except SourceLostError:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield replace(held, duration=self._last_duration(held))

    def _raw(self, frame: VideoFrame, index: int, time: Fraction) -> RawFrame:
        pixels, alpha = self._upright(frame)
        still = Still(own=self._full_depth(frame), shown=pixels) if deep(frame) else None
        lasts = frame.duration * (frame.time_base or self._tick) if frame.duration else None
        return RawFrame(pixels, index, time - self._start, alpha, duration=lasts, still=still)

    def seek(self, place: Place, /) -> Fraction | None:
        """Lets the frames begin at the key frame before a place of the file; see `Seekable`.

        None where only the frames before it tell what follows: fields are parted, the end is a
        frame's number, or the file states no times.
        """
        if self.deinterlace or self.span.end.frame is not None or self._timeless:
            return None
        time = place.seconds if place.frame is None else self._time_of(place.frame)
        if time is None:
            return None
        self._sought = time
        self._decoder.flush_buffers()
        self._timed = self._until_end(self._with_times(self._decode()))
        return time - self._start

    def index(self) -> Index | None:
        """Returns the frames of the chosen part by the packets alone, which costs little.

        None where these do not tell the frames: see `seek`.
        """
        if self.deinterlace or self.span.end.frame is not None or self._timeless:
            return None
        found: dict[int, bool] = {}
        with open_media(self.path) as media:  # another, for this one stands at its first frame
            for packet in media.demux(picture_stream(media, self.path)):
                if packet.pts is None and packet.size:
                    return None
                if packet.pts is not None and packet.size and not packet.is_discard:
                    found[packet.pts] = packet.is_keyframe
        listed = [(ticks * self._tick - self._zero, found[ticks]) for ticks in sorted(found)]
        begins, end = self._begins, self.span.end
        chosen = [one for one in listed if one[0] >= begins and not end.reached(0, one[0])]
        times = tuple(time - self._start for time, _ in chosen)
        return Index(times, frozenset(at for at, (_, key) in enumerate(chosen) if key))

    def _time_of(self, frame: int) -> Fraction | None:
        """Returns when a frame is shown, by the packets alone, which costs little."""
        times: list[int] = []
        self._container.seek(self._stream.start_time or 0, stream=self._stream)
        for packet in self._container.demux(self._stream):
            if packet.pts is not None and packet.size and not packet.is_discard:
                times.append(packet.pts)
            # Packets come in the order of decoding, which is no more than this apart from times.
            if len(times) > frame + _REORDERED:
                break
        if not times:
            return None
        behind = max(times) + round(1 / self._tick)  # where there is no such frame
        tick = sorted(times)[frame] if frame < len(times) else behind
        return tick * self._tick - self._zero

    def _until_end(
        self, timed: Iterator[tuple[VideoFrame, Fraction]]
    ) -> Iterator[tuple[VideoFrame, Fraction]]:
        return takewhile(lambda one: not self.span.end.reached(0, one[1]), timed)

    def _last_duration(self, last: RawFrame) -> Fraction | None:
        # A packet's own duration is that of its place in the file, which B-frames shuffle.
        end = clock.seconds_of_tag(self._stream.metadata.get("DURATION", ""))
        if self._stream.duration:
            end = ((self._stream.start_time or 0) + self._stream.duration) * self._tick
        lasts = end - self._zero - self._start - last.pts
        if lasts <= 0 or not self.span.whole:
            lasts = last.duration or 1 / self._rate
        if self.span.end.seconds is not None:
            lasts = min(lasts, self.span.end.seconds - self._start - last.pts)
        return lasts

    def _with_times(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yields frames with their times, in seconds on the file's clock.

        A frame without a time follows its predecessor by the rate's interval; one that is not
        later than its predecessor is moved one tick behind it.
        """
        last: Fraction | None = None
        for frame in frames:
            self._timeless |= frame.pts is None
            if frame.pts is not None:
                pts = frame.pts * Fraction(frame.time_base or self._tick) - self._zero
            else:
                pts = Fraction(0) if last is None else last + 1 / self._rate
            if last is not None and pts <= last:
                pts = last + self._tick
            last = pts
            yield frame, pts

    def _within_span(
        self, timed: Iterator[tuple[VideoFrame, Fraction]]
    ) -> Iterator[tuple[VideoFrame, Fraction]]:
        for index, (frame, time) in enumerate(timed):
            if self.span.end.reached(index, time):
                return
            # Without a start, frames that lie before time 0 come too.
            if self.span.starts_early or self.span.start.reached(index, time):
                yield frame, time

    def _decode(self) -> Iterator[VideoFrame]:
        frames = self._decode_packets()
        if self.deinterlace:
            frames = Deinterlacer(self._stream)(frames)
        try:
            yield from frames
        except av.FFmpegError as error:
            raise SourceLostError(f"'{self.path}' cannot be decoded: {reason(error)}") from error

    def _decode_packets(self) -> Iterator[VideoFrame]:
        packets = 0
        end, broken = Fraction(0), False
        try:
            for packet in self._demux():
                if packet.size:
                    packets, broken = packets + 1, packet.is_corrupt
                    shown = packet.dts if packet.pts is None else packet.pts
                    if shown is not None:
                        end = max(end, (shown + (packet.duration or 0)) * packet.time_base)
                try:
                    # The empty packets at the end carry no time but flush the last frames out.
                    frames = self._decoder.decode(packet if packet.size else None)
                except av.InvalidDataError:
                    self.damaged += 1
                    continue
                self.damaged += packet.is_corrupt or any(frame.is_corrupt for frame in frames)
                yield from frames
        except av.InvalidDataError:
            self.damaged += 1
        if broken and self._container.format.name not in ends.STREAMED:
            self._refuse_cut(f"{packets - 1} whole frames", SourceLostError)
        self._refuse_cut_end(packets, end)

    def _demux(self) -> Iterator["Packet[VideoStream]"]:
        start = self._sought
        if start is None and self.span.end.frame is None:
            start = self.span.start.seconds or None
        if start is not None:
            # To the key frame before it; what lies between is decoded and dropped. Frames are
            # counted from the file's first, though.
            ticks = int((start + self._zero) / self._tick)
            self._container.seek(ticks, stream=self._stream)
        return self._container.demux(self._stream)

    def _refuse_cut_index(self) -> None:
        size = size_of(self.path)
        if "mp4" in self._container.format.name:
            # Its index lists every sample's place, also of those beyond the end of the file.
            entries = self._stream.index_entries
            samples = [entry.pos + entry.size for entry in entries if entry.size > 0]
            present = sum(end <= size for end in samples)
            if present < len(samples):
                self._refuse_cut(f"{present} of {len(samples)} frames", SourceError)
        if "matroska" in self._container.format.name:
            whole = matroska_end(self.path)
            if whole is not None and size < whole:
                self._refuse_cut(f"{size / whole:.0%} of its bytes", SourceError)

    def _refuse_cut_end(self, packets: int, end: Fraction) -> None:
        if "mp4" in self._container.format.name or self.span.start.seconds or self._sought:
            return  # its index told already, and an edit list may leave samples out
        # Frames of an AVI that repeat the one before have no data, and are no packets.
        lasts = (self._stream.duration or 0) * self._tick
        if packets < self._stream.frames and end < lasts - 1 / (2 * self._rate):
            self._refuse_cut(f"{packets} of {self._stream.frames} frames", SourceLostError)
        announced = clock.seconds_of_tag(self._stream.metadata.get("DURATION", ""))
        if not announced and end + _SLACK < ends.announced(self._container):
            announced = ends.announced(self._container)  # of all streams: its sound may be longer
            end = ends.last_time(self.path)
        if end + _SLACK < announced:
            frames = round(announced * self._rate)
            self._refuse_cut(f"{packets} of {frames} frames", SourceLostError)

    def _refuse_cut(self, present: str, kind: type[SourceError]) -> None:
        if not self.allow_truncated:
            raise kind(
                f"'{self.path}' is cut short: {present} are there; copy or download it again, or "
                "take what there is with source.allow_truncated=true"
            )

    def _upright(self, frame: VideoFrame) -> "tuple[Tensor, Tensor | None]":
        """Returns uint8 ``(H,W,3)`` and alpha ``(H,W)``, which is None where all is opaque."""
        from torch import from_numpy

        alpha = any(part.is_alpha for part in frame.format.components)
        layout = "rgba" if alpha else "rgb24"
        rgb = self._rgb.reformat(frame, format=layout, interpolation=CONVERSION)
        pixels = self._turn(frame).upright(from_numpy(rgb.to_ndarray()))
        if not alpha:
            return pixels, None
        opaque = bool((pixels[..., 3] == 255).all())
        return pixels[..., :3].contiguous(), None if opaque else pixels[..., 3].contiguous()

    def _full_depth(self, frame: VideoFrame) -> "Tensor":
        """Returns uint16 ``(H,W,3)``."""
        from torch import from_numpy

        rgb = self._deep_rgb.reformat(frame, format="rgb48le", interpolation=CONVERSION)
        return self._turn(frame).upright(from_numpy(rgb.to_ndarray()))

    def _turn(self, frame: VideoFrame) -> Orientation:
        # A codec can tell it frame by frame, as EXIF in Motion JPEG does, without mirroring.
        if self._orientation == Orientation() and frame.rotation:
            return rotation(frame.rotation)
        return self._orientation


def _decoder(stream: VideoStream) -> VideoCodecContext:
    context = stream.codec_context
    name = _WITH_ALPHA.get(context.name.removeprefix("lib"))
    if name is None or not has_alpha(stream) or name not in av.codecs_available:
        return context
    decoder = CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = context.extradata
    return decoder
