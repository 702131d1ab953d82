"""Holds a frame rate: lowers what costs time, one knob at a time, and raises it again.

It reads no clock and builds nothing, so that it can be tried against a machine that is made up;
`cbs_core.run.governed` ties it to a stream.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WINDOW_S = 0.5
"""Seconds over which times are taken."""

FEWEST = 3
"""Frames that a window holds at least, however long they take."""

PACE_S = 1.0
"""Seconds between two changes at least."""

CALM_S = 2.0
"""Seconds after a change before anything is raised; doubled where raising proves wrong."""

LONGEST_CALM_S = 60.0
LATE = 1.05
"""A period above this part of the target's is too long."""

AIM = 0.95
"""What is lowered is lowered until the period should be this part of the target's."""

ROOM = 0.85
"""What is raised is raised only where the period should stay below this part."""

REGRET_S = 4.0
"""Seconds in which lowering after raising means that raising was wrong."""


@dataclass(frozen=True, slots=True)
class Knob:
    """Something that may be lowered."""

    stage: str
    """Whose time it saves."""

    costs: tuple[float, ...]
    """Of the stage at each level, the first, full quality, being 1: a guess, until measured."""


class Governor:
    """Chooses the level of each knob from the measured times of the stages.

    Args:
        target_s: seconds a frame that are to be held.
        knobs: by name.
    """

    def __init__(self, target_s: float, knobs: Mapping[str, Knob]) -> None:
        self.target_s = target_s
        self.knobs = dict(knobs)
        self.levels = dict.fromkeys(knobs, 0)
        """The level of each, 0 being full quality."""

        self.changes = 0
        self._shares = {name: {0: 1.0} for name in knobs}
        self._seen: deque[tuple[float, Mapping[str, float]]] = deque()
        self._changed: float | None = None
        self._raised: float | None = None
        self._calm = CALM_S
        self._inclined: bool | None = None
        self._moved: tuple[str, int, int, float] | None = None

    def saw(self, now: float, totals: Mapping[str, float]) -> bool:
        """Notes a frame that is done; tells whether `levels` changed.

        Args:
            now: seconds, of any clock that only grows.
            totals: seconds that each stage has taken since the start, all frames together.
        """
        self._seen.append((now, dict(totals)))
        while len(self._seen) > FEWEST + 1 and now - self._seen[1][0] > WINDOW_S:
            self._seen.popleft()
        frames = len(self._seen) - 1
        begun, before = self._seen[0]
        if frames < FEWEST or now - begun < WINDOW_S * 0.8:
            return False
        stages = {name: (took - before.get(name, 0.0)) / frames for name, took in totals.items()}
        # Side by side frames come sooner than their stages add up; waiting for a camera, later.
        period = min((now - begun) / frames, sum(stages.values()))
        self._learn(stages)
        since = PACE_S if self._changed is None else now - self._changed
        if since < PACE_S:
            return False
        late = period > self.target_s * LATE
        if not late and since < self._calm:
            return False
        chosen = self._lower(period, stages) if late else self._raise(period, stages)
        if chosen is None or self._inclined != late:
            # Once more, by frames that are all of now: a hiccup is nothing, and what the change
            # saves can only be told from times that are not half of another speed.
            self._inclined = None if chosen is None else late
            if chosen is not None:
                self._seen.clear()
            return False
        self._inclined = None
        if not late:
            self._raised = now
        elif self._raised is not None and now - self._raised < REGRET_S:
            self._calm = min(2 * self._calm, LONGEST_CALM_S)
        name, level = chosen
        self._moved = (name, self.levels[name], level, stages.get(self.knobs[name].stage, 0.0))
        self.levels[name] = level
        self.changes += 1
        self._changed = now
        self._seen.clear()
        return True

    def settled(self, now: float) -> None:
        """Notes that the last change took effect only now: what was measured before is void."""
        self._changed = now
        self._seen.clear()

    def _learn(self, stages: Mapping[str, float]) -> None:
        """Notes what the last change really saved."""
        if self._moved is None:
            return
        name, was, level, before = self._moved
        self._moved = None
        after = stages.get(self.knobs[name].stage, 0.0)
        if before > 0 and after > 0:
            # A machine that changed its speed meanwhile would make it dearer to save.
            share = self._share(name, was) * after / before
            lower, upper = sorted((self._share(name, was), 0.0 if level > was else 1.0))
            self._shares[name][level] = 1.0 if level == 0 else min(max(share, lower), upper)

    def _share(self, name: str, level: int) -> float:
        """Returns what part of the stage's full time a level takes, as measured or guessed."""
        return self._shares[name].get(level, self.knobs[name].costs[level])

    def _after(self, name: str, level: int, stages: Mapping[str, float]) -> float:
        """Returns by how many seconds a frame gets longer at another level; negative: shorter."""
        now, then = (self._share(name, one) for one in (self.levels[name], level))
        # Of two levels the lower quality is not the dearer, whatever was guessed of one.
        then = max(then, now) if level < self.levels[name] else min(then, now)
        stage = stages.get(self.knobs[name].stage, 0.0)
        return stage * (then / now - 1) if now else 0.0

    def _lower(self, period: float, stages: Mapping[str, float]) -> tuple[str, int] | None:
        """Chooses the smallest step that is enough, else the one that saves the most."""
        need = period - self.target_s * AIM
        best: tuple[str, int] | None = None
        most = 0.0
        dearest_first = sorted(self.knobs, key=lambda n: -stages.get(self.knobs[n].stage, 0.0))
        for name in dearest_first:
            levels = range(self.levels[name] + 1, len(self.knobs[name].costs))
            for level in levels:
                saved = -self._after(name, level, stages)
                if saved >= need:
                    return name, level
            if levels and (saved := -self._after(name, levels[-1], stages)) > most:
                best, most = (name, levels[-1]), saved
        return best

    def _raise(self, period: float, stages: Mapping[str, float]) -> tuple[str, int] | None:
        """Chooses the largest step for which there is room."""
        room = self.target_s * ROOM - period
        cheapest_first: Sequence[str] = sorted(
            self.knobs, key=lambda n: stages.get(self.knobs[n].stage, 0.0)
        )
        for name in cheapest_first:
            for level in range(self.levels[name]):
                if self._after(name, level, stages) <= room:
                    return name, level
        return None
