"""What sources and sinks may have beyond the contract, so that a part of a stream can be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.places import Place
from cbs_core.contract.types import Segment, StreamInfo


@runtime_checkable
class Seekable(Source, Protocol):
    """A source that finds a place without giving all frames before it.

    A preview, and a run that goes on where it was ended, use it; another source's frames are
    counted up to the place.
    """

    def seek(self, place: Place, /) -> Fraction | None:
        """Lets what is iterated next begin at a place, or somewhat before it.

        Called between `Source.__enter__` and the iteration. Frames and their times are those of
        the whole stream; `RawFrame.index` then counts from 0 anew.

        Args:
            place: on the clock of `StreamInfo.media`, or by the frame of that file.

        Returns:
            The time of the place on the stream's own clock, in seconds; None where it cannot be
            found so: the frames then come from the stream's start.
        """
        ...


@dataclass(frozen=True, slots=True)
class Index:
    """The frames of a stream, as its file lists them without decoding any."""

    times: tuple[Fraction, ...]
    """`RawFrame.pts` of each, in order."""

    keys: frozenset[int]
    """Numbers of those that are decoded by themselves."""


@runtime_checkable
class Indexed(Seekable, Protocol):
    """A source whose frames are listed, so that a stream can be cut into windows of them."""

    def index(self) -> Index | None:
        """Returns them; None where the file does not tell. Called between enter and iteration."""
        ...


@runtime_checkable
class SegmentSink(Sink, Protocol):
    """A sink whose output can be written in segments, which are joined without encoding again.

    A segment holds the pictures of a window of the frames; whoever wrote it, in whatever order, the
    same frames of the same windows give the same output.
    """

    def segment(self, path: Path, /) -> Sink:
        """Returns a sink that writes a segment under ``path``, which has the output's suffix.

        Raises:
            SinkError: the output cannot be written so.
        """
        ...

    def join(self, segments: Sequence[Segment], info: StreamInfo, /) -> None:
        """Writes the output: the segments in order, and once what goes with the pictures.

        Raises:
            SinkError: a segment is damaged, or the output cannot be written.
        """
        ...
