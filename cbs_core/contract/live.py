"""What live plugins may have beside the interfaces of all (`cbs_core.contract.interfaces`)."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class CountsDrops(Protocol):
    """A live source that holds the newest frame only; those that it gave up count as dropped."""

    dropped: int
    """Frames in whose place a newer one came before they were asked for."""


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
