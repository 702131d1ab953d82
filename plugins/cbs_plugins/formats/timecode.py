"""Time codes of video (SMPTE 12M), as FFmpeg's tags hold them."""

from fractions import Fraction

from av.video.stream import VideoStream


def timecode(source: VideoStream, start: Fraction) -> str | None:
    """Returns the time code, of a stream or a track beside it, that it has at ``start`` seconds.

    One that drops frames (``;``) is not counted on: it is left out behind a cut.
    """
    rate = source.average_rate or Fraction(25)
    for stream in (source, *source.container.streams):
        for key, value in stream.metadata.items():
            if key.lower() != "timecode":
                continue
            parts = str(value).split(":")
            if not start or len(parts) != 4 or not all(part.isdecimal() for part in parts):
                return None if start else str(value)
            base = round(rate)
            hours, minutes, seconds, frames = map(int, parts)
            count = ((hours * 60 + minutes) * 60 + seconds) * base + frames + round(start * rate)
            seconds, frames = divmod(count, base)
            return (
                f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"
            )
    return None
