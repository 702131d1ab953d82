"""Media containers, as the video source reads them and the video sink copies sound from them."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from cbs_core.contract.errors import SourceError
from cbs_plugins.formats.files import input_file, reason

CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How swscale converts between YUV and RGB.

Its faster default darkens luma by one level each way there and back, which shows as a seam
between background frames that went through it once and twice; with exact rounding it does not.
"""


def open_media(path: str | Path) -> InputContainer:
    """Opens a media file for reading.

    Raises:
        SourceError: where it is missing, empty or no media file.
    """
    file = input_file(path)
    try:
        return av.open(
            # Absolute, because FFmpeg takes "12:30.mp4" for a protocol named 12.
            str(file.absolute()),
            # A playlist that calls itself a video may not reach the network.
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
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


def picture_stream(container: InputContainer, path: str | Path) -> VideoStream:
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
