"""Dense optical flow: where each pixel of a picture was in an earlier one.

Lucas and Kanade 1981, in every pixel, from coarse to fine. Within a window the motion is not taken
for constant: as in Farnebäck 2003 each pixel brings in its own estimate so far. Where there is no
texture, the neighbours' motion is taken over; and also, as in PatchMatch (Barnes et al. 2009),
where a neighbour's fits better, so that what moves has a sharp edge.

It is plain torch, on any device and without waiting for it. No library at hand does this: kornia
has no dense flow, torchvision's RAFT is a net that costs more than the segmentation, scikit-image's
flows run on the host alone.

Letters: ``B`` batch, ``C`` channels, ``H W`` the frame, ``h w`` any smaller size. A flow is
``(B,2,h,w)``, x and y in pixels of its own size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.types import Scores
from cbs_core.temporal.around import mean_around

FINEST = 128 * 256
"""Pixels, at most, at which motion is measured, whatever the frame's: a quarter of the sides of
512x1024. Half the sides find smaller things less well, at a third of the cost."""

Views: TypeAlias = tuple[Sequence[Tensor], Tensor]
"""A frame's `pyramid`, and the frame `small`."""

COARSEST = 8
"""Pixels, at least, of the shorter side at the pyramid's top, where the largest motion is found."""

STEPS = 2
"""Solutions a level; each starts from the last one's flow."""

WINDOW = 7
"""Pixels a side, odd, over which the equations of pixels are averaged."""

STIFFNESS = 2e-4
"""Squared gradient, grey in [0,1] a pixel, below which the neighbours' motion counts for more than
the texture: more than that of noise of 1%, less than that of things."""


SEARCHED = 24
"""Pixels, at least, of the shorter side of the one level that is searched."""

REACH = 5
"""Pixels of it to each side: some 80 of 512x1024, 40 of 270x480."""

FARTHER = 0.002
"""Difference in grey that a motion must make up for, a pixel of it."""

TOLERANCE = 0.04
"""Difference in grey, [0,1], that noise and light make of the same thing in two frames."""

SLOPE = 0.5
"""Pixels of the finest level by which motion may be wrong."""


def pyramid(image: Tensor) -> list[Tensor]:
    """Returns grey pictures ``(B,1,h,w)`` of ``(B,3,H,W)``, coarsest first, each half the next.

    A frame that is `small` gives the same in less time.
    """
    levels = [small(image).mean(1, keepdim=True)]
    while min(levels[-1].shape[2:]) >= 2 * COARSEST:
        levels.append(_reduced(levels[-1], 0.5))
    return levels[::-1]


