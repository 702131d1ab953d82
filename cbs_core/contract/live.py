"""What live plugins may have beside the interfaces of all (`cbs_core.contract.interfaces`)."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class CountsDrops(Protocol):
    """A live source that holds the newest frame only; those that it gave up count as dropped."""

    dropped: int
    """Frames in whose place a newer one came before they were asked for."""
