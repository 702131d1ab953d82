"""A video file, encoded by FFmpeg through PyAV, with the source's sound."""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import RawFrame, Segment, StreamInfo
from cbs_core.machine.files import free
from cbs_core.machine.unfinished import left_over, remove, told
from cbs_plugins.formats.encoding import Encoding
from cbs_plugins.formats.picture_tags import not_held
from cbs_plugins.formats.video_colours import check_format
from cbs_plugins.formats.video_file import VideoFile

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

_TRANSPARENT = {".mov": "prores_ks", ".mkv": "libvpx-vp9", ".webm": "libvpx-vp9"}
"""Suffix -> the encoder that ``codec=auto`` chooses where transparency is what is written."""

CRF, PRESET = 18, "veryfast"
"""What is taken where nothing is said."""

_MATTE_CRF = 4
"""Of a matte, whose edges would ring at the one of pictures."""

_WORST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
"""Encoder -> its largest constant rate factor."""

# x264 prints about an unknown one by itself, past every log.
_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
    *("veryslow", "placebo"),
)

Resize = Literal["scale", "split"]

_PATIENCE = 1
"""Seconds that `VideoSink.abort` waits for a frame that another thread is writing."""


class VideoSink:
    """Encodes frames at their own times; all else comes from the file `StreamInfo.media`.

    Sound, subtitles, cover art, attachments, chapters and tags are copied bit by bit, as far as the
    container can hold them; ``notes`` tells what it could not. Colours are converted and tagged
    with the matrix and range of the source, and sampled as there where the encoder can. A side of
    odd length is kept (4:4:4 instead of 4:2:0).

    Args:
        path: file to write; the suffix, one of `SUFFIXES`, chooses the container.
        codec: FFmpeg's name of an encoder, or ``auto``.
        crf: constant rate factor of x264, x265 and VP9; lower is better and larger.
        preset: speed of x264 and x265, ``ultrafast`` to ``veryslow``.
        audio: whether to copy the sound.
        size: ``1280x720`` to scale to; ``1280x`` or ``x720`` keeps the proportions.
        pixel_format: FFmpeg's name, or ``auto``: the source's sampling of colours, and its
            transparency, where the encoder has them.
        on_resize: where frames change their size: ``scale`` them to the first one's, or ``split``
            the video, each size in a file of its own.

    Raises:
        SinkError: where the suffix is unknown, the container cannot hold the codec or the sound,
            or writing fails before there is a film.
        SinkLostError: a frame is not later than its predecessor, or writing fails: the film so far
            stays, at most a second shorter than its frames.
    """

    def __init__(
        self,
        path: str,
        codec: str = "auto",
        crf: int = CRF,
        preset: str = PRESET,
        audio: bool = True,
        size: str | None = None,
        pixel_format: str = "auto",
        on_resize: Resize = "scale",
    ) -> None:
        self.path = Path(path).expanduser()
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SinkError(
                f"'{path}' has the suffix '{suffix}', by which no video container is known: "
                f"choose one of {', '.join(SUFFIXES)}"
            )
        self.codec = SUFFIXES[suffix] if codec == "auto" else codec
        self._chosen, self._crf, self._preset = codec, crf, preset
        self._bare = False
        if on_resize not in ("scale", "split"):
            raise SinkError(f"on_resize='{on_resize}' is unknown: choose scale or split")
        self.on_resize = on_resize
        self.size = size
        _read_size(size, 1, 1)
        options = _options(self.codec, crf, preset)
        if codec == "auto":
            _options("libx264", CRF, preset)  # of files beside this one that are .mp4
        if pixel_format != "auto":
            transparent = _TRANSPARENT.get(suffix, self.codec) if codec == "auto" else codec
            check_format(pixel_format, self.codec, transparent)
        self._encoding = Encoding(self.codec, options, pixel_format, audio, None)
        self.notes: tuple[str, ...] = ()
        self.kept: int | None = None
        self._taken = self._earlier = 0
        self._left: list[Path] = []
        self._file: VideoFile | None = None
        self._busy = threading.RLock()

    def open(self, info: StreamInfo, /) -> None:
        """Writes the header, so that whatever the container cannot hold is known at once."""
        self._prepare(info)
        self._file = VideoFile(self.path, self._encoding, info, bare=self._bare)
        self._note(*self._file.notes)
        self._frame_size = (info.width, info.height)

    def _prepare(self, info: StreamInfo) -> None:
        if self.path.is_dir():
            raise SinkError(f"'{self.path}' is a folder: name a file in it, or use sink=folder")
        here = isinstance(info.media, Path) and self.path.exists()
        if here and self.path.samefile(info.media):  # type: ignore[arg-type]
            raise SinkError(f"'{self.path}' is the input itself: choose another output=")
        self._info = info
        suffix = self.path.suffix.lower()
        if info.transparent and self._chosen == "auto":
            self.codec = _TRANSPARENT.get(suffix, self.codec)
        crf = min(self._crf, _MATTE_CRF) if info.matte else self._crf
        self._encoding = replace(
            self._encoding,
            codec=self.codec,
            options=_options(self.codec, crf, self._preset),
            size=_read_size(self.size, info.width, info.height),
        )
        self._left = left_over(self.path)
        self._note(*told(self._left, self.path), *_unheard(self.codec, self._crf, self._preset))

    def segment(self, path: Path, /) -> "VideoSink":
        """Returns a sink that writes pictures alone, as this one does, under another path."""
        if self.on_resize == "split":
            raise SinkError("sink.on_resize=split and segments do not go together: say scale")
        encoding = self._encoding
        other = VideoSink(
            str(path),
            self._chosen,
            self._crf,
            self._preset,
            encoding.audio,
            self.size,
            encoding.pixel_format,
        )
        other._bare = True
        return other

    def join(self, segments: Sequence[Segment], info: StreamInfo, /) -> None:
        """Writes the file from segments; sound and all else is copied as always."""
        self._prepare(info)
        self._file = VideoFile(self.path, self._encoding, info)
        try:
            with self._busy:
                self._file.join(segments)
                self._close(complete=True)
        except BaseException:
            self.abort()
            raise

    def write(self, frame: RawFrame, /) -> None:
        """Encodes a frame and copies the sound up to it."""
        with self._busy:
            self._write(frame)

    def _write(self, frame: RawFrame) -> None:
        assert self._file is not None
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        if size != self._frame_size:
            self._resize(frame, size)
            self._frame_size = size
        self._file.write(frame)
        self._taken += 1
        if self._file.transparency_lost:
            self._note(
                f"{self.codec} in '{self.path.suffix}' holds no transparency, which is dropped: "
                ".webm, or .mov by sink.codec=prores_ks, keeps it"
            )
        if frame.still is not None and (lost := not_held("", frame.still)):
            self._note(f"a video does not hold {', '.join(lost)} of pictures: a folder does")

    def _resize(self, frame: RawFrame, size: tuple[int, int]) -> None:
        assert self._file is not None
        (width, height), (first, second) = size, self._frame_size
        if self.on_resize == "scale":
            across, down = self._file.size
            self._note(
                f"frames change their size from {first}x{second} to {width}x{height} at frame "
                f"{frame.index}; all are scaled to {across}x{down}, and sink.on_resize=split "
                "writes a file each"
            )
            return
        path = self._file.path
        if not self._file.empty:
            self._file.close(complete=False, end=Fraction(frame.pts))
            self._earlier = self._taken
            self._note(*self._file.notes)
            path = free(self.path)
            self._note(
                f"frames change their size to {width}x{height} at frame {frame.index}: they are "
                f"in '{path.name}'"
            )
        else:
            self._file.discard()
        target = _read_size(self.size, width, height) or size
        self._file = VideoFile(
            path,
            replace(self._encoding, size=target),
            self._info,
            start=Fraction(frame.pts),
            size=size,
        )

    def close(self, *, complete: bool = True) -> None:
        """Finishes the file; with no frame written, nothing is left."""
        with self._busy:
            self._close(complete)

    def _close(self, complete: bool) -> None:
        if self._file is None or self._file.empty:
            self.abort()
            return
        self._file.close(complete=complete and not self._info.cut)
        if self._file.kept is not None:
            self.kept = self._earlier + self._file.kept
        self._note(*self._file.notes)
        self._file = None
        if complete:
            remove(self._left)

    def abort(self) -> None:
        """Removes the unfinished file, also while another thread is writing it."""
        if self._file is None:
            return
        # First, for Ctrl-C that is pressed again may end the wait.
        self._file.forget()
        if self._busy.acquire(timeout=_PATIENCE):
            try:
                if self._file is not None:
                    self._file.discard()
                self._file = None
            finally:
                self._busy.release()

    def _note(self, *lines: str) -> None:
        self.notes += tuple(line for line in lines if line not in self.notes)


