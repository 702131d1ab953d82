"""No output, for measuring."""

from cbs_core.contract.types import RawFrame, StreamInfo


class NullSink:
    """Counts frames and drops them.

    Args:
        path: not used.
    """

    def __init__(self, path: str | None = None) -> None:
        self.frames = 0

    def open(self, info: StreamInfo, /) -> None:
        """Does nothing."""

    def write(self, frame: RawFrame, /) -> None:
        """Counts the frame."""
        self.frames += 1

    def close(self, *, complete: bool = True) -> None:
        """Does nothing."""

    def abort(self) -> None:
        """Does nothing."""
