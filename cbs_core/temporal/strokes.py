"""Strokes that stay on what they are painted on: the last styled frame goes along with the motion.

Styled frame by frame, the strokes of two frames have little to do with each other. Their mean
would be steady, and blurred. So strokes are kept as they are, moved, and renewed in turn: a place
wears by the way that it goes, as neither the motion nor moving is exact, and what is worn fades
within `FADE` frames into strokes of a later frame, which are moved too meanwhile. Neighbouring
places wear out one after the other, so that the picture never changes as a whole. What was not in
view before, or not painted, gets the frame's own strokes.

Letters: ``B`` batch, ``H W`` the frame, ``h w`` the grid that motion is measured on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.temporal.around import highest_around, mean_around
from cbs_core.temporal.flow import Step, grid_size, resized, warped

LASTS = 4
"""Frames that strokes last where it moves by a pixel of the grid a frame or more."""

LEAST = 0.1
"""Of a frame's wear, what one costs where nothing moves: light changes little by little, and every
change is seen."""

FADE = 2
"""Frames in which others take their place there."""

PLACE = 16
"""Grid pixels from a place to one that wears out at another time."""

SEEN = 0.5
"""Trust in the motion from which on strokes go along with it."""

STILL = 0.6
"""Grid pixels a frame below which the whole picture counts as still."""

SAME = 0.007
"""Difference in [0,1] up to which a place looks as if it had moved along with the picture."""

OWN = 2.0
"""Grid pixels by which a place may seem to move otherwise, and be taken along nevertheless."""


TORN = 0.3
"""Pixels of the grid by which two neighbours may go apart: beyond, strokes would be melted."""

TOGETHER = 5
"""Grid pixels a side of the square in which trust is averaged."""

AROUND = 9
"""Grid pixels a side of what a place's look is averaged over."""

WITHIN = 0.99
"""Share of what was painted, above which a place was painted with all its neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """A style's last frame."""

    shown: Tensor
    """``(B,3,H,W)`` in [0,1]."""

    coming: Tensor
    """Likewise; what worn strokes fade into."""

    wear: Tensor
    """``(B,1,h,w)``: worn from `LASTS` on."""

    painted: Tensor
    """``(B,1,h,w)`` in [0,1]: 1 where the style was painted."""

    def to(self, device: torch.device) -> "Strokes":
        """Returns it on a device."""
        return Strokes(*(getattr(self, one.name).to(device) for one in fields(self)))

    def state(self) -> dict[str, object]:
        """Returns it as plain tensors."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(**kept)


def hold(
    styled: Tensor, painted: Tensor, before: Strokes | None, step: Step | None
) -> tuple[Tensor, Strokes]:
    """Returns a frame with the last one's strokes where they are still right, and what to keep.

    Args:
        styled: ``(B,3,H,W)`` in [0,1], by itself.
        painted: ``(B,1,H,W)``, 1 where it is styled and 0 where it may not be.
        before: of the last frame, if it showed the style.
        step: the motion since, `settled`; None begins anew.
    """
    own = styled.float()
    size = (styled.shape[2], styled.shape[3])
    grid = grid_size(*size)
    start = _start(*grid, styled.device).expand(len(styled), 1, *grid)
    painted = -F.adaptive_max_pool2d(-painted.float(), grid)
    if step is None or before is None or before.shown.shape != own.shape:
        return styled, Strokes(own, own, start, painted)
    before = before.to(styled.device)
    worn = warped(before.wear, step.motion, mode="nearest")
    fading = worn >= LASTS
    torn = _torn(step.motion)
    pace = (step.motion.norm(dim=1, keepdim=True) + torn / TORN).clamp(LEAST, 1)
    worn = worn + pace
    # Averaged, so that neighbours are not picked from two frames, which would look like sand.
    right = (mean_around(step.trust, TOGETHER) > SEEN) & (torn < TORN)
    right &= warped(before.painted, step.motion) > WITHIN
    wear = torch.where(right, worn, start)
    both = torch.cat([before.shown, before.coming], 1)
    shown, coming = warped(both, step.motion, mode="bicubic").clamp_(0, 1).chunk(2, 1)
    coming = torch.where(_enlarged(fading & right, size), coming, own)
    # Each frame goes its part of the whole way, at a pace of 1 a half, then all of what is left.
    left = torch.maximum(LASTS + FADE - wear, pace)
    share = torch.where(wear >= LASTS, pace / left, 0)
    shown = shown.lerp(coming, resized(share, size))
    shown = own.lerp(shown, resized(right.float(), size))
    over = (wear >= LASTS) & (left <= pace)
    kept = Strokes(shown, coming, wear.where(~over, 0), painted)
    gone = ((wear - LASTS + pace) / FADE).clamp(0, 1).where(wear >= LASTS, 0)
    return _clear(shown, gone.where(~over, 0)).to(styled.dtype), kept


def settled(step: Step, now: Tensor, before: Tensor) -> Step:
    """Returns the motion with that of the whole picture where nothing tells another.

    Without texture motion is a guess from the surroundings, other in each frame: strokes in a sky
    would creep. The whole picture's is the median; one of less than `STILL` is none.

    Args:
        step: the motion.
        now: ``(B,3,h,w)``, the frame `cbs_core.temporal.flow.small`,
        before: and the one before.
    """
    whole = step.motion.flatten(2).median(2).values[..., None, None]
    whole = (whole * (1 - _within(whole, STILL))).expand_as(step.motion)
    misfit = (now - warped(before, whole)).abs().mean(1, keepdim=True)
    alike = torch.exp(-((mean_around(misfit, AROUND) / SAME) ** 4))
    share = alike * _within(step.motion - whole, OWN)
    return Step(step.motion.lerp(whole, share), step.trust)


def _torn(motion: Tensor) -> Tensor:
    """Returns by how many pixels neighbours go apart, ``(B,1,h,w)``, the most in a small square."""
    padded = F.pad(motion, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).norm(dim=1, keepdim=True) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).norm(dim=1, keepdim=True) / 2
    return highest_around(torch.maximum(across, down), 3)


def _within(motion: Tensor, length: float) -> Tensor:
    """Returns about 1 for motion that is shorter, about 0 for longer: ``(B,1,h,w)``."""
    return torch.exp(-((motion.norm(dim=1, keepdim=True) / length) ** 4))


def _clear(shown: Tensor, gone: Tensor) -> Tensor:
    """Returns a picture whose strokes are as clear while they fade as before.

    The mean of two pictures that have nothing to do with each other has less contrast than each.

    Args:
        shown: ``(B,3,H,W)``.
        gone: ``(B,1,h,w)``, which part of the way from the one to the other.
    """
    size = (shown.shape[2], shown.shape[3])
    mean = F.avg_pool2d(F.avg_pool2d(shown, 4, ceil_mode=True), 3, 1, 1, count_include_pad=False)
    mean = F.interpolate(mean, size, mode="bilinear")
    contrast = (gone.square() + (1 - gone).square()).rsqrt()
    return mean.add((shown - mean) * resized(contrast, size)).clamp_(0, 1)


def _enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask.float(), size, mode="nearest") > 0


@lru_cache(maxsize=8)
def _start(height: int, width: int, device: torch.device) -> Tensor:
    """Returns how worn strokes begin, ``(1,1,h,w)``, so that they do not wear out all at once."""
    chance = torch.Generator().manual_seed(0)
    places = torch.rand(1, 1, height // PLACE + 2, width // PLACE + 2, generator=chance)
    smooth = F.interpolate(places, (height, width), mode="bilinear")
    return (LASTS * ((smooth - 0.15) / 0.7).clamp_(0, 1)).to(device)