def _unheard(codec: str, crf: int, preset: str) -> Iterator[str]:
    """Yields what was asked for and this encoder does not know."""
    heard = _options(codec, crf, preset)
    if crf != CRF and "crf" not in heard:
        yield f"the encoder {codec} knows no crf, so sink.crf={crf} changes nothing"
    if preset != PRESET and "preset" not in heard:
        yield f"the encoder {codec} knows no preset, so sink.preset={preset} changes nothing"


def _options(codec: str, crf: int, preset: str) -> dict[str, str]:
    """Returns the options of an encoder.

    Raises:
        SinkError: there is no such encoder, or a value is outside of what it takes.
    """
    if codec not in av.codecs_available:
        raise SinkError(f"no encoder '{codec}': choose libx264, or codec=auto")
    if codec in _WORST and not 0 <= crf <= _WORST[codec]:
        raise SinkError(f"crf={crf} is outside 0..{_WORST[codec]}: 18 looks like the input")
    if codec in ("libx264", "libx265") and preset not in _PRESETS:
        raise SinkError(f"no preset '{preset}' (there are: {', '.join(_PRESETS)})")
    return {
        "libx264": {"crf": str(crf), "preset": preset},
        # It prints about itself otherwise, past every log.
        "libx265": {"crf": str(crf), "preset": preset, "x265-params": "log-level=none"},
        # VP9's default is slower than the nets are.
        "libvpx-vp9": {
            "crf": str(crf),
            "b": "0",
            "deadline": "good",
            "cpu-used": "5",
            "row-mt": "1",
        },
    }.get(codec, {})


def _read_size(text: str | None, width: int, height: int) -> tuple[int, int] | None:
    """Returns the width and height that ``size`` asks for of a frame.

    Raises:
        SinkError: it is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})?x([1-9][0-9]{0,4})?", str(text))
    if match is None or not any(match.groups()):
        raise SinkError(f"sink.size={text} is no size: give 1280x720, or 1280x or x720")
    across, down = (int(side) if side else None for side in match.groups())
    # Even, as most encoders and players want it.
    if across is None and down is not None:
        across = max(round(width * down / height / 2) * 2, 2)
    if down is None and across is not None:
        down = max(round(height * across / width / 2) * 2, 2)
    assert across is not None
    assert down is not None
    return across, down
