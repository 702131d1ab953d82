"""A run in windows of frames, which can be ended anywhere and gone on with (``resume=true``).

The stream is drained at the end of each window, so that its state there is known; the window's
segment is then closed and noted. Windows are of a fixed number of frames, so that the output is the
same wherever the run was ended.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Self

from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.contract.interfaces import Choosing, Closable, Scheduler, Sink, Source
from cbs_core.contract.places import Place
from cbs_core.contract.types import RawFrame, Segment, StreamInfo
from cbs_core.contract.windows import Seekable, SegmentSink
from cbs_core.frame.plan import Plan
from cbs_core.run.destinations import NOT_RESUMED
from cbs_core.run.parts import Part, Parts, digest, fingerprint
from cbs_core.run.report import VERSIONS
from cbs_core.run.stream import Stream

WINDOW = 120
"""Frames: as many are done again at the most, and each costs a key frame."""

INDIFFERENT = frozenset({"quiet", "report", "sheet", "sheet_frames", "resume", "scheduler"})
"""Keys of a configuration that change no pixel."""


def identity(config: Mapping[str, object], plan: Plan, dtype: str, file: Path | None) -> object:
    """Returns all that the frames of an output depend on."""
    said = {key: value for key, value in config.items() if key not in INDIFFERENT}
    return {
        "config": json.loads(json.dumps(said, default=str)),
        "input": fingerprint(file) if file is not None and file.exists() else None,
        "weights": [one.sha256 for one in plan.facts.weights],
        "plugins": dict(plan.facts.plugins),
        "versions": {name: version(name) for name in VERSIONS},
        "device": f"{plan.device.type} {dtype}",
        "window": WINDOW,
    }


class Rest:
    """Gives the frames of a source behind those that are done (`Source`).

    Args:
        source: was entered, by whoever leaves it too.
        parts: what is done. Where nothing is left to do, the last window is done again, so that the
            end is found.

    Raises:
        SourceError: the source does not give what it gave before.
    """

    info: StreamInfo

    def __init__(self, source: Source, parts: Parts) -> None:
        self._source = source
        self._parts = parts
        self.info = source.info
        self._frames = self._behind()
        first = next(self._frames, None)
        if first is None and parts.done:
            parts.drop_last()
            self._again()
            self._frames = self._counted()
            first = next(self._frames, None)
        self._frames = self._frames if first is None else chain([first], self._frames)

    @property
    def damaged(self) -> int:
        """What the source counted."""
        return int(getattr(self._source, "damaged", 0))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source says."""
        return tuple(getattr(self._source, "notes", ()))

    def __enter__(self) -> Self:
        """Does nothing: the source was entered."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames, numbered as in the whole stream."""
        return self._frames

    def _behind(self) -> Iterator[RawFrame]:
        done = self._parts.done
        if not done:
            yield from self._source
            return
        last, source = done[-1].segment.times[-1], self._source
        place = Place("", seconds=self.info.start + last)
        if isinstance(source, Seekable) and source.seek(place) is not None:
            frames = iter(source)
            before = next((frame for frame in frames if frame.pts >= last), None)
            if before is not None and before.pts == last and digest(before) == done[-1].last:
                for index, frame in enumerate(frames, self._parts.frames):
                    yield replace(frame, index=index)
                return
        self._again()
        yield from self._counted()

    def _counted(self) -> Iterator[RawFrame]:
        """Yields the frames behind those that are done, which are read too."""
        done, count = self._parts.done, self._parts.frames
        for index, frame in enumerate(self._source):
            if done and index == count - 1 and digest(frame) != done[-1].last:
                raise SourceError(
                    f"'{self.info.name}' is not what it was when '{self._parts.folder}' was "
                    "written: remove that folder to begin anew"
                )
            if index >= count:
                yield replace(frame, index=index)

    def _again(self) -> None:
        self._source.__exit__(None, None, None)
        self._source.__enter__()


