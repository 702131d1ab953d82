"""The statistics of a style in a stream: when they are taken anew, and how they change.

Instance normalisation by each frame's own means and variances lets sensor noise, and whatever
enters the picture, flicker through the whole of it, and needs the whole picture each frame. Kept
from one frame to the next, they do neither.

Letters: ``S`` numbers in the statistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from cbs_core.temporal.wanted import Policy

BLEND = 8
"""Frames over which statistics that were refreshed within a scene take the place of the old."""


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Those of one style; they are first taken in the first frame that shows it.

    At a scene cut they change at once, else little by little, so that no jump is seen.
    """

    now: Tensor
    """``(1,S)``, those that the last frame was styled by."""

    target: Tensor
    """``(1,S)``, those that were taken last."""

    left: int = 0
    """Frames until `now` is `target`."""

    age: int = 0
    """Frames since they were taken."""

    scene: int = 0
    """Number of the scene that they were taken in."""

    def to(self, device: torch.device) -> "Statistics":
        """Returns them on a device; themselves where they lie there."""
        if self.now.device == device:
            return self
        return replace(self, now=self.now.to(device), target=self.target.to(device))

    def step(self) -> "Statistics":
        """Returns those to style the next frame by."""
        now, left = self.now, self.left
        if left:
            now, left = torch.lerp(now, self.target, 1 / left), left - 1
        return replace(self, now=now, left=left, age=self.age + 1)

    def state(self) -> dict[str, object]:
        """Returns them as plain values and tensors."""
        return {name: getattr(self, name) for name in ("now", "target", "left", "age", "scene")}

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(**kept)


def due(policy: Policy, before: Statistics | None, scene: int) -> bool:
    """Tells whether a frame's own are to be taken.

    Args:
        policy: when they are.
        before: those of the last frame that showed the style, if one did.
        scene: number of the frame's scene.
    """
    return before is None or _cut(policy, before, scene) or before.age == policy.every


def taken(policy: Policy, before: Statistics | None, measured: Tensor, scene: int) -> Statistics:
    """Returns the statistics once a frame's own, ``(1,S)``, were taken.

    Where ``left`` is 0 they count from this frame on.
    """
    if before is None or _cut(policy, before, scene):
        return Statistics(measured, measured, scene=scene)
    return Statistics(before.now, measured, left=BLEND, scene=scene)


def _cut(policy: Policy, before: Statistics, scene: int) -> bool:
    return policy.on_cut and scene != before.scene