def flow(
    now: Sequence[Tensor], before: Sequence[Tensor], *, colours: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Returns ``(B,2,h,w)`` of the finest level: ``now[p]`` looks like ``before[p + flow[p]]``.

    Args:
        now: the `pyramid` of a frame,
        before: and of an earlier one of its size.
        colours: both frames `small`, to look for things that move by most of their own size, which
            no coarser level shows.
    """
    out = now[0].new_zeros(len(now[0]), 2, *now[0].shape[2:])
    for ours, theirs in zip(now, before, strict=True):
        out = _enlarged(out, ours.shape[2:])
        if colours is not None and SEARCHED <= min(ours.shape[2:]) < 2 * SEARCHED:
            out = _searched(out, *(_to(one, ours.shape[2:]) for one in colours))
        gradient = _gradient(ours)
        dx, dy = gradient.chunk(2, 1)
        xx, xy, yy = mean_around(torch.cat([dx * dx, dx * dy, dy * dy], 1), WINDOW).chunk(3, 1)
        xx, yy = xx + STIFFNESS, yy + STIFFNESS
        determinant = xx * yy - xy * xy
        for _ in range(STEPS):
            grid = _grid(out)
            # What was outside of the picture cannot be compared: there the estimate stays.
            inside = (grid.abs() <= 1).all(3)[:, None]
            rest = (ours - _sample(theirs, grid)) * inside
            rest = rest + (gradient * out).sum(1, keepdim=True)
            x, y = mean_around(gradient * rest + STIFFNESS * out, WINDOW).chunk(2, 1)
            out = torch.cat([yy * x - xy * y, xx * y - xy * x], 1) / determinant
        out = _best(out, ours, theirs)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The motion from an earlier frame to this one, and how far it can be relied on."""

    motion: Tensor
    """``(B,2,h,w)``, as `flow` returns it."""

    trust: Tensor
    """``(B,1,h,w)`` in [0,1]: 0 where a pixel was hidden or outside of the picture before."""


def small(image: Tensor) -> Tensor:
    """Returns ``(B,3,h,w)`` of ``(B,3,H,W)``, as large as the finest level of its `pyramid`."""
    return _reduced(image.float(), _share(*image.shape[2:]))


def grid_size(height: int, width: int) -> tuple[int, int]:
    """Returns h and w of the finest level of the `pyramid` of frames of a size."""
    share = _share(height, width)
    return max(1, round(height * share)), max(1, round(width * share))


def _share(height: int, width: int) -> float:
    return min(1.0, math.sqrt(FINEST / (height * width)))


def step(now: "Views", before: "Views") -> Step:
    """Returns the motion between two frames, each given as its pyramid and as it is, `small`.

    A pixel was in view where the earlier picture, moved, looks like this one: by `TOLERANCE`, and
    `SLOPE` pixels' worth of the texture, as motion is not exact.
    """
    (levels, ours), (earlier, theirs) = now, before
    motion = flow(levels, earlier, colours=(ours, theirs))
    return Step(motion, fit(motion, ours, theirs))


def fit(motion: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """Returns how far a motion ``(B,2,h,w)`` can be relied on, ``(B,1,h,w)`` as in `Step`.

    Args:
        motion: between two frames,
        now: a frame,
        before: and the earlier one, both `small`.
    """
    grid = _grid(motion)
    inside = (grid.abs() <= 1).all(3)[:, None]
    misfit = (_sample(before, grid) - now).abs().mean(1, keepdim=True)
    grey = now.mean(1, keepdim=True)
    slope = mean_around(_gradient(grey).abs().sum(1, keepdim=True), 3)
    return torch.exp(-((misfit / (TOLERANCE + SLOPE * slope)) ** 2)) * inside


def outside(motion: Tensor) -> Tensor:
    """Returns where a motion ``(B,2,h,w)`` comes from beyond the picture, bool ``(B,1,h,w)``."""
    return (_grid(motion).abs() > 1).any(3)[:, None]


def moved(scores: Scores) -> Step | None:
    """Returns the motion that came with a frame's scores, if one did."""
    if scores.motion is None or scores.trust is None:
        return None
    return Step(scores.motion, scores.trust)


def warped(picture: Tensor, motion: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Returns what an earlier picture looks like now; beyond its border its edge goes on.

    Args:
        picture: ``(B,C,H,W)`` of any size and float type.
        motion: the flow ``(B,2,h,w)`` from now to then.
        mode: of interpolation: ``bilinear``, ``nearest``, or ``bicubic``, which blurs less and may
            go beyond the picture's range.

    Returns:
        float32 ``(B,C,H,W)``.
    """
    return _sample(picture.float(), _grid(_enlarged(motion, picture.shape[2:])), mode)


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns ``(B,C,*,*)`` as ``(B,C,H,W)`` of a size (H, W); itself where it is of that size."""
    if tuple(values.shape[2:]) == size:
        return values
    smaller = values.shape[2] > size[0]
    return F.interpolate(values, size, mode="bilinear", antialias=smaller)


def _to(picture: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(picture, tuple(size), mode="area")


def _reduced(picture: Tensor, share: float) -> Tensor:
    size = [max(1, round(side * share)) for side in picture.shape[2:]]
    if size == list(picture.shape[2:]):
        return picture
    return F.interpolate(picture, size, mode="bilinear", antialias=True)


def _enlarged(motion: Tensor, size: Sequence[int]) -> Tensor:
    height, width = motion.shape[2:]
    if (height, width) == tuple(size):
        return motion
    x, y = F.interpolate(motion, tuple(size), mode="bilinear", align_corners=False).unbind(1)
    return torch.stack([x * (size[1] / width), y * (size[0] / height)], 1)


def _gradient(picture: Tensor) -> Tensor:
    """Returns the central differences along x and y, ``(B,1,h,w)`` -> ``(B,2,h,w)``."""
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([x, y], 1) / 2


def _searched(motion: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns each pixel's motion, or one within `REACH` of it where that fits clearly better."""
    side = 2 * REACH + 1
    batch, channels, height, width = ours.shape
    # unfold makes patches of each place; seen the other way they are the picture, shifted.
    shifted = F.unfold(F.pad(theirs, (REACH,) * 4, mode="replicate"), side)
    shifted = _sample(shifted.view(batch, -1, height, width), _grid(motion))
    misfit = (shifted.view(batch, channels, side * side, height, width) - ours[:, :, None]).abs()
    along = torch.arange(-REACH, REACH + 1, device=ours.device, dtype=ours.dtype)
    y, x = (axis.flatten() for axis in torch.meshgrid(along, along, indexing="ij"))
    farther = FARTHER * torch.hypot(x, y)[:, None, None]
    best = (mean_around(misfit.mean(1), 5) + farther).min(1).indices
    return motion + torch.stack([x[best], y[best]], 1)


def _best(motion: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns each pixel's own motion or that of one a window away, whichever fits its window best.

    Averaging blurs the motion at the edge of what moves; this sharpens it.
    """
    height, width = motion.shape[2:]
    around = F.pad(motion, (WINDOW,) * 4, mode="replicate")
    offsets = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    motions = torch.stack(
        [around[..., WINDOW * y :, WINDOW * x :][..., :height, :width] for y, x in offsets], 1
    )
    pictures = theirs.repeat_interleave(len(offsets), 0)
    misfit = _sample(pictures, _grid(motions.flatten(0, 1))).view(-1, len(offsets), height, width)
    misfit = mean_around((misfit - ours).abs(), WINDOW)
    # On a CPU `min` along the channels takes an eighth of the time of `argmin`.
    best = misfit.min(1).indices[:, None, None].expand(-1, 1, 2, -1, -1)
    return motions.gather(1, best)[:, 0]


def _grid(motion: Tensor) -> Tensor:
    """Returns where each pixel was, ``(B,h,w,2)``, the picture being [-1,1] along both axes."""
    height, width = motion.shape[2:]
    x, y = motion.unbind(1)
    columns = torch.arange(width, device=motion.device) + 0.5
    rows = torch.arange(height, device=motion.device)[:, None] + 0.5
    return torch.stack([(x + columns) * (2 / width) - 1, (y + rows) * (2 / height) - 1], 3)


def _sample(picture: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return F.grid_sample(picture, grid, mode, padding_mode="border", align_corners=False)
