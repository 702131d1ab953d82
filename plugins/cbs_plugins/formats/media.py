"""Media containers, as the video source reads them and the video sink copies sound from them."""

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from cbs_core.contract.errors import SourceError
from cbs_core.contract.stored import Stored
from cbs_plugins.formats import playlists
from cbs_plugins.formats.files import input_file, opened, reason

if TYPE_CHECKING:
    from torch import Tensor

CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How swscale converts between YUV and RGB.

Its faster default darkens luma by one level each way there and back, which shows as a seam
between background frames that went through it once and twice; with exact rounding it does not.
"""


def open_media(path: str | Path | Stored) -> InputContainer:
    """Opens a media file for reading; one in a store by ranges, as they are needed.

    Raises:
        SourceError: where it is missing, empty or no media file.
    """
    if isinstance(path, Stored):
        return _open_stored(path)
    file = input_file(path)
    playlists.refuse_lists(file)
    guard = playlists.Guard(file) if playlists.is_playlist(file) else None
    try:
        container = av.open(
            # Absolute, because FFmpeg takes "12:30.mp4" for a protocol named 12.
            str(file.absolute()),
            # A playlist that calls itself a video may not reach the network.
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
            io_open=guard,
            timeout=playlists.TIMEOUT if guard else None,
        )
        if guard:
            guard.opening = False
        return container
    except (av.FFmpegError, ValueError) as error:
        with file.open("rb") as head:
            is_mp4 = head.read(8)[4:] == b"ftyp"
        if is_mp4:
            raise SourceError(
                f"'{file}' is cut short: the index at its end (moov) is missing; "
                "copy or download it again"
            ) from error
        raise SourceError(
            f"'{file}' is no video, or is cut short or damaged ({reason(error)}): give an .mp4, "
            ".mkv, .mov or .webm file that plays"
        ) from error


def _open_stored(file: Stored) -> InputContainer:
    handle = opened(file)
    if handle.read(16).lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U"):
        raise SourceError(f"'{file}' is a playlist, which is not read from a store: name a video")
    handle.seek(0)
    try:
        # It may name nothing further, neither here nor elsewhere.
        container = av.open(
            handle, container_options={"protocol_whitelist": "none"}, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError, OSError) as error:
        raise SourceError(
            f"'{file}' is no video, or is cut short or damaged ({reason(error)}): give an .mp4, "
            ".mkv, .mov or .webm file that plays"
        ) from error
    assert isinstance(container, InputContainer)
    return container


def picture_stream(container: InputContainer, path: str | Path | Stored) -> VideoStream:
    """Returns the main picture stream; cover art is none.

    Raises:
        SourceError: where there is none, or no decoder for it.
    """
    stream = container.streams.best("video")
    if not len(container.streams):
        raise SourceError(f"'{path}' is cut short: its index is damaged; copy or download it again")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = sorted({stream.type for stream in container.streams})
        raise SourceError(
            f"'{path}' holds no pictures ({', '.join(kinds)} only): give a file with a video stream"
        )
    if stream.codec_context is None:
        raise SourceError(f"'{path}' has a video codec that is not supported: convert it to H.264")
    return stream


def clock_zero(container: InputContainer) -> Fraction:
    """Returns the time, in seconds on the file's clock, that counts as 0.

    It is 0 but for formats whose clock starts anywhere, such as MPEG-TS; there it is the first
    time stamp of all streams, so that sound and picture stay together.
    """
    if Flags.ts_discont not in Flags(container.format.flags):
        return Fraction(0)
    # Not the container's own start_time, which is rounded to microseconds.
    return min(
        (
            stream.start_time * stream.time_base
            for stream in container.streams
            if stream.start_time is not None and stream.time_base is not None
        ),
        default=Fraction(0),
    )


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a coded picture becomes upright: sides swapped first, then flipped."""

    turned: bool = False
    """Whether rows and columns swap."""

    flips: tuple[int, ...] = ()
    """Dimensions that are reversed after that, 0 the rows and 1 the columns."""

    def upright(self, pixels: "Tensor") -> "Tensor":
        """Returns ``(H, W, ...)`` upright, contiguous."""
        if self.turned:
            pixels = pixels.transpose(0, 1)
        return pixels.flip(self.flips).contiguous()


_ROTATIONS = {
    90: Orientation(True, (0,)),
    180: Orientation(False, (0, 1)),
    270: Orientation(True, (1,)),
}
"""Degrees counterclockwise -> what turns a picture by them."""


def rotation(degrees: int) -> Orientation:
    """Returns the orientation that turns by some degrees counterclockwise, to the nearest 90."""
    return _ROTATIONS.get(round(degrees / 90) * 90 % 360, Orientation())


def header_of(stream: VideoStream) -> bytes:
    """Returns what a container states for a stream, as an MP4's header; empty where none holds it.

    It is written anew, into memory, from what FFmpeg read.
    """
    header = io.BytesIO()
    # Dolby Vision is written only where that is asked for.
    options = {"movflags": "empty_moov", "strict": "unofficial"}
    for kind in ("mp4", "mov"):  # each holds codecs that the other does not: VP9, ProRes
        try:
            with av.open(header, "w", format=kind, options=options) as copy:
                copy.add_stream_from_template(stream)
                copy.start_encoding()
                return header.getvalue()
        except (av.FFmpegError, ValueError):
            continue
    return b""


def orientation(stream: VideoStream) -> Orientation:
    """Returns the orientation that the container states for a stream.

    PyAV hands it out with the frames only, through an object that it builds of all their side data
    and that crashes on an ICC profile and on EXIF (as of version 18). So it is read from
    `header_of` the stream, where the matrix has its place.
    """
    data = header_of(stream)
    box = data.find(b"tkhd")
    if box < 0:
        return Orientation()
    # x' = a x + c y, y' = b x + d y (libavutil/display.h), here by multiples of 90 degrees;
    # ISO/IEC 14496-12, 8.3.2: the matrix begins 44 bytes behind the name of a version 0 box.
    a, b, _, c, d, *_ = struct.unpack(">9i", data[box + 44 : box + 80])
    turned = abs(b) > abs(a)
    if turned:
        a, d = c, b
    return Orientation(turned, tuple(dim for dim, sign in ((0, d), (1, a)) if sign < 0))


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Returns the width of a pixel over its height, in the upright picture."""
    ratio = Fraction(stream.sample_aspect_ratio or 1)
    return 1 / ratio if ratio != 1 and orientation(stream).turned else ratio


def has_alpha(stream: VideoStream) -> bool:
    """Whether a stream has transparency, also where its usual decoder leaves that out."""
    pixels = stream.codec_context.format
    coded = pixels is not None and any(part.is_alpha for part in pixels.components)
    return coded or {k.lower(): v for k, v in stream.metadata.items()}.get("alpha_mode") == "1"


def matroska_end(path: Path | Stored) -> int | None:
    """Returns at which byte a Matroska file's one segment ends, None where it does not say.

    A file that is still being written, or that was never closed, does not (RFC 8794, 6.2).
    """
    with opened(path) as file:
        head = file.read(4096)
    place = head.find(b"\x18\x53\x80\x67")
    if place < 0 or place + 12 > len(head):
        return None
    place += 4
    width = 9 - head[place].bit_length()
    if not 1 <= width <= 8:
        return None
    value = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else place + width + value
