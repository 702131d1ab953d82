"""Frames to come, by which an object is held from its first good frame backwards.

What is believed of a frame by those before it (`steady`) knows an object from its second frame on.
The same is believed from the other end: from the last frame that is known, backwards along the
motion. What either holds is shown, so that a new object is there at once, and one that the net
misses at first from before its first good frame; what flashes is still seen once from both ends.

Letters: ``B`` batch, ``K`` classes, ``R`` routes, ``H W`` the frame, ``h w`` the grid that motion
is measured on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from cbs_core.temporal import leaps, steady
from cbs_core.temporal.carrying import Seen
from cbs_core.temporal.flow import Step
from cbs_core.temporal.scenes import Scene


@dataclass(frozen=True, slots=True, eq=False)
class Coming:
    """A frame that is segmented before its turn."""

    of: str
    """What segmented it: scores of another are not gone on with."""

    scene: Scene
    seen: Seen
    logits: Tensor
    """``(B,K,*,*)``, its own."""

    back: Step | None = None
    """The motion from the next frame back to this one; None where none is known, or follows."""

    def before(self, later: "Coming") -> "Coming":
        """Returns it with the motion back from the next frame."""
        if not later.seen.follows(self.seen):
            return self
        return replace(self, back=self.seen.since(later.seen))

    def to(self, device: torch.device) -> "Coming":
        """Returns it on a device; itself where it lies there."""
        if self.logits.device == device:
            return self
        back = self.back
        if back is not None:
            back = Step(back.motion.to(device), back.trust.to(device))
        return replace(self, seen=self.seen.to(device), logits=self.logits.to(device), back=back)

    def state(self) -> dict[str, object]:
        """Returns it as plain values and tensors."""
        return {
            "of": self.of,
            "scene": self.scene.state(),
            "seen": self.seen.state(),
            "logits": self.logits,
            "back": None if self.back is None else (self.back.motion, self.back.trust),
        }

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(
            kept["of"],
            Scene.restore(kept["scene"]),
            Seen.restore(kept["seen"]),
            kept["logits"],
            None if kept["back"] is None else Step(*kept["back"]),
        )


def believed(coming: Sequence[Coming], member: Tensor) -> Tensor | None:
    """Returns what is believed of a frame by itself and those after it, ``(B,R,h,w)``.

    Args:
        coming: the frame and those after it; only as far as its scene goes.
        member: ``(R,K)`` bool, the classes of each route.

    Returns:
        None where none follows.
    """
    count = next((at for at, one in enumerate(coming) if one.back is None), len(coming))
    if not count:
        return None
    later = coming[count]
    belief = steady.new(steady.seen_in(later.logits, member, later.seen.size))
    for one in reversed(coming[:count]):
        assert one.back is not None
        followed = leaps.follow(one.back, one.seen.colour, later.seen.colour, belief)
        seen = steady.seen_in(one.logits, member, one.seen.size)
        belief = steady.believed(belief, seen, followed)
        later = one
    return belief
