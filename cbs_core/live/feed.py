"""One stream of live pictures: the newest that came in, the last that are done, and its look.

A feed never queues: whoever brings a picture replaces the one that waits, and that is counted.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from torch import Tensor

from cbs_core.contract.errors import CbsError, error_line
from cbs_core.contract.live import Heard
from cbs_core.frame import pipeline
from cbs_core.frame.plan import Plan
from cbs_core.live.pictures import Shown
from cbs_core.live.wish import Wish
from cbs_core.machine.meter import Meter, latency
from cbs_core.run.governed import Governed
from cbs_core.run.stream import Stream

KEPT = 8
"""Frames that are done and kept, so that a click means the picture that was clicked on."""

WINDOW = 3.0
"""Seconds over which figures are told."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture that came in."""

    pixels: Tensor
    """uint8 ``(H,W,3)``."""

    captured: float
    """By `time.monotonic`."""

    tag: int = 0


class Feed:
    """Pictures that follow each other.

    Args:
        name: what visitors call it.
        plan: the first.
        wish: what that was built from.
    """

    def __init__(self, name: str, plan: Plan, wish: Wish) -> None:
        self.name = name
        self.stream = Stream(plan, ahead=True)
        self.wish = wish
        self.error: str | None = None
        """What is wrong now, in a line."""

        self.governed: Governed | None = None
        """Holds the frame rate, where one is asked for."""

        self._failed: str | None = None

        self.came = 0
        self.dropped = 0
        self.meter = Meter()
        self._waiting: Taken | None = None
        self._lock = threading.Lock()
        self._done: deque[Shown] = deque(maxlen=KEPT)
        self._times: deque[tuple[float, float]] = deque(maxlen=600)
        self._listeners: dict[int, Callable[[], None]] = {}
        self._taps: dict[int, Callable[[Shown], None]] = {}
        self._ears: dict[int, Callable[[Heard], None]] = {}
        self._heard: float | None = None
        self._building: Future[Plan] | None = None
        self._last_size: Tensor | None = None

    @classmethod
    def new_name(cls) -> str:
        """Returns a name that nobody can guess."""
        return secrets.token_urlsafe(12)

    def put(self, taken: Taken) -> bool:
        """Takes a picture; tells whether none was waiting, which it would have replaced."""
        with self._lock:
            free = self._waiting is None
            self._waiting = taken
            self.came += 1
            self.dropped += not free
        return free

    def take(self) -> Taken | None:
        """Returns the newest picture, once."""
        with self._lock:
            taken, self._waiting = self._waiting, None
        return taken

    def run(self, taken: Taken) -> None:
        """Restyles a picture by the plan of now, all of it; called in one thread alone."""
        stream, plan = self.stream, self.stream.plan
        height, width = taken.pixels.shape[:2]
        stream.check(height, width)
        image = pipeline.upload(taken.pixels, stream.device)
        self._last_size = image
        scores = stream.score(image, plan, meter=self.meter)
        result = stream.restyle(image, scores, plan, meter=self.meter)
        shown = Shown.of(
            taken.pixels,
            result,
            index=self.meter.frames_out + 1,
            captured=taken.captured,
            tag=taken.tag,
        )
        now = time.monotonic()
        self._times.append((now, now - taken.captured))
        self._done.append(shown)
        for tap in list(self._taps.values()):
            tap(shown)
        self.meter.frames_out += 1
        self.tell()

    @property
    def shown(self) -> Shown | None:
        """The newest frame that is done."""
        try:
            return self._done[-1]
        except IndexError:
            return None

    def frame(self, index: int) -> Shown | None:
        """Returns a frame that is still kept, else the newest."""
        return next((one for one in list(self._done) if one.index == index), self.shown)

    def fail(self, line: str) -> None:
        """Notes what is wrong with a frame, until one is well."""
        self.error = self._failed = line

    def well(self) -> None:
        """Takes back what was wrong with a frame, and nothing that is wrong with a plan."""
        if self._failed is not None and self.error == self._failed:
            self.error = None
        self._failed = None

    def tell(self) -> None:
        """Wakes all who look on."""
        for listener in list(self._listeners.values()):
            listener()

    def listen(self, call: Callable[[], None]) -> Callable[[], object]:
        """Has it called, from any thread, when something is new; returns what ends that."""
        key = id(call)
        self._listeners[key] = call
        return lambda: self._listeners.pop(key, None)

    def tap(self, call: Callable[[Shown], None]) -> Callable[[], object]:
        """Has it given each frame, in the thread that made it; returns what ends that."""
        key = id(call)
        self._taps[key] = call
        return lambda: self._taps.pop(key, None)

    def hear(self, piece: Heard) -> None:
        """Takes a piece of sound, from the thread that hears it."""
        self._heard = time.monotonic()
        for ear in list(self._ears.values()):
            ear(piece)

    def overhear(self, call: Callable[[Heard], None]) -> Callable[[], object]:
        """Has it given all sound; returns what ends that."""
        key = id(call)
        self._ears[key] = call
        return lambda: self._ears.pop(key, None)

    @property
    def sounding(self) -> bool:
        """Whether there was sound of late."""
        return self._heard is not None and time.monotonic() - self._heard < WINDOW

    @property
    def watched(self) -> int:
        """How many look on."""
        return len(self._listeners)

    @property
    def like(self) -> Tensor | None:
        """A picture ``(1,3,H,W)`` as they come, on the device."""
        return self._last_size

    def resized(self, taken: Taken) -> bool:
        """Tells whether a picture is of another size than the one before."""
        return self._last_size is not None and self._last_size.shape[2:] != taken.pixels.shape[:2]

    @property
    def building(self) -> bool:
        """Whether another plan is under way."""
        return self._building is not None

    def expect(self, plan: "Future[Plan]", wish: Wish, then: Callable[[], None]) -> None:
        """Takes a plan as soon as it is built; between two frames, as `Stream.plan` does."""
        self._building = plan

        def arrived(future: "Future[Plan]") -> None:
            try:
                if not future.cancelled():
                    self.stream.plan = future.result()
                    self.error = None
            except CbsError as error:
                self.error = str(error)
            except Exception as error:  # a plugin may raise anything
                self.error = error_line(error)
            self._building = None
            then()
            self.tell()

        plan.add_done_callback(arrived)

    def figures(self) -> dict[str, object]:
        """Returns frames a second, age when done and each stage's last time, in milliseconds."""
        now = time.monotonic()
        recent = [one for one in list(self._times) if one[0] > now - WINDOW]
        ages = latency(age * 1e3 for _, age in recent) if recent else None
        stages = {name: round(ms, 1) for name, ms in self.meter.last().items() if name != "prepare"}
        span = now - recent[0][0] if recent else 0
        return {
            "fps": round(len(recent) / max(span, 0.5), 1) if recent else 0.0,
            "age_p50": round(ages.p50) if ages else None,
            "age_p95": round(ages.p95) if ages else None,
            "frames": self.meter.frames_out,
            "dropped": self.dropped,
            "stages": stages,
            "slow": max(stages, key=stages.__getitem__) if stages else None,
        }
