"""What live plugins may have beside the interfaces of all (`cbs_core.contract.interfaces`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

SOUND_RATE = 48_000
"""Samples a second of all live sound, which is stereo."""


@runtime_checkable
class CountsDrops(Protocol):
    """A live source that holds the newest frame only; those that it gave up count as dropped."""

    dropped: int
    """Frames in whose place a newer one came before they were asked for."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A piece of a live source's sound."""

    samples: NDArray[np.float32]
    """``(2,n)``, left and right, in [-1,1]."""

    captured: float
    """When the first of them was captured, on the clock of `RawFrame.captured`."""


@runtime_checkable
class HasSound(Protocol):
    """A live source whose sound can be heard beside its frames."""

    @property
    def sounds(self) -> bool:
        """Whether there is any, as far as is known since it was opened."""
        ...

    def hear(self, call: Callable[[Heard], object], /) -> None:
        """Has it given each piece from now on, in a thread of the source's, until it is closed."""
        ...


class Sound(Protocol):
    """What is heard beside the frames of a stream that a sink is given (`StreamInfo.sound`)."""

    def until(self, seconds: Fraction, /) -> NDArray[np.float32]:
        """Returns some of what follows on the last call's, ``(2,n)``; first, the stream's start.

        Args:
            seconds: of the stream, up to which sound is due; what is not there yet comes later.
                Nothing is returned where all that is there was.
        """
        ...


@runtime_checkable
class OffersDevices(Protocol):
    """The class of a source of which there are several on a machine, such as cameras.

    ``path=NAME`` opens one of them, and ``size=`` asks it for a size.
    """

    sizes: Sequence[str]
    """Sizes that one may ask for, ``1280x720``."""

    @staticmethod
    def devices() -> Sequence[str]:
        """Returns the names of those that are there now."""
        ...


@runtime_checkable
class Leavable(Protocol):
    """A sink that a person may close at any moment, such as a window, also where no frame comes."""

    @property
    def left(self) -> bool:
        """Whether it was closed, so that `Sink.write` would raise `SinkClosedError`."""
        ...


class Controls(Protocol):
    """What a person may change while a stream runs; each takes effect between two frames.

    All return at once, from any thread, with a line that tells what is chosen now.
    """

    def route(self, step: int, /) -> str:
        """Chooses the next route (1) or the one before (-1): the others act on it."""
        ...

    def style(self, step: int, /) -> str:
        """Gives it the next style of its styler."""
        ...

    def strength(self, change: float, /) -> str:
        """Adds to its strength, which stays in [0, 1]."""
        ...


@runtime_checkable
class Controlling(Protocol):
    """A sink with keys or buttons, such as a window."""

    def control(self, controls: Controls, /) -> None:
        """Takes what its keys act on; called before `Sink.open`."""
        ...
