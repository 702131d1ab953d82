"""Mattes that hold on to their object: a frame's scores, weighed with those before.

Of each route there is a belief, how sure it is in each place. From frame to frame it goes along
with the motion, and each frame that is segmented moves it a part of the way: by `RISE` where the
net sees more of the classes than was believed, by `FALL` where it sees less. So an object holds
through frames that miss it and fades when it is gone, and what flashes up once never shows. Between
two frames the belief is drawn towards 0 or 1, whichever is nearer, so that an edge that the net
draws a little differently each time stays where it was, and so that being moved does not blur it.

What was not in view before is what the frame alone says where it lies beside an object, comes in
from beyond the border, or is near to an object whose motion is not known (`leaps`); all else must
earn its place: it is shown when a second frame has seen it. A scene's first frame is believed as it
is.

Letters: ``B`` batch, ``K`` classes, ``R`` routes, ``H W`` the frame, ``h w`` the grid that motion
is measured on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from cbs_core.contract.types import Scores
from cbs_core.machine.device import fetch
from cbs_core.temporal.around import highest_around, sums
from cbs_core.temporal.flow import outside, resized, warped
from cbs_core.temporal.leaps import Followed

RISE = 0.4
"""Share of the way that a frame moves a belief up: a net that is sure has to be so twice."""

FALL = 0.15
"""And down. It is less, because nets miss what is there more often than they invent what is not."""

DRAWN = 0.8
"""How far a belief is drawn towards 0 or 1 from frame to frame: by this much of a smooth step."""

BESIDE = 5
"""Grid pixels a side of what is beside an object: what comes into view there may be more of it."""

NEAR = 25
"""And of what is near to one whose motion is not known: of 512x1024, 48 pixels beyond it."""

SPECK = 2e-4
"""Share of the grid below which a region is dropped, and a hole filled: 100 pixels of 512x1024."""

AROUND = 7
"""Grid pixels a side of the square in which a region's pixels are counted."""

DOUBTED = 0.1
"""Trust in the motion up to which nothing is carried along it,"""

RELIED = 0.5
"""and from which on all is: edges are trusted a little less, and would flicker."""

SUSPECTED = 0.1
"""Belief from which on something may have been there in the last frames,"""

ALIKE = 0.5
"""and the intersection over union with it that makes it the same."""

SQUARE = np.ones((3, 3))

EDGE = 3e-4
"""Least probability of what is not believed, and of its opposite: it bounds the logits."""


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """How sure it is, after a frame, that each route's classes are in a place."""

    of: str
    """What was segmented, and into which routes: another's beliefs are not gone on with."""

    shares: Tensor
    """``(B,R,h,w)`` in [0,1]."""

    def to(self, device: torch.device) -> "Belief":
        """Returns it on a device."""
        return Belief(self.of, self.shares.to(device))

    def state(self) -> dict[str, object]:
        """Returns it as plain values and tensors."""
        return {"of": self.of, "shares": self.shares}

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(**kept)


def hold(
    scores: Scores,
    member: Tensor,
    size: tuple[int, int],
    before: Belief | None,
    followed: Followed | None,
    *,
    of: str,
    segmented: bool,
    later: Tensor | None = None,
) -> tuple[Scores, Belief]:
    """Returns the scores of a frame by what is believed after it, and that belief.

    The new logits are on the grid. They keep what the net says of one class of a route against
    another; routes are shifted as a whole, each to its belief against the classes on none.

    Args:
        scores: the frame's own; those of a detector's objects stay as they are.
        member: ``(R,K)`` bool, the classes of each route.
        size: h and w.
        before: the belief after the last frame, if there was one.
        followed: the motion since; None begins anew.
        of: names what was segmented into which routes.
        segmented: whether the scores are new; those that were carried along say nothing new.
        later: what is believed by the frames after this one, where they are known.
    """
    own = _on_grid(scores.logits, size)
    routed, rest = _strongest(own, member)
    seen = _seen(routed, rest)
    if followed is None or before is None or before.of != of or before.shares.shape != seen.shape:
        now = seen
    else:
        now = believed(before.to(seen.device).shares, seen, followed, segmented=segmented)
    shown = cleaned(now if later is None else torch.maximum(now, later))
    shift = rest + torch.logit(shown, eps=EDGE) - routed
    for index, row in enumerate(member.cpu()):
        own[:, row] += shift[:, index : index + 1]
    return Scores(own, scores.instances, scores.scene), Belief(of, now)


