"""A video's sound as a file of its own, for pictures that have nowhere to put it."""

from fractions import Fraction
from pathlib import Path

import av

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.contract.stored import Stored
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.media import clock_zero, open_media
from cbs_plugins.formats.tracks import Tracks

STEM = "sound"
"""Of the file's name."""

_FILES = {"aac": ".m4a", "alac": ".m4a", "mp3": ".mp3", "flac": ".flac", "opus": ".opus"}
"""Codec -> the suffix by which editors know it; PCM is ``.wav``, and Matroska holds all others."""

_TIMED = {".wav": ".mov", ".mp3": ".mp4", ".flac": ".mp4"}
"""Suffix of a format without times -> one that tells where between two packets the sound begins."""


def write_sound(
    folder: Path, media: Path | Stored, start: Fraction, end: Fraction | None
) -> tuple[str, list[str]]:
    """Copies the sound of a video, bit by bit.

    Args:
        folder: where the file, named `STEM`, goes.
        media: the video.
        start: seconds on its clock that are 0.
        end: seconds from there where the sound ends; None is its own end.

    Returns:
        The file's name, empty where there is no sound, and what of that is not exact.

    Raises:
        SinkError: it cannot be written; nothing is left of it.
        SourceError: likewise, for the video cannot be read any more.
    """
    with open_media(media) as source:
        streams = source.streams.audio
        if not streams:
            return "", []
        codecs = {s.codec_context.name if s.codec_context else "" for s in streams}
        name = _name(codecs) if len(streams) == 1 else f"{STEM}.mka"
        if start or _begins(media):
            name = f"{STEM}{_TIMED.get(Path(name).suffix, Path(name).suffix)}"
        path = folder / name
        try:
            # The container is told, for ".mka" and ".m4a" are no names that `Tracks` goes by.
            matroska = path.suffix == ".mka"
            with av.open(str(path.absolute()), "w") as output:
                tracks = Tracks(
                    output,
                    source,
                    ".webm" if matroska else ".mp4",
                    audio=True,
                    start=start,
                    only_audio=True,
                )
                output.start_encoding()
                for packet in tracks.until(end, exact=end is not None):
                    output.mux(packet)
        except (SourceError, av.FFmpegError, ValueError, OSError) as error:
            path.unlink(missing_ok=True)
            if isinstance(error, SourceError):
                raise
            raise SinkError(
                f"the sound cannot be written as '{name}' ({reason(error)}): leave it out with "
                "sink.audio=false"
            ) from error
        return name, tracks.notes


def _begins(media: Path | Stored) -> Fraction:
    """Returns when a file's sound begins, with what a decoder drops of it, seconds on its clock."""
    with open_media(media) as source:
        stream = source.streams.audio[0]
        first = next((packet for packet in source.demux(stream) if packet.size), None)
        if first is None or first.pts is None:
            return Fraction(0)
        return first.pts * first.time_base - clock_zero(source)


def _name(codecs: set[str]) -> str:
    (codec,) = codecs
    suffix = ".wav" if codec.startswith("pcm_") else _FILES.get(codec.removesuffix("float"), ".mka")
    return f"{STEM}{suffix}"
