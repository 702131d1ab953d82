"""What live plugins may have beside the interfaces of all (`cbs_core.contract.interfaces`)."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class CountsDrops(Protocol):
    """A live source that holds the newest frame only; those that it gave up count as dropped."""

    dropped: int
    """Frames in whose place a newer one came before they were asked for."""


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
