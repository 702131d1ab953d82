"""Things that move farther between two frames than dense flow can follow: each looked for whole.

Dense flow goes from coarse to fine, and what moves by most of its own size is in no coarser level.
But what is held is known as a thing: a connected region of a belief. Where the flow does not
explain it, because the earlier picture, moved, does not look like this one there, its own pixels
are looked for in all of the picture: the shift of least mean squared difference over the region, by
FFT. Where that explains it better, the flow is that shift within the region moved. What it has left
uncovered goes along with what lies next to it, and is not relied on.

Regions are numbered on the host, so that a GPU is waited for: once a frame, once more where
something is held, and for each region that is looked for.

Letters: ``B`` batch, ``R`` routes, ``h w`` the grid that motion is measured on.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cbs_core.machine.device import fetch
from cbs_core.temporal.around import highest_around
from cbs_core.temporal.flow import Step, fit, outside, warped

Mask: TypeAlias = NDArray[np.bool_]

SUSPECTED = 0.2
"""Belief from which on something is followed: less than is shown, since what is new and fast would
never be seen in the same place twice."""

LEAST = 8
"""Grid pixels of a region that is followed."""

LARGEST = 0.2
"""Share of the picture above which a region is not looked for: flow follows what is large, and
much of it hidden is no motion."""

MOST = 6
"""Regions that are looked for in a frame, the largest first."""

EXPLAINED = 0.95
"""Share of a region that the flow has to explain, for it not to be looked for."""

BETTER = 0.1
"""Share of the region by which a shift has to explain more than the flow,"""

WHOLE = 0.97
"""or all of it but this: then it is one stiff thing, and the flow is wrong at its edge."""

LOST = 0.5
"""Share of which less is explained where a region is lost."""

IN_VIEW = 0.2
"""Share of a region that a shift leaves within the picture, at least."""

THICK = 3
"""Grid pixels a side of the square of which the best trust counts, where a thing has moved whole:
its edge is mixed with another background in each frame."""

FARTHEST = 0.2
"""Of the longer side of the picture, that anything leaps."""

FARTHER = 2e-5
"""Mean squared difference that a shift must make up for, a grid pixel of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The motion since the last frame, with things that leap."""

    step: Step

    lost: Tensor
    """``(B,R,h,w)`` in [0,1]: where things were whose motion is not known."""

    bared: Tensor
    """``(B,1,h,w)`` bool: what things have left that were found elsewhere, whole."""


def follow(step: Step, now: Tensor, before: Tensor, shares: Tensor) -> Followed:
    """Returns the motion between two frames, and where things are lost.

    Args:
        step: the motion by dense flow.
        now: a frame, ``(B,3,h,w)``.
        before: the one before.
        shares: the beliefs after that one, ``(B,R,h,w)``.
    """
    lost = torch.zeros_like(shares)
    bared = torch.zeros_like(step.trust, dtype=torch.bool)
    motion, trust = step.motion.clone(), step.trust.clone()
    levels = fetch((shares > SUSPECTED).to(torch.uint8) + (shares > 0.5)).numpy()
    for picture in range(len(levels)):
        one = slice(picture, picture + 1)
        routes = enumerate(levels[picture])
        regions = [(route, *masks) for route, level in routes for masks in _regions(level)]
        if not regions:
            continue
        regions = sorted(regions, key=lambda one: -int(one[1].sum()))[:MOST]
        found, whole = (
            torch.from_numpy(np.stack([one[which] for one in regions])).to(shares.device).float()
            for which in (1, 2)
        )
        carried = warped(found[None], step.motion[one])[0]
        explained = fetch((carried * step.trust[picture]).sum((1, 2)) / found.sum((1, 2))).tolist()
        for index, (route, mask, _) in enumerate(regions):
            region = found[index]
            left = (region > 0.5) & (carried[index] < 0.5)
            if explained[index] >= EXPLAINED:
                bared[picture, 0] |= left
                continue
            small = np.count_nonzero(mask) <= LARGEST * mask.size
            leap = _sought(region, whole[index], now[one], before[one]) if small else None
            due = min(explained[index] + BETTER, WHOLE)
            if leap is not None and leap.explained > due:
                gone = (left | (carried[index] > 0.5)) & ~leap.where
                bared[picture, 0] |= gone
                _moved(motion[picture], trust[picture], leap, gone)
            elif explained[index] >= LOST:
                continue
            elif _leaves(mask):
                trust[picture] *= ~(left | (carried[index] > 0.5))
            else:
                lost[picture, route] = torch.maximum(lost[picture, route], region)
    return Followed(replace(step, motion=motion, trust=trust), lost, bared)


def _leaves(mask: Mask) -> bool:
    """Tells whether a region is at the border: lost there, it has left, and nothing is carried."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def _regions(level: NDArray[np.uint8]) -> list[tuple[Mask, Mask]]:
    """Returns what is held of ``(h,w)``, 2 where it is shown and 1 where suspected alone.

    Each region is followed by what is surely of it, and comes with all that is suspected beside:
    what has just come into view.
    """
    shown, some = (ndimage.label(level >= least, np.ones((3, 3)))[0] for least in (2, 1))
    cores = [shown == number for number in _largest(shown)]
    out = [
        (
            ndimage.binary_dilation(core, iterations=2, mask=level >= 1),
            np.isin(some, np.unique(some[core])) & ((shown == 0) | core),
        )
        for core in cores
    ]
    known = np.bincount(some[level == 2], minlength=some.max() + 1)
    suspected = np.where(known[some] > 0, 0, some)
    out += [(suspected == number,) * 2 for number in _largest(suspected)]
    out = [masks for masks in out if np.count_nonzero(masks[0]) >= LEAST]
    return sorted(out, key=lambda masks: -np.count_nonzero(masks[0]))[:MOST]


