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
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import RawFrame, Scores
from cbs_core.machine.meter import Meter
from cbs_core.run.schedulers.serial import Observe
from cbs_core.run.stream import Admitted, Stream

DEPTH = 2
"""Frames under way: one a step. More would wait, which costs memory, and latency where live."""

NICENESS = 10
"""Of the segmentation's thread, added to the process's own; 0 is normal and 19 the lowest."""


Nets: TypeAlias = Literal["auto", "together", "in_turn"]

TURN = 3
"""Frames that are timed each way before the other has its turn."""

ROUNDS = 2
"""Turns that side by side must win, one after the other."""

MARGIN = 0.03
"""What it must win by: less is noise."""


class Turns:
    """Which way gives frames faster: the steps one after the other, or side by side.

    They begin one after the other, which is never much slower than `serial`.
    """

    def __init__(self) -> None:
        self.together = False
        self.choice = "nets in turn (too few frames to try them together)"
        self._left = ROUNDS
        self._stamps: list[float] = []
        self._seconds: dict[bool, list[float]] = {False: [], True: []}

    def came_out(self) -> None:
        """Notes that a frame did, and takes the other way, or the better one, where it is time."""
        if not self._left:
            return
        self._stamps.append(time.perf_counter())
        if len(self._stamps) <= DEPTH + TURN:
            return
        # The first of them were begun the other way.
        self._seconds[self.together] += [b - a for a, b in pairwise(self._stamps[DEPTH:])]
        del self._stamps[:-1]
        if self.together:
            self._left -= 1
            self._compare()
        else:
            self.together = True

    def _compare(self) -> None:
        turn, beside = (1e3 * median(self._seconds[way]) for way in (False, True))
        self.together = beside < (1 - MARGIN) * turn
        if not self.together:
            self._left = 0
            self.choice = f"nets in turn ({turn:.1f} ms a frame, together {beside:.1f} ms)"
        elif not self._left:
            self.choice = f"nets together ({beside:.1f} ms a frame, in turn {turn:.1f} ms)"
        else:
            self.together = False  # once more, to be sure


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

    Ctrl-C waits for the frame under way: a plugin in another thread cannot be interrupted.

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
        self._stream = stream
        self._meter = meter
        self._observe = observe
        self._front = ThreadPoolExecutor(1, "cbs-segment", initializer=_give_way)
        self._back = ThreadPoolExecutor(1, "cbs-restyle")
        self._halves: deque[Future[_Half]] = deque(maxlen=DEPTH)
        self._under_way: deque[Future[RawFrame]] = deque()
        self._done: deque[RawFrame] = deque()
        if nets not in get_args(Nets):
            raise ConfigError(f"scheduler.nets={nets} is none of {', '.join(get_args(Nets))}")
        self._turns = Turns() if nets == "auto" else Fixed(together=nets == "together")
        self._restyled = threading.Event()  # the last frame that came; none has yet
        self._restyled.set()

    @property
    def choice(self) -> str:
        """How the nets are done, and why."""
        return f"pipeline, {self._turns.choice}"

    def submit(self, raw: RawFrame, /) -> None:
        """Takes a frame; waits where `DEPTH` are under way.

        Raises:
            CbsError: the oldest of these failed.
        """
        if len(self._under_way) >= DEPTH:
            self._done.append(self._oldest())
        before, restyled = self._restyled, threading.Event()
        half = self._front.submit(self._segment, self._stream.admit(raw), before)
        self._halves.append(half)
        done = self._back.submit(self._restyle, raw, half, restyled)
        self._under_way.append(done)
        done.add_done_callback(lambda _: restyled.set())  # where it fails, or is cancelled
        self._restyled = restyled

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done."""
        while self._done or (self._under_way and self._under_way[0].done()):
            yield self._next()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way, waiting for it."""
        while self._done or self._under_way:
            yield self._next()

    def close(self) -> None:
        """Ends the threads, after the steps that they are at."""
        for executor in (self._back, self._front):
            executor.shutdown(wait=False, cancel_futures=True)
        # Not by joining the threads: Python takes a thread for ended whose join Ctrl-C interrupts
        # (3.11), and the process would end under its feet. A future that was cancelled before it
        # ran is never told to be done, so that it is not waited for.
        under_way: list[Future[Any]] = [*self._halves, *self._under_way]
        wait([future for future in under_way if not future.cancelled()])
        for executor in (self._back, self._front):
            executor.shutdown()
        self._halves.clear()
        self._under_way.clear()

    def _next(self) -> RawFrame:
        return self._done.popleft() if self._done else self._oldest()

    def _oldest(self) -> RawFrame:
        done = self._under_way[0].result()  # it stays there while Ctrl-C can interrupt this
        self._under_way.popleft()
        self._turns.came_out()
        return done

    def _segment(self, frame: Admitted, before: threading.Event) -> _Half:
        with self._meter.stage("upload"):
            image = self._stream.upload(frame.raw)
        # A lock would leave the order to chance: two frames segmented and then two restyled come
        # out a step apart, which the times take for a frame.
        if not self._turns.together:
            before.wait()
        return _Half(frame, image, self._stream.score(image, frame.plan, meter=self._meter))

    def _restyle(self, raw: RawFrame, half: "Future[_Half]", restyled: threading.Event) -> RawFrame:
        begun = half.result()
        plan = begun.frame.plan
        result = self._stream.restyle(begun.image, begun.scores, plan, meter=self._meter)
        restyled.set()
        with self._meter.stage("download"):
            done = self._stream.download(result.image, raw)
        if self._observe is not None:
            self._observe(raw, result)
        return done


def _give_way() -> None:
    # Elsewhere a priority belongs to the whole process.
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS,
            threading.get_native_id(),
            os.getpriority(os.PRIO_PROCESS, 0) + NICENESS,
        )
