"""How the pictures of a video are encoded."""

from dataclasses import dataclass


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
