"""How pictures are encoded: those of a video, and stills."""

from dataclasses import dataclass

from cbs_core.contract.errors import SinkError


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are encoded."""

    codec: str
    """FFmpeg's name of the encoder."""

    options: dict[str, str]
    """Of the encoder."""

    pixel_format: str
    """FFmpeg's name, or ``auto``."""

    audio: bool
    """Whether sound is copied."""

    size: tuple[int, int] | None
    """Width and height to scale to; None is the stream's."""


def check_still(quality: int, compress_level: int) -> None:
    """Refuses numbers that no encoder of stills takes.

    Args:
        quality: of JPEG and WebP.
        compress_level: of PNG.

    Raises:
        SinkError: one is out of range.
    """
    if not 1 <= quality <= 100 or not 0 <= compress_level <= 9:
        raise SinkError(
            "sink.quality must be 1 to 100 and sink.compress_level 0 to 9, not "
            f"{quality} and {compress_level}"
        )