class Windows:
    """A `Scheduler` over another, which is drained at the end of each window.

    Args:
        scheduler: does the frames.
        stream: whose state is noted.
    """

    def __init__(self, scheduler: Scheduler, stream: Stream) -> None:
        self._scheduler = scheduler
        self._stream = stream
        self._done: list[RawFrame] = []
        self.ends: dict[int, tuple[bytes, str]] = {}
        """By the number of a window's last frame: the stream's state behind it, and its `digest`;
        each is there before the frame leaves."""

    @property
    def choice(self) -> str:
        """What the scheduler chose."""
        scheduler = self._scheduler
        return scheduler.choice if isinstance(scheduler, Choosing) else type(scheduler).__name__

    def submit(self, raw: RawFrame, /) -> None:
        """Takes a frame."""
        self._scheduler.submit(raw)
        if ends_window(raw):
            self._done += self._scheduler.drain()
            self.ends[raw.index] = self._stream.state.to_bytes(), digest(raw)

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done."""
        while self._done:
            yield self._done.pop(0)
        yield from self._scheduler.ready()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way."""
        while self._done:
            yield self._done.pop(0)
        yield from self._scheduler.drain()

    def close(self) -> None:
        """Closes the scheduler."""
        if isinstance(self._scheduler, Closable):
            self._scheduler.close()


class Segments:
    """A `Sink` that writes windows as segments, and joins them at the end.

    Args:
        sink: of the output.
        parts: what is done, to which it adds.
        windows: tells the state behind each.
    """

    def __init__(self, sink: SegmentSink, parts: Parts, windows: Windows) -> None:
        self._sink = sink
        self._parts = parts
        self._windows = windows
        self._open: Sink | None = None
        self._path: Path | None = None
        self._times: list[Fraction] = []
        self._duration: Fraction | None = None
        self.joined = False
        """Whether the output is whole."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sink could not keep."""
        return tuple(getattr(self._sink, "notes", ()))

    def open(self, info: StreamInfo, /) -> None:
        """Opens the sink once, so that what it cannot write is known at once."""
        self._info = info
        self._sink.open(info)
        self._sink.abort()

    def write(self, frame: RawFrame, /) -> None:
        """Writes a frame into its window's segment."""
        if self._open is None:
            self._path = self._parts.next_path()
            self._open = self._sink.segment(self._path)
            self._open.open(self._info)
        self._open.write(frame)
        self._times.append(Fraction(frame.pts))
        self._duration = frame.duration
        if frame.index in self._windows.ends:
            state, last = self._windows.ends.pop(frame.index)
            self._parts.add(Part(self._whole(), last), state)

    def _whole(self) -> Segment:
        assert self._open is not None
        assert self._path is not None
        self._open.close()
        segment = Segment(self._path, tuple(self._times), self._duration)
        self._open, self._times = None, []
        return segment

    def close(self, *, complete: bool = True) -> None:
        """Joins the segments; where the stream was cut, they stay, whole windows of them."""
        if not complete:
            self.abort()
            return
        segments = [part.segment for part in self._parts.done]
        rest = self._whole() if self._open is not None else None
        self._sink.join([*segments, *([rest] if rest else [])], self._info)
        self.joined = True
        if rest is not None:
            rest.path.unlink(missing_ok=True)
        self._parts.remove()

    def abort(self) -> None:
        """Removes the segment that is not whole."""
        if self._open is not None:
            self._open.abort()
            self._open = None
        self._sink.abort()
        self._parts.close()


def ends_window(frame: RawFrame) -> bool:
    """Whether a frame is the last of its window."""
    return frame.index % WINDOW == WINDOW - 1


def checked(sink: Sink, output: Path | None, info: StreamInfo) -> tuple[SegmentSink, Path]:
    """Returns the sink and its file, if it can write what is to be gone on with.

    Raises:
        ConfigError: it cannot.
    """
    if output is None or info.live or not isinstance(sink, SegmentSink):
        raise ConfigError(NOT_RESUMED)
    return sink, output


class Resumed:
    """Source, scheduler and sink of a run that can be gone on with, in the places of its own.

    Args:
        source: was entered.
        stream: is brought to where the parts end.
        scheduler: of the stream.
        output: the sink, and its file.
        depends: `identity`.

    Raises:
        CbsError: what there is cannot be gone on from.
    """

    def __init__(
        self,
        source: Source,
        stream: Stream,
        scheduler: Scheduler,
        output: tuple[SegmentSink, Path],
        depends: object,
    ) -> None:
        sink, path = output
        self.parts = Parts(path, depends)
        try:
            self.source = Rest(source, self.parts)
            self._before = self.parts.frames
            stream.state = self.parts.state() or stream.state
        except BaseException:
            self.parts.close()
            raise
        self.windows = Windows(scheduler, stream)
        self.sink = Segments(sink, self.parts, self.windows)

    @property
    def unfinished(self) -> Path | None:
        """The folder of the parts, where the output is not whole."""
        return None if self.sink.joined else self.parts.folder

    def kept(self, written: int) -> int:
        """Returns how many frames there are, of which this run wrote some."""
        return self._before + written if self.sink.joined else self.parts.frames
