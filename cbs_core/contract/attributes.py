"""What a plugin may tell of itself beside its interface, each by an attribute."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class HasGoodSize(Protocol):
    """A segmenter or a styler that says what pictures it is good at: those that it was trained on.

    With ``segment_size=auto`` and ``style_size=auto``, the defaults, a larger frame is made as
    small as that for it. What fills a large frame is larger than anything that a segmenter has
    seen, and comes out with holes; a styler's strokes are lost in it.
    """

    good_size: tuple[int, int] | None
    """Height and width of such a picture, in pixels; None where it does not matter or is unknown.
    How many pixels it has counts, not its shape."""


@runtime_checkable
class HasMinSide(Protocol):
    """A segmenter or a styler that pads pictures whose sides are shorter than so many pixels.

    An exported graph cannot decide that: its description says the side, and its reader pads.
    """

    min_side: int
