"""A video file, encoded by FFmpeg through PyAV, with the source's sound."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import reason, rename, temporary
from cbs_plugins.formats.media import CONVERSION, clock_zero, open_media, picture_stream

SUFFIXES = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
}
"""Suffix, in lower case, -> the encoder that ``codec=auto`` chooses.

AVI is not among them: it has no time stamps, and H.264 comes back from it one frame late.
"""

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""AVCOL_SPC -> SWS_CS of the matrices that swscale converts RGB with (libswscale/swscale.h)."""

_WORST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
"""Encoder -> its largest constant rate factor."""

# x264 prints about an unknown one by itself, past every log.
_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
    *("veryslow", "placebo"),
)

_FINEST = 90_000
"""Ticks a second that times without a file behind them get at least; MPEG's clock."""


@dataclass(frozen=True, slots=True)
class _Sound:
    """Packets of the source's sound and where they go."""

    container: InputContainer
    streams: dict[int, AudioStream]
    packets: Iterator["Packet[AudioStream]"]


class VideoSink:
    """Encodes frames at their own times; sound and metadata come from `StreamInfo.media`.

    The packets of every audio stream are copied bit by bit. Colours are converted and tagged with
    the matrix and range of the source. A side of odd length is kept (4:4:4 instead of 4:2:0).
    Transparency and subtitles are dropped.

    Args:
        path: file to write; the suffix, one of `SUFFIXES`, chooses the container.
        codec: FFmpeg's name of an encoder, or ``auto``.
        crf: constant rate factor of x264, x265 and VP9; lower is better and larger.
        preset: speed of x264 and x265, ``ultrafast`` to ``veryslow``.
        audio: whether to copy the sound.

    Raises:
        SinkError: where the suffix is unknown, the container cannot hold the codec or the sound,
            a frame has another size or is not later than its predecessor, or writing fails.
    """

    def __init__(
        self,
        path: str,
        codec: str = "auto",
        crf: int = 18,
        preset: str = "veryfast",
        audio: bool = True,
    ) -> None:
        self.path = Path(path).expanduser()
        self._suffix = self.path.suffix.lower()
        if self._suffix not in SUFFIXES:
            raise SinkError(
                f"'{path}' has the suffix '{self._suffix}', by which no video container is known: "
                f"choose one of {', '.join(SUFFIXES)}"
            )
        self.codec = SUFFIXES[self._suffix] if codec == "auto" else codec
        if self.codec not in av.codecs_available:
            raise SinkError(f"no encoder '{self.codec}': choose libx264, or codec=auto")
        if self.codec in _WORST and not 0 <= crf <= _WORST[self.codec]:
            raise SinkError(
                f"crf={crf} is outside 0..{_WORST[self.codec]}: 18 looks like the input"
            )
        if self.codec in ("libx264", "libx265") and preset not in _PRESETS:
            raise SinkError(f"no preset '{preset}' (there are: {', '.join(_PRESETS)})")
        self.crf = crf
        self.preset = preset
        self.audio = audio
        self._temporary: Path | None = None
        self._output: OutputContainer | None = None
        self._media: InputContainer | None = None
        self._sound: _Sound | None = None
        self._last: int | None = None

    def open(self, info: StreamInfo, /) -> None:
        """Writes the header, so that whatever the container cannot hold is known at once."""
        if self.path.is_dir():
            raise SinkError(f"'{self.path}' is a folder: name a file in it, or use sink=folder")
        if info.media and self.path.exists() and self.path.samefile(info.media):
            raise SinkError(f"'{self.path}' is the input itself: choose another output=")
        self._info = info
        self._temporary = temporary(self.path)
        try:
            self._media = open_media(info.media) if info.media else None
            source = picture_stream(self._media, info.media or "") if self._media else None
            self._tick = self._time_base(source)
            self._output = av.open(
                str(self._temporary.absolute()), "w", container_options=self._muxer_options()
            )
            self._stream = self._add_pictures(self._output, source)
            if self._media is not None:
                self._copy_tags(self._output, self._media)
                if self.audio and self._media.streams.audio:
                    self._sound = self._add_sound(self._output, self._media)
            self._output.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise SinkError(
                f"cannot write '{self.path}' with {self.codec}: {reason(error)}"
            ) from error

    def write(self, frame: RawFrame, /) -> None:
        """Encodes a frame and copies the sound up to it."""
        height, width = frame.pixels.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise SinkError(
                f"frame {frame.index} is {width}x{height}, but the video is {self._info.width}x"
                f"{self._info.height}: give a folder as output="
            )
        time = Fraction(frame.pts)
        tick = round(time / self._tick)
        if self._last is not None and tick <= self._last:
            raise SinkError(
                f"frame {frame.index} at {float(time):.6f} s is not later than the one before it "
                f"by a tick of {self._tick} s: {self._suffix} cannot hold it, choose .mp4"
            )
        self._last = tick
        picture = VideoFrame.from_ndarray(frame.pixels.cpu().numpy(), format="rgb24")
        picture = self._to_yuv.reformat(
            picture,
            format=self._stream.pix_fmt,
            interpolation=CONVERSION,
            dst_colorspace=self._matrix,
            dst_color_range=self._stream.codec_context.color_range,
        )
        picture.pts, picture.time_base = tick, self._tick
        self._mux(self._stream.encode(picture))
        self._copy_sound(until=time)

    def close(self, *, complete: bool = True) -> None:
        """Finishes the file; with no frame written, nothing is left."""
        if self._output is None or self._temporary is None or self._last is None:
            self.abort()
            return
        self._mux(self._stream.encode(None))
        end = self._last * self._tick + 1 / self._info.rate
        self._copy_sound(until=None if complete else end)
        try:
            self._output.close()
        except av.FFmpegError as error:
            raise self._failure(error) from error
        self._output = None
        self._close_media()
        rename(self._temporary, self.path)
        self._temporary = None

    def abort(self) -> None:
        """Removes the unfinished file."""
        if self._output is not None:
            with suppress(av.FFmpegError):  # on a full disk closing fails as writing did
                self._output.close()
            self._output = None
        self._close_media()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close_media(self) -> None:
        self._sound = None
        if self._media is not None:
            self._media.close()
            self._media = None

    def _add_pictures(self, output: OutputContainer, source: VideoStream | None) -> VideoStream:
        info = self._info
        stream = output.add_stream(
            self.codec,
            rate=info.rate,
            options=self._options(),
            width=info.width,
            height=info.height,
            time_base=self._tick,
        )
        if not isinstance(stream, VideoStream):
            raise ValueError(f"{self.codec} encodes no pictures")
        context = stream.codec_context
        # 4:2:0 shares colour among 2x2 pixels, which an odd side cannot.
        stream.pix_fmt = "yuv444p" if info.width % 2 or info.height % 2 else "yuv420p"
        self._matrix: int | None = None
        self._to_yuv = VideoReformatter()
        if source is not None:
            tags = source.codec_context
            context.color_range = tags.color_range
            context.color_primaries = tags.color_primaries
            context.color_trc = tags.color_trc
            # Untagged, swscale takes BT.601 both ways, so that the values come back the same.
            self._matrix = _MATRICES.get(tags.colorspace)
            if self._matrix is not None:
                context.colorspace = tags.colorspace
            if source.sample_aspect_ratio:
                turned = (
                    (info.width, info.height)
                    == (tags.height, tags.width)
                    != (
                        tags.width,
                        tags.height,
                    )
                )
                ratio = source.sample_aspect_ratio
                context.sample_aspect_ratio = 1 / ratio if turned else ratio
            stream.metadata.update(source.metadata)
        return stream

    def _time_base(self, source: VideoStream | None) -> Fraction:
        interval = 1 / self._info.rate
        if source is not None and source.time_base:
            return Fraction(source.time_base)
        # A whole part of the interval, so that index / rate is exact.
        return interval / max(round(_FINEST * interval), 1)

    def _muxer_options(self) -> dict[str, str]:
        if self._suffix in (".mkv", ".webm"):
            # It would delay everything by the sound's priming samples, which lie before time 0.
            return {"avoid_negative_ts": "disabled"}
        # Where a stream starts is written in these units; the default is a millisecond.
        sound = self._media.streams.audio if self._media else ()
        units = [unit.time_base.denominator for unit in sound if unit.time_base]
        scale = math.lcm(self._tick.denominator, *units)
        return {"movie_timescale": str(scale if scale < 2**31 else self._tick.denominator)}

    def _options(self) -> dict[str, str]:
        return {
            "libx264": {"crf": str(self.crf), "preset": self.preset},
            "libx265": {"crf": str(self.crf), "preset": self.preset},
            # VP9's default is slower than the nets are.
            "libvpx-vp9": {
                "crf": str(self.crf),
                "b": "0",
                "deadline": "good",
                "cpu-used": "5",
                "row-mt": "1",
            },
        }.get(self.codec, {})

    def _copy_tags(self, output: OutputContainer, media: InputContainer) -> None:
        own = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        output.metadata.update({k: v for k, v in media.metadata.items() if k.lower() not in own})

    def _add_sound(self, output: OutputContainer, media: InputContainer) -> _Sound:
        streams = {}
        for source in media.streams.audio:
            try:
                copy = output.add_stream_from_template(source)
            except (av.FFmpegError, ValueError) as error:
                name = source.codec_context.name if source.codec_context else "unknown"
                raise SinkError(
                    f"{self._suffix} cannot hold the source's {name} sound: write .mkv, or leave "
                    "it out with sink.audio=false"
                ) from error
            copy.metadata.update(source.metadata)
            copy.disposition = source.disposition
            streams[source.index] = copy
        return _Sound(media, streams, self._sound_packets(media, tuple(media.streams.audio)))

    @staticmethod
    def _sound_packets(
        media: InputContainer, streams: tuple[AudioStream, ...]
    ) -> Iterator["Packet[AudioStream]"]:
        zero = clock_zero(media)
        with suppress(av.InvalidDataError):  # a cut file's sound ends where its data ends
            for packet in media.demux(streams):
                if packet.size == 0:
                    continue
                shift = round(zero / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                yield packet

    def _copy_sound(self, until: Fraction | None) -> None:
        """Copies packets up to the first that begins later than ``until`` seconds."""
        while self._sound is not None:
            packet = next(self._sound.packets, None)
            if packet is None:
                self._sound = None
                return
            time = (packet.pts or 0) * packet.time_base
            packet.stream = self._sound.streams[packet.stream.index]
            self._mux([packet])
            if until is not None and time > until:
                return

    def _mux(self, packets: "Sequence[Packet[VideoStream] | Packet[AudioStream]]") -> None:
        assert self._output is not None
        try:
            self._output.mux(packets)
        except av.FFmpegError as error:
            raise self._failure(error) from error

    def _failure(self, error: av.FFmpegError) -> SinkError:
        return SinkError(
            f"writing '{self.path}' failed: {reason(error)}; free some space or choose another "
            "place with output="
        )
