"""The figures of a run by step: what the curves are drawn from, and what tells divergence."""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from cbs_core.contract.errors import CbsError

WINDOW = 100
"""Steps whose median the last loss is compared with."""

SETTLED = 20
"""Steps before which nothing is compared: the first losses fall by orders of magnitude."""


class DivergenceError(CbsError):
    """A loss is no number, or has left all bounds."""


class History:
    """Named series of ``(step, value)``, in groups such as ``training`` and ``validation``.

    Args:
        state: what `state` returned earlier.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.groups: dict[str, dict[str, list[float]]] = {
            group: {name: list(values) for name, values in series.items()}
            for group, series in (state or {}).items()
        }

    def add(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Adds the figures of a step; every call of a group has the same names."""
        series = self.groups.setdefault(group, {"step": []})
        series["step"].append(step)
        for name, value in values.items():
            series.setdefault(name, []).append(value)

    def last(self, group: str) -> tuple[int, dict[str, float]] | None:
        """Returns the newest step of a group and its figures; None where there is none."""
        series = self.groups.get(group)
        if not series:
            return None
        newest = {name: values[-1] for name, values in series.items()}
        return int(newest.pop("step")), newest

    def state(self) -> dict[str, dict[str, list[float]]]:
        """Returns everything as plain values."""
        return self.groups

    def check(self, step: int, loss: float, *, factor: float | None) -> None:
        """Judges a loss by those before it.

        Args:
            step: its step.
            loss: not yet in the history.
            factor: how many times the running median it may be; None for any.

        Raises:
            DivergenceError: it is no number, infinite, or too high.
        """
        if not math.isfinite(loss):
            raise DivergenceError(f"the loss of step {step} is {loss}")
        before = self.groups.get("training", {}).get("loss", [])[-WINDOW:]
        if factor is None or len(before) < SETTLED:
            return
        usual = median(before)
        if loss > factor * usual > 0:
            raise DivergenceError(
                f"the loss of step {step} is {loss:.4g}, more than {factor:g} times its running "
                f"median of {usual:.4g}"
            )
