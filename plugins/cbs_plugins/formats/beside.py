"""What a folder of pictures lacks of the video that they were made from."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from cbs_core.contract.stored import Stored
from cbs_core.contract.types import RawFrame
from cbs_plugins.formats.media import open_media, picture_stream, pixel_aspect
from cbs_plugins.formats.sei import captions
from cbs_plugins.formats.tracks import missing_from
from cbs_plugins.formats.video_colours import curve

_UNEVEN = Fraction(1, 10)
"""Part of an interval by which others may be longer: containers round times."""


def not_beside(media: Path | Stored, sound: Path | None) -> Iterator[str]:
    """Yields a line for each kind of thing that a video holds and neither pictures nor sound do.

    Args:
        media: the video.
        sound: the file of its sound beside the pictures, where there is one.
    """
    with open_media(media) as film:
        main = picture_stream(film, media)
        ratio, hdr = pixel_aspect(main), curve(main)
        if sound is None:
            lost = missing_from(None, film, audio=False, main=main)
        else:
            with open_media(sound) as written:
                lost = missing_from(written, film, audio=True, main=main)
    lost += captions(media)
    if lost:
        yield f"not beside the pictures: {', '.join(lost)}"
    if hdr:
        yield f"pictures do not tell that the colours of '{media.name}' are HDR by {hdr}"
    if ratio != 1:
        yield (
            f"pixels of '{media.name}' are {float(ratio):.3g} times as wide as high, which "
            "pictures do not tell"
        )


class Rhythm:
    """Watches whether pictures come evenly."""

    def __init__(self) -> None:
        self._seen: list[Fraction] = []
        self._last: Fraction | None = None

    def __call__(self, frame: RawFrame) -> None:
        """Looks at the next frame."""
        if self._last is not None:
            self._see(frame.pts - self._last)
        self._last = frame.pts

    def uneven(self, last: Fraction | None) -> Iterator[str]:
        """Yields a line where pictures are shown for longer and shorter.

        Args:
            last: seconds that the last one is shown, where that is known.
        """
        if last is not None:
            self._see(last)
        shortest, longest = self._seen or (Fraction(1), Fraction(1))
        if longest > shortest * (1 + _UNEVEN):
            yield (
                f"frames are shown for {float(shortest):.3g} to {float(longest):.3g} seconds, "
                "which a folder does not tell"
            )

    def _see(self, interval: Fraction) -> None:
        self._seen = [min([interval, *self._seen]), max([interval, *self._seen])]
