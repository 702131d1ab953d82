"""A video file, decoded by FFmpeg through PyAV."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
import torch
from av.buffer import Buffer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.media import CONVERSION, clock_zero, open_media, picture_stream

_SLACK = Fraction(1, 2)
"""Seconds by which a stream may end before its announced end and still count as whole."""


class VideoSource:
    """Gives the frames of a video, upright, at the times that the file states.

    Colours are converted with the stream's own matrix and range. After a damaged packet decoding
    goes on; ``damaged`` counts such packets; frames that the decoder withholds leave a gap in time.

    Args:
        path: the file.
        allow_truncated: whether to take what there is of a file that was cut short.

    Raises:
        SourceError: where the file is no video, or is cut short: from `__enter__` where its index
            tells, else at its end.
    """

    info: StreamInfo

    def __init__(self, path: str, allow_truncated: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.allow_truncated = allow_truncated
        self.damaged = 0

    def __enter__(self) -> Self:
        """Opens the file and decodes the first frame, which alone tells the upright size."""
        self._container = open_media(self.path)
        try:
            self._stream = picture_stream(self._container, self.path)
            self._refuse_cut_index()
            # Frame threads deadlock beside torchvision's own FFmpeg (PyAV as of version 18).
            self._stream.thread_type = "SLICE"
            self._rgb = VideoReformatter()
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise SourceError(
                    f"no frame of '{self.path}' can be decoded: it is cut short or damaged; "
                    "copy or download it again"
                )
            self._frames = chain([first], self._frames)
            height, width = self._upright(first).shape[:2]
        except BaseException:
            self._container.close()
            raise
        self._rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.info = StreamInfo(
            width,
            height,
            rate=self._rate,
            frames=self._stream.frames or None,
            media=self.path,
            name=self.path.stem,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes the file."""
        self._container.close()

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames; their times increase strictly.

        A frame without a time follows its predecessor by the rate's interval; one that is not
        later than its predecessor is moved one tick behind it.
        """
        zero = clock_zero(self._container)
        tick = Fraction(self._stream.time_base or Fraction(1, 90_000))
        last: Fraction | None = None
        for index, frame in enumerate(self._frames):
            if frame.pts is not None:
                pts = frame.pts * tick - zero
            else:
                pts = Fraction(0) if last is None else last + 1 / self._rate
            if last is not None and pts <= last:
                pts = last + tick
            last = pts
            yield RawFrame(self._upright(frame), index, pts)

    def _decode(self) -> Iterator[VideoFrame]:
        packets = 0
        end = Fraction(0)
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    packets += 1
                    if packet.pts is not None:
                        end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                try:
                    # The empty packets at the end carry no time but flush the last frames out.
                    frames = packet.decode()
                except av.InvalidDataError:
                    self.damaged += 1
                    continue
                self.damaged += packet.is_corrupt or any(frame.is_corrupt for frame in frames)
                yield from frames
        except av.InvalidDataError:
            self.damaged += 1
        except av.FFmpegError as error:
            raise SourceError(f"'{self.path}' cannot be decoded: {reason(error)}") from error
        self._refuse_cut_end(packets, end)

    def _refuse_cut_index(self) -> None:
        # An MP4's index lists every sample's place, also of those beyond the end of the file.
        size = self.path.stat().st_size
        samples = [entry.pos + entry.size for entry in self._stream.index_entries if entry.size > 0]
        present = sum(end <= size for end in samples)
        if present < len(samples):
            self._refuse_cut(present, len(samples))

    def _refuse_cut_end(self, packets: int, end: Fraction) -> None:
        if "mp4" in self._container.format.name:
            return  # its index told already, and an edit list may leave samples out
        if packets < self._stream.frames:
            self._refuse_cut(packets, self._stream.frames)
        announced = _seconds(self._stream.metadata.get("DURATION", ""))
        if end + _SLACK < announced:
            self._refuse_cut(packets, round(announced * self._rate))

    def _refuse_cut(self, present: int, whole: int) -> None:
        if not self.allow_truncated:
            raise SourceError(
                f"'{self.path}' is cut short: {present} of {whole} frames are there; copy or "
                "download it again, or take what there is with source.allow_truncated=true"
            )

    def _upright(self, frame: VideoFrame) -> Tensor:
        rgb = self._rgb.reformat(frame, format="rgb24", interpolation=CONVERSION)
        pixels = torch.from_numpy(rgb.to_ndarray())
        # PyAV's stubs name only one kind of side data.
        display = cast(Mapping[Type, Buffer], frame.side_data).get(Type.DISPLAYMATRIX)
        if display is None:
            return pixels
        # x' = a x + c y, y' = b x + d y (libavutil/display.h), here by multiples of 90 degrees.
        matrix = np.frombuffer(bytes(display), np.int32)
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if abs(b) > abs(a):
            pixels = pixels.transpose(0, 1)
            a, d = c, b
        flips = [dim for dim, sign in ((0, d), (1, a)) if sign < 0]
        return pixels.flip(flips).contiguous()


def _seconds(clock: str) -> Fraction:
    """Returns the seconds of a Matroska ``HH:MM:SS.nnn`` tag, 0 where it is none."""
    try:
        hours, minutes, seconds = clock.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)
