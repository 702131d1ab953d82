"""Latency percentiles a stage, frames a second, frames in, out and dropped."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HISTORY = 100_000
"""Durations kept a stage: an endless stream must not grow."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one stage's durations, milliseconds."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much faster frames came than their stages take one after the other.

    Stages that share cores or a GPU take longer side by side than each alone, so this counts what
    was side by side, not what was gained: that is the ratio of two runs.
    """

    sequence: float
    """The stages' durations, as they ran, added up: milliseconds a frame, decode to encode."""

    wall: float
    """Milliseconds from frame to frame."""

    @property
    def saved(self) -> float:
        """The part of `sequence` that was saved, 0 to 1."""
        return max(0.0, 1 - self.wall / self.sequence) if self.sequence else 0.0


class Meter:
    """Counts frames and times stages; one thread a stage."""

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.dropped = 0
        self.chosen = ""
        """What was lowered to hold a frame rate, for people; empty where nothing is."""

        self._stages: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=HISTORY))
        self._total: defaultdict[str, float] = defaultdict(float)
        self._ages: deque[float] = deque(maxlen=HISTORY)
        self._first: float | None = None
        self._last: float | None = None

    @contextmanager
    def stage(self, name: str, *, device: "torch.device | None" = None) -> Iterator[None]:
        """Times a block as one run of the stage; a block that raises is not counted.

        Args:
            name: the stage.
            device: waited for at the end where it works asynchronously (CUDA), so that a
                stage's time is its own.
        """
        start = time.perf_counter()
        if self._first is None:
            self._first = start
        yield
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
        self.add(name, (time.perf_counter() - start) * 1e3)

    def add(self, name: str, milliseconds: float) -> None:
        """Counts one run of a stage that was timed elsewhere."""
        if self._first is None:
            self._first = time.perf_counter() - milliseconds / 1e3
        self._stages[name].append(milliseconds)
        self._total[name] += milliseconds

    def frame_out(self, captured: float | None = None) -> None:
        """Counts a frame that reached the sink.

        Args:
            captured: when the camera gave it, by `time.monotonic`.
        """
        self.frames_out += 1
        self._last = time.perf_counter()
        if captured is not None:
            self._ages.append((time.monotonic() - captured) * 1e3)

    @property
    def age(self) -> Latency | None:
        """From a frame's capture to its being written; None where no frame told its capture."""
        return latency(list(self._ages)) if self._ages else None

    @property
    def seconds(self) -> float:
        """From the start of the first stage to the last frame out."""
        if self._first is None or self._last is None:
            return 0.0
        return self._last - self._first

    @property
    def fps(self) -> float:
        """Frames out a second, decoding and encoding included."""
        return self.frames_out / self.seconds if self.seconds else 0.0

    @property
    def overlap(self) -> Overlap | None:
        """The stages in sequence against the wall clock; None before the second frame."""
        if self.frames_out < 2:
            return None
        # A frame that went in and was dropped has no part in what came out.
        sequence = sum(list(self._total.values())) / self.frames_out
        return Overlap(sequence, self.seconds * 1e3 / self.frames_out)

    def latencies(self) -> dict[str, Latency]:
        """Returns the percentiles of each stage, in the order in which stages first ran."""
        return {name: latency(list(times)) for name, times in list(self._stages.items()) if times}

    def totals(self) -> dict[str, float]:
        """Returns the milliseconds that each stage took since the start, all frames together."""
        return dict(self._total)

    def last(self) -> dict[str, float]:
        """Returns each stage's newest duration, milliseconds."""
        return {name: times[-1] for name, times in list(self._stages.items()) if times}


def latency(durations: Iterable[float]) -> Latency:
    """Returns the percentiles of at least one duration, milliseconds."""
    times = sorted(durations)
    return Latency(
        p50=times[(len(times) - 1) // 2],
        p95=times[min(len(times) - 1, round(0.95 * (len(times) - 1)))],
        max=times[-1],
    )
