"""On the CPU: the next frame is segmented while this one is restyled.

Decoding and encoding are beside both already, in the runner's own threads. Each step sees the
frames in order and one at a time, on as many cores as in `serial`, so that a frame comes out the
same to the bit.

Nets that leave cores idle gain half as much again by that. Nets that fill every core gain nothing
and lose up to a fifth: a convolution waits for its slowest thread. So the first frames are done
both ways, and where nothing is gained the steps take turns. Side by side, the segmentation, which
has a whole frame's time, gives way: its thread has a lower priority and takes the cores that the
other leaves idle.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal, TypeAlias, TypeVar, get_args

from torch import Tensor

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import RawFrame, Scores
from cbs_core.machine.meter import Meter
from cbs_core.machine.race import Race
from cbs_core.run.channel import GLANCE
from cbs_core.run.schedulers.serial import Observe
from cbs_core.run.stream import Admitted, Stream
from cbs_core.run.workers import Worker

T = TypeVar("T")

DEPTH = 2
"""Frames under way: one a step. More would wait, which costs memory, and latency where live."""

NICENESS = 10
"""Of the segmentation's thread, added to the process's own; 0 is normal and 19 the lowest."""


Nets: TypeAlias = Literal["auto", "together", "in_turn"]

TURN = 3
"""Times that are taken each way before the other has its turn; each is of `DEPTH` frames."""

ROUNDS = 2
"""Turns that side by side must win, one after the other."""

MARGIN = 0.03
"""What it must win by: less is noise."""


class Turns:
    """Which way gives frames faster: the steps one after the other, or side by side.

    They begin one after the other, which is never much slower than `serial`.
    """

    def __init__(self) -> None:
        # The first of a turn's frames were begun the other way.
        self._race = Race(
            [False, True], rounds=ROUNDS, times=TURN, each=DEPTH, skip=DEPTH - 1, margin=MARGIN
        )

    @property
    def together(self) -> bool:
        """Whether the steps are done side by side now."""
        return self._race.turn

    @property
    def choice(self) -> str:
        """How the nets are done, and why."""
        if not self._race.over:
            return "nets in turn (too few frames to try them together)"
        turn, beside = (1e3 * self._race.medians[way] for way in (False, True))
        if self.together:
            return f"nets together ({beside:.1f} ms a frame, in turn {turn:.1f} ms)"
        return f"nets in turn ({turn:.1f} ms a frame, together {beside:.1f} ms)"

    def came_out(self) -> None:
        """Notes that a frame did, and takes the other way, or the better one, where it is time."""
        self._race.came_out(self.together, time.perf_counter())


class Fixed:
    """One way for all frames."""

    def __init__(self, *, together: bool) -> None:
        self.together = together
        self.choice = "nets together" if together else "nets in turn"

    def came_out(self) -> None:
        """Changes nothing."""


@dataclass(frozen=True, slots=True)
class _Half:
    """A frame between the two steps."""

    frame: Admitted
    image: Tensor
    scores: Scores


class PipelineScheduler:
    """Two threads, one a step, each with the frames in order (`Scheduler`, `Closable`, `Choosing`).

    Ctrl-C waits for the frame under way: a plugin in another thread cannot be interrupted. The
    threads are joined by queues that C code locks, as `cbs_core.run.channel` tells.

    Args:
        stream: what the frames are of.
        meter: times each stage.
        observe: called with each frame and its result, in one thread.
        nets: whether both steps compute ``together`` or ``in_turn``; ``auto`` is the faster.

    Raises:
        ConfigError: the stream is not on the CPU, or no such ``nets``.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        meter: Meter,
        observe: Observe | None = None,
        nets: Nets = "auto",
    ) -> None:
        if stream.device.type != "cpu":
            raise ConfigError(
                f"scheduler=pipeline is for the CPU, not for {stream.device}: say "
                "scheduler=streams or scheduler=auto"
            )
        if nets not in get_args(Nets):
            raise ConfigError(f"scheduler.nets={nets} is none of {', '.join(get_args(Nets))}")
        self._stream = stream
        self._meter = meter
        self._observe = observe
        self._turns = Turns() if nets == "auto" else Fixed(together=nets == "together")
        self._submitted: SimpleQueue[Admitted | None] = SimpleQueue()
        self._halves: SimpleQueue[_Half | BaseException | None] = SimpleQueue()
        self._finished: SimpleQueue[RawFrame | BaseException] = SimpleQueue()
        self._restyled: SimpleQueue[None] = SimpleQueue()
        """An entry for each frame that is through, which the other thread may wait for."""
        self._closing = threading.Event()
        self._under_way = 0
        self._done: deque[RawFrame] = deque()
        self._front = Worker(self._segment_all, "cbs-segment")
        self._back = Worker(self._restyle_all, "cbs-restyle")

    @property
    def choice(self) -> str:
        """How the nets are done, and why."""
        return f"pipeline, {self._turns.choice}"

    def submit(self, raw: RawFrame, /) -> None:
        """Takes a frame; waits where `DEPTH` are under way.

        Raises:
            CbsError: the oldest of these failed.
        """
        if not self._front.begun:
            self._front.start()
            self._back.start()
        if self._under_way >= DEPTH:
            self._done.append(self._oldest())
        self._submitted.put(self._stream.admit(raw))
        self._under_way += 1

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done."""
        while self._done or not self._finished.empty():
            yield self._next()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way, waiting for it."""
        while self._done or self._under_way:
            yield self._next()

    def close(self) -> None:
        """Ends the threads, after the steps that they are at."""
        self._closing.set()
        self._submitted.put(None)
        for worker in (self._front, self._back):
            worker.wait()
        self._under_way = 0

    def _next(self) -> RawFrame:
        return self._done.popleft() if self._done else self._oldest()

    def _oldest(self) -> RawFrame:
        done = _awaited(self._finished)
        self._under_way -= 1
        if isinstance(done, BaseException):
            raise done
        self._turns.came_out()
        return done

    def _segment_all(self) -> None:
        _give_way()
        owed = 0  # frames before this one that may not be through yet
        while (frame := self._submitted.get()) is not None and not self._closing.is_set():
            # A lock would leave the order to chance: two frames segmented and then two restyled
            # come out a step apart, which the times take for a frame.
            while owed and not self._turns.together:
                self._restyled.get()
                owed -= 1
            owed += 1
            try:
                self._halves.put(self._segment(frame))
            except BaseException as error:
                self._halves.put(error)
            del frame
        self._halves.put(None)

    def _restyle_all(self) -> None:
        while (half := self._halves.get()) is not None:
            try:
                done: RawFrame | BaseException = self._restyle(half)
            except BaseException as error:
                done = error
            del half
            self._finished.put(done)
            del done

    def _segment(self, frame: Admitted) -> _Half:
        with self._meter.stage("upload"):
            image = self._stream.upload(frame.raw)
        ahead = frame.raw.ahead
        scores = self._stream.score(image, frame.plan, meter=self._meter, ahead=ahead)
        return _Half(frame, image, scores)

    def _restyle(self, half: _Half | BaseException) -> RawFrame:
        try:
            if isinstance(half, BaseException):
                raise half
            raw, plan = half.frame.raw, half.frame.plan
            result = self._stream.restyle(half.image, half.scores, plan, meter=self._meter)
        finally:
            self._restyled.put(None)
        with self._meter.stage("download"):
            done = self._stream.finished(raw, result)
        if self._observe is not None:
            self._observe(raw, result)
        return done


def _awaited(queue: "SimpleQueue[T]") -> T:
    """Returns the next entry of a queue; Ctrl-C ends the wait."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=GLANCE)


def _give_way() -> None:
    # Elsewhere a priority belongs to the whole process.
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS,
            threading.get_native_id(),
            os.getpriority(os.PRIO_PROCESS, 0) + NICENESS,
        )
