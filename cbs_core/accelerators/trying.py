"""How long ways to run a module may be tried, and what a run keeps of it for those after it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from cbs_core.accelerators.store import Store
from cbs_core.contract.accelerated import Kind
from cbs_core.contract.errors import AcceleratorError

SHARE = 0.1
"""Of the time that a run's frames take, what comparing several ways may take."""

SAVES = 0.5
"""Of plain torch's time, what the most promising way is expected to save: it is built where that
takes no longer than it saves."""

AT_ONCE = 2.0
"""Seconds: without a budget nothing is built that usually takes longer."""

NEAR = 8
"""How many times more or fewer pixels, as a power of two, a frame may have whose fastest way is
taken where none may be tried: it is a better guess than plain torch."""

now = time.perf_counter
"""Seconds by the clock that trying is measured and bounded by."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run found out of ways, for those after it; as it is written."""

    ranked: list[str]
    """Labels of those that agree, the fastest first."""

    left: list[str]
    """Labels of those that there was no time for."""

    plain: float
    """Seconds of plain torch; 0 where it was not run."""

    @classmethod
    def find(
        cls, shared: Store, kind: Kind, pixels: int, labels: Sequence[str], *, near: int = 0
    ) -> "Kept | None":
        """Returns it of so many pixels, a power of two, or of the nearest number up to ``near``."""
        for other in sorted(range(pixels - near, pixels + near + 1), key=lambda n: abs(n - pixels)):
            known = shared.read_json("rank", kind, other, labels)
            if (kept := cls.read(known, labels)) is not None:
                return kept
        return None

    def keep(self, shared: Store, kind: Kind, pixels: int, labels: Sequence[str]) -> None:
        """Writes it down for `find`."""
        shared.write_json(asdict(self), "rank", kind, pixels, labels)

    @classmethod
    def read(cls, value: object, labels: Sequence[str]) -> "Kept | None":
        """Returns it of what was read, or None where that is something else."""
        match value:
            case {"ranked": list(ranked), "left": list(left), "plain": float(plain)}:
                if ranked and all(label in labels for label in (*ranked, *left)):
                    return cls(ranked, left, plain)
        return None


class Allowed:
    """How long ways may be tried: a run of few frames is not to wait for what it hardly uses.

    Args:
        plain: returns the seconds of plain torch, asked where the number of frames is known.
        budget: seconds at most.
        frames: that the net is run on.
    """

    def __init__(self, plain: Callable[[], float], budget: float, frames: float) -> None:
        self._frames = frames
        run = frames * plain() if frames < math.inf else math.inf
        self._saved, self._more = SAVES * run, min(budget, SHARE * run)
        self._budget, self._begun = budget, now()
        self._spent = 0.0
        """On others than the way that is there."""

        self._there = False

    @property
    def end(self) -> float:
        """When comparing must be over, by `now`."""
        return now() + self._more - self._spent

    def refusal(self, usual: float) -> str:
        """Returns why a way that usually takes so long is not built now; empty where it is."""
        if not usual:
            return ""
        if now() - self._begun + usual > self._budget:
            return f"the budget of {self._budget:.0f} s is spent"
        if self._there and self._spent + usual > self._more:
            return f"that may take {self._more:.1f} s, a tenth of {self._frames:.0f} frames' time"
        if not self._there and usual > self._saved:
            return f"{self._frames:.0f} frames are too few to make up for building it"
        return ""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts what a way takes that is tried beside another, or in vain."""
        begun = now()
        try:
            yield
        except AcceleratorError:
            self._spent += now() - begun
            raise
        if self._there:
            self._spent += now() - begun
        self._there = True


def finer_of(coarser: str, label: str) -> bool:
    """Tells by labels whether a way is another's engine in float32: no faster where both agree."""
    (engine, _, half), (same, _, word) = (one.partition(" ") for one in (coarser, label))
    return engine == same and word == "fp32" and half in ("fp16", "bf16")
