"""Media containers, as the video source reads them and the video sink copies sound from them."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from cbs_core.errors import SourceError
from cbs_plugins.files import input_file, reason

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
            f"'{file}' is no video that can be read ({reason(error)}): give an .mp4, .mkv, .mov "
            "or .webm file"
        ) from error


def picture_stream(container: InputContainer, path: str | Path) -> VideoStream:
    """Returns the main picture stream; cover art is none.

    Raises:
        SourceError: where there is none, or no decoder for it.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = sorted({stream.type for stream in container.streams})
        raise SourceError(
            f"'{path}' holds no pictures ({', '.join(kinds) or 'nothing'} only): "
            "give a file with a video stream"
        )
    if stream.codec_context is None:
        raise SourceError(f"'{path}' has a video codec that is not supported: convert it to H.264")
    return stream


def clock_zero(container: InputContainer) -> Fraction:
    """Returns the time, in seconds on the file's clock, that counts as 0.

    It is 0 but for formats whose clock starts anywhere, such as MPEG-TS; there it is the first
    time stamp of all streams, so that sound and picture stay together.
    """
    discontinuous = Flags.ts_discont in Flags(container.format.flags)
    return Fraction(container.start_time or 0, 1_000_000) if discontinuous else Fraction(0)
