"""Chooses between `serial` and what overlaps on this device, by the first frames of the run.

The two take turns, a few frames each, and whichever gives frames faster keeps the rest. No frame
is lost or done twice, and both give the same pictures, so a run is not otherwise touched.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from cbs_core.contract.interfaces import Closable, Scheduler
from cbs_core.contract.types import RawFrame
from cbs_core.machine.meter import Meter
from cbs_core.machine.race import Race
from cbs_core.run.schedulers.pipeline import PipelineScheduler
from cbs_core.run.schedulers.serial import Observe, SerialScheduler
from cbs_core.run.schedulers.streams import StreamsScheduler
from cbs_core.run.stream import Stream

BURST = 2
"""Frames that a time is of: with two under way, both may come out at once."""

TURN = 3 * BURST + 1
"""Frames a turn. The times between them are taken, so that filling and emptying cost nothing."""

ROUNDS = 2
"""Turns of each; one is enough where `serial` wins it."""

MARGIN = 0.03
"""What `serial` must lose by: less is noise, and it answers sooner."""

KEEPS_UP = 1.05
"""Of a live source's period, what a frame may take."""

AT_MOST = 3
"""Of a live source's period, what a frame may take in `serial` for others to be tried: they have
not more steps side by side."""

SLOW = 5.0
"""Seconds a frame above which only `serial` is used: it can be interrupted in a frame's midst."""


class AutoScheduler:
    """`serial` against `streams` (CUDA) or `pipeline` (CPU): `Scheduler`, `Closable`, `Choosing`.

    The first frame is `serial`'s, and no turn: whatever is built on first use is built there. A
    stream of one picture is `serial`'s too.

    Args:
        stream: what the frames are of.
        meter: times each stage.
        observe: called with each frame and its result.
        rate: frames a second that a live source gives, or that are asked for: what is wanted then
            are frames as young as can be at that rate, and not as many as can be.
    """

    choice: str

    def __init__(
        self,
        stream: Stream,
        *,
        meter: Meter,
        observe: Observe | None = None,
        rate: float | None = None,
    ) -> None:
        self._rate = rate
        make: Callable[..., Scheduler] = StreamsScheduler
        self._other = "streams"
        if stream.device.type == "cpu":
            # Its nets in turn are `serial`'s way.
            make, self._other = partial(PipelineScheduler, nets="together"), "pipeline"
        self._schedulers = {
            "serial": SerialScheduler(stream, meter=meter, observe=observe),
            self._other: make(stream, meter=meter, observe=observe),
        }
        # Between a turn's frames is one time less than there are frames.
        times = (TURN - 1) // BURST
        self._race = Race(
            ["serial", self._other], rounds=ROUNDS, times=times, each=BURST, margin=MARGIN
        )
        self._tried = False
        self._current = "serial"
        self._left: float = 1  # frames until the next turn
        self.choice = f"serial (too few frames to try {self._other})"

    def submit(self, raw: RawFrame, /) -> None:
        """Gives a frame to the scheduler whose turn it is."""
        self._left -= 1
        self._schedulers[self._current].submit(raw)

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done; at the end of a turn what is under way, waiting for it."""
        if self._left > 0:
            yield from self._stamped(self._schedulers[self._current].ready())
            return
        yield from self.drain()
        self._next_turn()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way, waiting for it."""
        yield from self._stamped(self._schedulers[self._current].drain())

    def close(self) -> None:
        """Ends what the schedulers have of their own."""
        for scheduler in self._schedulers.values():
            if isinstance(scheduler, Closable):
                scheduler.close()

    def _stamped(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        for frame in frames:
            if self._tried:
                self._race.came_out(self._current, time.perf_counter())
            yield frame

    def _soonest(self, rate: float, medians: Mapping[str, float]) -> bool:
        """Keeps `serial` unless the other alone holds the rate; tells whether that is settled.

        One frame under way instead of several: each is done soonest. More frames a second than
        are asked for, or still too few of them, are not worth their age.
        """
        serial, other = (medians.get(name) for name in ("serial", self._other))
        if serial is None:
            return False
        if serial * rate <= KEEPS_UP:
            self.choice = f"serial (keeps up with {rate:g} FPS, each frame done soonest)"
        elif serial * rate > AT_MOST or (self._race.over and (other or serial) * rate > KEEPS_UP):
            self.choice = f"serial (nothing holds {rate:g} FPS here, each frame done soonest)"
        else:
            return False
        self._race.end("serial")
        return True

    def _next_turn(self) -> None:
        self._tried = True
        medians = self._race.medians
        if not (self._rate and self._soonest(self._rate, medians)):
            self._fastest(medians)
        self._current = self._race.turn
        self._left = math.inf if self._race.over else TURN
        for each, scheduler in self._schedulers.items():
            if self._race.over and each != self._current and isinstance(scheduler, Closable):
                scheduler.close()

    def _fastest(self, medians: Mapping[str, float]) -> None:
        """Keeps the one that gives most frames a second."""
        if not self._race.over and medians.get("serial", 0) > SLOW:
            self._race.end("serial")
            self.choice = f"serial (a frame takes {medians['serial']:.1f} s)"
        elif self._race.over:
            mine, other = (1e3 * medians[name] for name in ("serial", self._other))
            self.choice = f"serial ({mine:.1f} ms a frame, {self._other} {other:.1f} ms)"
            if self._race.turn == self._other:
                self.choice = f"{self._other} ({other:.1f} ms a frame, serial {mine:.1f} ms)"
        elif self._race.turn == self._other:
            self.choice = f"serial and {self._other} in turn (too few frames to choose)"