def seen_in(logits: Tensor, member: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns how sure a frame alone is of each route, ``(B,R,h,w)``; arguments as of `hold`."""
    return _seen(*_strongest(_on_grid(logits, size), member))


def _seen(routed: Tensor, rest: Tensor) -> Tensor:
    return torch.sigmoid(routed - _rival(routed, rest))


def new(seen: Tensor) -> Tensor:
    """Returns what is believed of what one frame alone has seen: less than is shown."""
    return torch.where(seen > 0.5, RISE * seen, seen)


def believed(before: Tensor, seen: Tensor, followed: Followed, *, segmented: bool = True) -> Tensor:
    """Returns what is believed after a frame, ``(B,R,h,w)``.

    Args:
        before: what was before, likewise.
        seen: how sure the frame alone is, likewise.
        followed: the motion since.
        segmented: as in `hold`.
    """
    step = followed.step
    was = warped(before, step.motion)
    was = torch.lerp(was, was * was * (3 - 2 * was), DRAWN)
    near = highest_around(was, BESIDE) > 0.5
    near = near | (highest_around(followed.lost, NEAR) > 0.5)
    near = near | (highest_around(was, NEAR) > 0.5) & outside(step.motion)
    anew = torch.where(near & ~followed.bared, seen, new(seen))
    trust = ((step.trust - DOUBTED) / (RELIED - DOUBTED)).clamp(0, 1)
    if segmented:
        chance = _by_chance(seen, was)
        was = was + torch.where(seen > was, RISE, FALL) * (seen - was)
        was = torch.where(chance, was.clamp(max=RISE), was)
    return torch.lerp(anew, was, trust)


def _by_chance(seen: Tensor, was: Tensor) -> Tensor:
    """Returns where something new is that is not what was suspected there, bool ``(B,R,h,w)``.

    Two patches of noise may overlap; what is there has about the same shape in the next frame. What
    touches what is held is more of it.
    """
    fresh, held = (seen > 0.5) & (was <= 0.5), was > 0.5
    suspected = (was > SUSPECTED) & ~held
    levels = fetch(fresh.to(torch.uint8) + 2 * suspected.to(torch.uint8) + 4 * held.to(torch.uint8))
    out = np.zeros(levels.shape, bool)
    size = (-1, *seen.shape[2:])
    for level, chance in zip(levels.numpy().reshape(size), out.reshape(size), strict=True):
        if not (level == 3).any():
            continue
        now, before = (ndimage.label(level & bit, SQUARE)[0] for bit in (1, 2))
        beside = ndimage.binary_dilation(level & 4, SQUARE)
        for number in np.unique(now[level == 3]):
            region = now == number
            both = np.isin(before, np.unique(before[region & (before > 0)]))
            alike = np.count_nonzero(region & both) >= ALIKE * np.count_nonzero(region | both)
            if not alike and not (beside & region).any():
                chance |= region
    return torch.from_numpy(out).to(seen.device)


def cleaned(shares: Tensor) -> Tensor:
    """Returns beliefs ``(B,R,h,w)`` without specks and holes (`SPECK`).

    A region is one where enough of it lies within a square of `AROUND`; this needs no numbering of
    regions, for which a GPU would have to be waited for.
    """
    least = SPECK * shares.shape[2] * shares.shape[3]

    def kept(mask: Tensor) -> Tensor:
        square = sums(F.pad(mask, (AROUND // 2,) * 4, mode="replicate"), AROUND)
        return mask * highest_around(mask * (square >= least), AROUND)

    shown = (shares > 0.5).float()
    without = 1 - kept(1 - kept(shown))
    return torch.where(without == shown, shares, 1 - shares)


def _on_grid(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns new logits on the grid: ``(B,K,*,*)`` -> ``(B,K,h,w)``."""
    logits = logits.float()
    rows, columns = (
        max(1, round(have / due)) for have, due in zip(logits.shape[2:], size, strict=True)
    )
    # Every nth one is as good as their mean: nets' own outputs are coarser than the frame.
    some = logits[..., rows // 2 :: rows, columns // 2 :: columns]
    return resized(some, size) if some.shape[2:] != size else some.clone()


def _strongest(logits: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the highest logit of each route, ``(B,R,h,w)``, and of all on none, ``(B,1,h,w)``."""
    indices = [row.nonzero()[:, 0].tolist() for row in member.cpu()]
    routed = torch.stack([logits[:, index].amax(1) for index in indices], 1)
    rest = (~member.cpu().any(0)).nonzero()[:, 0].tolist()
    if not rest:  # then the routes are weighed against each other alone
        return routed, torch.zeros_like(routed[:, :1])
    return routed, logits[:, rest].amax(1, keepdim=True)


def _rival(routed: Tensor, rest: Tensor) -> Tensor:
    """Returns what each route's logit is to exceed, ``(B,R,h,w)``."""
    if routed.shape[1] == 1:
        return rest
    both = torch.cat([routed, rest], 1)
    first, second = both.topk(2, 1).values.chunk(2, 1)
    return torch.where(routed == first, second, first)
