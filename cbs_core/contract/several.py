"""What a sink of several files tells before it writes (`cbs_core.contract.interfaces.Sink`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from cbs_core.contract.types import StreamInfo


@runtime_checkable
class WritesSeveral(Protocol):
    """A sink whose output is not the one file that ``path`` names."""

    def taken(self, info: StreamInfo, /) -> Sequence[Path]:
        """Returns the files that are there already and would be written over; before `open`."""
        ...