def _largest(labels: NDArray[np.int32]) -> list[int]:
    """Returns the numbers of the `MOST` largest regions: a picture may have a thousand specks."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")[:MOST]
    return [int(number) for number in order if areas[number]]


@dataclass(frozen=True, slots=True, eq=False)
class _Leap:
    """A thing that has moved as a whole."""

    where: Tensor
    """``(h,w)`` bool, where it is now."""

    motion: Tensor
    """``(2,)``, from there to where it was."""

    trust: Tensor
    """``(h,w)``, as in `Step`."""

    explained: float
    """Share of what is in view of it that looks as before."""


def _sought(region: Tensor, whole: Tensor, now: Tensor, before: Tensor) -> _Leap | None:
    """Looks for a region ``(h,w)`` of ``before`` in ``now``, both ``(1,3,h,w)``.

    What else is ``whole`` with it, ``(h,w)``, goes along where it looks as before there.
    """
    height, width = region.shape
    misfit = _misfits(region, now[0], before[0])
    at = int(misfit.argmin())
    y, x = divmod(at, misfit.shape[1])
    if not torch.isfinite(misfit[y, x]):
        return None
    shift = [
        float(here - size + _vertex(line, here))
        for line, here, size in ((misfit[:, x], y, height), (misfit[y], x, width))
    ]
    back = torch.tensor([-shift[1], -shift[0]], device=region.device)
    motion = back[None, :, None, None].expand(1, 2, height, width)
    where, beside = warped(torch.stack([region, whole])[None], motion)[0] > 0.5
    alike = fit(motion, now, before)
    trust = highest_around(alike, THICK)[0, 0]
    count = max(1, int((where & ~outside(motion)[0, 0]).sum()))
    explained = float((alike[0, 0] * where).sum()) / count
    return _Leap(where | beside & (trust > 0.5), back, trust, explained)


def _misfits(region: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """Returns the mean squared difference of each shift, ``(2h+1,2w+1)``; that of none lies amid.

    A shift that moves too much of the region out of the picture has infinity.
    """
    height, width = region.shape
    size = (2 * height + 1, 2 * width + 1)

    def spectrum(values: Tensor) -> Tensor:
        out: Tensor = torch.fft.rfft2(values.float(), size)
        return out

    inside = torch.ones_like(region)
    ours = spectrum(torch.stack([inside, (now**2).sum(0), *now]))
    theirs = spectrum(torch.stack([region, region * (before**2).sum(0), *(region * before)])).conj()
    total = ours[0] * theirs[1] + ours[1] * theirs[0] - 2 * (ours[2:] * theirs[2:]).sum(0)
    sums = torch.fft.irfft2(torch.stack([total, ours[0] * theirs[0]]), size)
    squares, counts = torch.roll(sums, (height, width), (1, 2)).unbind()
    y = torch.arange(size[0], device=region.device)[:, None] - height
    x = torch.arange(size[1], device=region.device) - width
    length = torch.hypot(y.float(), x.float())
    mean = squares.clamp(min=0) / (3 * counts.clamp(min=1)) + FARTHER * length
    near = length <= FARTHEST * max(height, width)
    return torch.where((counts >= IN_VIEW * region.sum()) & near, mean, torch.inf)


def _vertex(line: Tensor, at: int) -> float:
    """Returns how far from a place the least value is, by the parabola through its neighbours."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, here, after = (float(line[at + side]) for side in (-1, 0, 1))
    bend = before + after - 2 * here
    if not 0 < bend < float("inf"):
        return 0.0
    return min(0.5, max(-0.5, 0.5 * (before - after) / bend))


def _moved(motion: Tensor, trust: Tensor, leap: _Leap, gone: Tensor) -> None:
    """Writes a leap into the motion ``(2,h,w)`` and the trust ``(1,h,w)`` of a picture."""
    # To each place that is uncovered goes what is next to it: beyond the thing, here and there.
    taken = fetch(gone | leap.where).numpy()
    nearest = ndimage.distance_transform_edt(taken, return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(np.ascontiguousarray(nearest)).long().to(motion.device)
    y = torch.arange(len(rows), device=motion.device)[:, None]
    x = torch.arange(rows.shape[1], device=motion.device)
    beside = motion[:, rows, columns] + torch.stack([columns - x, rows - y])
    motion.copy_(torch.where(gone, beside, motion))
    motion.copy_(torch.where(leap.where, leap.motion[:, None, None], motion))
    trust.mul_(~gone)
    trust.copy_(torch.where(leap.where, leap.trust, trust[0])[None])
