"""One frame at a time, one stage after the other: the oracle that other schedulers must equal."""

from collections import deque
from collections.abc import Callable, Iterator

from cbs_core.contract.types import RawFrame
from cbs_core.frame.pipeline import Result
from cbs_core.machine.meter import Meter
from cbs_core.run.stream import Stream

Observe = Callable[[RawFrame, Result], None]
"""Sees a source frame and what the pipeline made of it; the result dies after the call."""


class SerialScheduler:
    """Runs each frame to its end when it is submitted (`Scheduler`).

    Args:
        stream: what the frames are of.
        meter: times each stage, the device waited for.
        observe: called with each frame and its result.
    """

    def __init__(self, stream: Stream, *, meter: Meter, observe: Observe | None = None) -> None:
        self._stream = stream
        self._meter = meter
        self._observe = observe
        self._done: deque[RawFrame] = deque()

    def submit(self, raw: RawFrame, /) -> None:
        """Restyles a frame."""
        stream, frame = self._stream, self._stream.admit(raw)
        with self._meter.stage("upload", device=stream.device):
            image = stream.upload(raw)
        scores = stream.score(image, frame.plan, meter=self._meter, ahead=raw.ahead)
        result = stream.restyle(image, scores, frame.plan, meter=self._meter)
        with self._meter.stage("download"):
            self._done.append(stream.finished(raw, result))
        if self._observe is not None:
            self._observe(raw, result)

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done."""
        while self._done:
            yield self._done.popleft()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is done: nothing is ever under way between calls."""
        return self.ready()
