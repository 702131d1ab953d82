"""What a film takes on so many workers, in time and money: a model of what was measured.

Workers start (a machine, Ray, their nets); one looks at the film's index; windows go to whoever is
free, each opened, sought, its run-up segmented and its frames restyled; one worker joins them,
which no number of workers shortens. `benchmarks.cluster` measures the figures.
"""

import heapq
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Film:
    """What is restyled."""

    frames: int
    window: int = 240
    """Frames of a window (``window=``)."""

    run_up: int = 32
    """Frames segmented before each window but the first, where mattes are steady; else 0."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured of one worker; seconds."""

    frame: float
    """To restyle a frame, with decoding and encoding."""

    start: float
    """From the command to a worker with its nets built, on a machine that is up."""

    score: float = 0.0
    """To segment a frame of a run-up."""

    window: float = 0.0
    """To open, seek and close, a window."""

    look: float = 0.0
    """To list the frames of the film, once, for each thousand of them."""

    join: float = 0.0
    """To copy a thousand frames of segments into the output; sound and subtitles with them."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is rented."""

    workers: int
    per_machine: int = 1
    boot: float = 0.0
    """Seconds until a machine is up, which are paid."""

    price: float = 0.0
    """Of a machine, an hour."""

    @property
    def machines(self) -> int:
        """How many."""
        return math.ceil(self.workers / self.per_machine)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a film takes."""

    seconds: float
    cost: float
    busy: float
    """Share of the workers' time in which they restyle."""


def estimate(film: Film, rates: Rates, fleet: Fleet) -> Estimate:
    """Plays a film's windows on a fleet.

    Example:
        >>> film = Film(2400, window=240, run_up=0)
        >>> rates = Rates(frame=0.1, start=10, join=1)
        >>> one = estimate(film, rates, Fleet(1, price=3600))
        >>> round(one.seconds, 1), round(one.cost, 1)
        (252.4, 252.4)
        >>> round(estimate(film, rates, Fleet(4)).seconds, 1)  # three rounds of windows
        84.4
    """
    thousands = film.frames / 1000
    begun = fleet.boot + rates.start + rates.look * thousands
    free = [begun] * fleet.workers
    busy = 0.0
    for first in range(0, film.frames, film.window):
        frames = min(film.window, film.frames - first)
        takes = rates.window + frames * rates.frame + (film.run_up * rates.score if first else 0)
        busy += takes
        heapq.heappush(free, heapq.heappop(free) + takes)
    seconds = max(free) + rates.join * thousands
    hours = seconds * fleet.machines / 3600
    return Estimate(seconds, hours * fleet.price, busy / (seconds * fleet.workers))


def best_window(
    frames: int, rates: Rates, workers: int, run_up: int, sizes: tuple[int, ...]
) -> int:
    """Returns the window by which a film is done soonest."""
    fleet = Fleet(workers)
    return min(sizes, key=lambda size: estimate(Film(frames, size, run_up), rates, fleet).seconds)
