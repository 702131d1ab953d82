"""Several ways to do the same thing: they take turns, and the fastest is kept.

Whoever does the work tells when something came out; the race keeps no clock and no thread of its
own, so that it fits calls that are waited for as well as frames that come out later.
"""

from collections.abc import Sequence
from itertools import cycle
from statistics import median
from typing import Generic, TypeVar

W = TypeVar("W")


class Race(Generic[W]):
    """Which of several ways is the fastest, by the medians of the times between what comes out.

    A time counts where both its ends belong to one turn of a way, so that a change of ways costs
    none of them anything. Frames::

        race = Race(["serial", "pipeline"], rounds=2, times=5, margin=0.03)
        for frame in frames:
            submit(frame, race.turn)
            for done, way in ready():
                race.came_out(way, time.perf_counter())

    Calls::

        race.start(time.perf_counter())
        call()
        race.came_out(race.turn, time.perf_counter())

    Args:
        ways: the first is kept unless another beats it by ``margin``.
        rounds: turns of each.
        times: that are counted in a turn.
        each: outputs that a time is of. As many as may be under way at once: these come out
            together at times, and one alone then looks as if it had cost nothing.
        skip: how much that comes out first in a turn is not counted, because it was begun while
            the other way had its turn.
        margin: share of the first way's time by which another must be faster: less is noise.
        hopeless: a way whose median is so many times that of the fastest has no further turn. None
            for a way that does not win its turn by the margin.

    Raises:
        ValueError: no ways, or a number below 1 that must be 1 at least.
    """

    def __init__(
        self,
        ways: Sequence[W],
        *,
        rounds: int,
        times: int = 1,
        each: int = 1,
        skip: int = 0,
        margin: float = 0.0,
        hopeless: float | None = None,
    ) -> None:
        if not ways or rounds < 1 or times < 1 or each < 1:
            raise ValueError(
                "a race is of one way at least, of one round, one time a turn and one output a time"
            )
        self._seconds: dict[W, list[float]] = {way: [] for way in ways}
        self._first = ways[0]
        self._order = cycle(self._seconds)
        self._left = rounds * len(self._seconds)
        self._times, self._each, self._skip = times, each, skip
        self._margin, self._hopeless = margin, hopeless
        self._last: float | None = None
        self.over = False
        """Whether `turn` is final."""
        self.turn = self._first
        """The way to go now: whose turn it is, or the one that is kept."""
        self._next_turn()

    @property
    def medians(self) -> dict[W, float]:
        """Median seconds an output of each way that had a turn, in the order of the ways."""
        return {way: median(times) for way, times in self._seconds.items() if times}

    @property
    def outputs(self) -> int:
        """How much must come out for a whole turn that nothing but its first output starts."""
        return self._skip + 1 + self._times * self._each

    def start(self, when: float) -> None:
        """Begins a time of the way whose turn it is; needed where nothing came out just before.

        Args:
            when: seconds by a steady clock.
        """
        self._last, self._unseen, self._outputs = when, 0, 0

    def came_out(self, way: W, when: float) -> None:
        """Notes that something did; after it, `turn` may be another.

        Args:
            way: by which it was done; what another than `turn` did is not counted.
            when: seconds by the same clock.
        """
        if self.over or way != self.turn:
            return
        if self._unseen:
            self._unseen -= 1
        elif self._last is None:
            self._last = when
        else:
            self._outputs += 1
            if self._outputs == self._each:
                self._seconds[way].append((when - self._last) / self._each)
                self._last, self._outputs = when, 0
                self._due -= 1
        if not self._due:
            self._next_turn()

    def end(self, way: W) -> None:
        """Ends the race: this way is kept, whatever was measured."""
        self.turn, self.over = way, True

    def _next_turn(self) -> None:
        """Gives the next way that has a chance its turn, or ends the race."""
        self._last, self._outputs = None, 0
        self._unseen, self._due = self._skip, self._times
        tried = all(self._seconds.values())
        while self._left:
            self._left -= 1
            way = next(self._order)
            alone = tried and not any(self._hopes(w) for w in self._seconds if w != way)
            if self._hopes(way) and not alone:
                self.turn = way
                return
        self.end(self._best())

    def _hopes(self, way: W) -> bool:
        times = self._seconds[way]
        if not times:
            return True
        if self._hopeless is not None:
            return median(times) <= self._hopeless * min(self.medians.values())
        return way == self._first or self._beats_first(way)

    def _beats_first(self, way: W) -> bool:
        medians = self.medians
        return medians[way] < (1 - self._margin) * medians[self._first]

    def _best(self) -> W:
        medians = self.medians
        fastest = min(medians, key=lambda way: medians[way])
        return fastest if fastest == self._first or self._beats_first(fastest) else self._first
