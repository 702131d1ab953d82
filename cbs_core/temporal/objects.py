"""Objects: which one of the routed classes is restyled, and the same one from frame to frame.

A frame's objects are one map of numbers. Any segmenter gives it by the connected components of
its class map; an `InstanceSegmenter` gives it by its masks. Everything after that, the choice, the
tracking and the matte, knows only the map.

The map lies on the host, where the components are found: a selection waits for the device once a
frame. Without one (``select=all``) nothing here runs.

Letters: ``B`` batch, ``K`` classes, ``N`` objects, ``R`` routes, ``H W`` the frame.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage import measure
from torch import Tensor

from cbs_core.contract.types import Instances
from cbs_core.temporal.wanted import Wanted, check_inside

SPECK = 2e-4
"""Share of the frame below which a region is no object: 415 of 1920x1080 pixels."""

OVERLAP = 0.1
"""Least intersection over union with the chosen object's last mask that makes it the same one."""

EDGE = 0.02
"""How far a soft matte reaches beyond its object, as a share of the frame's diagonal: the band
that Boundary IoU (Cheng et al. 2021, 2103.16562) takes for the boundary."""

MIN_EDGE = 16
"""Pixels; the least of it, because a net that works at an eighth blurs a small frame as much."""

NOTHING = 1e-7
"""Probability whose logarithm stands for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of one frame."""

    numbers: NDArray[np.integer]
    """``(H,W)``, the number of the object that a pixel belongs to; 0 where there is none."""

    routes: NDArray[np.integer]
    """``(N+1,)``, the route of each number; -1 of those that are on none, and of 0."""

    def areas(self) -> NDArray[np.integer]:
        """Returns the pixels of each number, ``(N+1,)``."""
        return np.bincount(self.numbers.ravel(), minlength=len(self.routes))

    def by_size(self) -> list[int]:
        """Returns the numbers that can be chosen, on a route and no specks, largest first."""
        areas = self.areas()
        fit = np.flatnonzero((self.routes >= 0) & (areas >= max(1, SPECK * self.numbers.size)))
        found: list[int] = fit[np.argsort(-areas[fit], kind="stable")].tolist()
        return found

    def overlaps(self, mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Returns the intersection over union of each number with a mask ``(H,W)``, ``(N+1,)``."""
        common = np.bincount(self.numbers[mask], minlength=len(self.routes))
        union = self.areas() + np.count_nonzero(mask) - common
        return np.asarray(common / np.maximum(union, 1))

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Returns an object's pixels, ``(H,W)``."""
        return np.asarray(self.numbers == number)

    def territory(self, number: int) -> NDArray[np.bool_]:
        """Returns the pixels that are nearer to an object than to others of its route, ``(H,W)``.

        They reach `EDGE` beyond it: a matte cut to them keeps its soft edge, and nothing else.
        """
        height, width = self.numbers.shape
        reach = max(MIN_EDGE, math.ceil(EDGE * math.hypot(height, width)))
        out = np.zeros((height, width), dtype=bool)
        rows, columns = (np.flatnonzero(self.mask(number).any(axis)) for axis in (1, 0))
        # A rival that is nearer to a pixel within reach lies within twice the reach.
        window = tuple(
            slice(max(0, line[0] - 2 * reach), line[-1] + 2 * reach + 1) for line in (rows, columns)
        )
        near = self.numbers[window]
        distance, (y, x) = distance_transform_edt(
            self.routes[near] != self.routes[number], return_indices=True
        )
        out[window] = (near[y, x] == number) & (distance <= reach)
        return out


def components(labels: Tensor, route_of: Sequence[int]) -> Objects:
    """Returns the connected components, diagonals included, of the classes on a route.

    Args:
        labels: ``(H,W)``, the class of each pixel. Waits for the device.
        route_of: ``(K,)``, the route of each class, or -1.
    """
    classes = labels.cpu().numpy()
    routes = np.asarray(route_of)
    routed = np.where(routes[classes] >= 0, classes + 1, 0)
    numbers: NDArray[np.integer] = measure.label(routed, background=0, connectivity=2)
    route = np.full(numbers.max() + 1, -1)
    route[numbers] = routes[classes]  # every pixel of a component says the same
    route[0] = -1
    return Objects(numbers, route)


def instances(found: Instances, route_of: Sequence[int]) -> Objects:
    """Returns the objects of a frame's masks: a pixel is the one's whose mask is highest there.

    Args:
        found: a mask above 0.5 is an object's. Waits for the device.
        route_of: ``(K,)``, the route of each class, or -1.
    """
    if not len(found.masks):
        return Objects(np.zeros(found.masks.shape[1:], dtype=np.int64), np.array([-1]))
    highest, index = found.masks.max(0)
    numbers = torch.where(highest > 0.5, index + 1, 0).cpu().numpy()
    return Objects(numbers, np.array([-1, *(route_of[k] for k in found.classes.tolist())]))


def logits(found: Sequence[Instances], classes: int) -> Tensor:
    """Returns ``(B,K,H,W)`` logits whose softmax is, of each class, its highest mask.

    Class 0 is the background: one minus the highest of all masks.

    Args:
        found: the instances of each of B frames of one size, one at least.
        classes: K.
    """
    masks = found[0].masks
    scores = masks.new_zeros(len(found), classes, *masks.shape[1:], dtype=torch.float32)
    for out, one in zip(scores, found, strict=True):
        index = one.classes[:, None, None].expand(one.masks.shape)
        out.scatter_reduce_(0, index, one.masks.float(), "amax")
        out[0] = 1 - out[1:].amax(0)
    return scores.clamp_(min=NOTHING).log_()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which object of a stream is restyled."""

    wanted: Wanted
    """Which one, in the first frame that has it."""

    route_of: tuple[int, ...]
    """``(K,)``, the route of each class, or -1."""

    soft: bool
    """Whether mattes have soft edges to be kept."""

    whole: tuple[int, ...] = ()
    """Routes that have no objects to choose from, such as ``rest``: they stay as they are."""

    heir: int = -1
    """The one of these that gets the objects that were not chosen; -1 for none."""

    alone: bool = False
    """Whether there is no other object, because the segmenter finds what lies at the point alone
    (`PointSegmenter`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The selected object as far as it was followed.

    It is chosen in the first frame that has it. In each later one it is the object of the same
    route that overlaps it most; where none does (`OVERLAP`), its last mask waits. A frame of
    another size begins anew, and so does another selection.
    """

    selection: Selection | None = None
    """The one that it answers; None before the first frame."""

    mask: NDArray[np.bool_] | None = None
    """``(H,W)``, where it was seen last."""

    route: int = -1
    frames_without: int = 0
    """Frames that passed unchanged, because the object was not in them."""

    most: int = 0
    """The most objects that a frame had."""

    def state(self) -> dict[str, object]:
        """Returns it as plain values and tensors."""
        mask = None if self.mask is None else torch.from_numpy(self.mask)
        kept: dict[str, object] = {"mask": mask, "route": self.route}
        kept |= {"frames_without": self.frames_without, "most": self.most, "selection": None}
        if self.selection is not None:
            chosen = self.selection
            kept["selection"] = astuple(chosen)
        return kept

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        chosen, mask = kept["selection"], kept["mask"]
        return cls(
            None if chosen is None else Selection(*chosen),
            None if mask is None else mask.numpy(),
            kept["route"],
            kept["frames_without"],
            kept["most"],
        )


def follow(
    selection: Selection, before: Followed, mattes: Tensor, objects: Sequence[Objects]
) -> tuple[Tensor, Followed]:
    """Returns mattes ``(B,R,H,W)`` that are the chosen object's alone, and it as it is now.

    They are 0 where it is absent. Routes of what is left (`Selection.whole`) are as they were.

    Args:
        selection: which object.
        before: as it was in the frame before.
        mattes: ``(B,R,H,W)``, those of all objects.
        objects: of each of the B frames, which follow each other.

    Raises:
        ConfigError: the chosen point is outside the frame.
    """
    now = before if before.selection == selection else Followed(selection)
    out = torch.zeros_like(mattes)
    for matte, all_mattes, found in zip(out, mattes, objects, strict=True):
        for index in selection.whole:
            matte[index] = all_mattes[index]
        number, most = _choose(now, selection, found)
        if number is None:
            now = replace(now, most=most, frames_without=now.frames_without + 1)
        else:
            mask, route = found.mask(number), int(found.routes[number])
            now = replace(now, most=most, mask=mask, route=route)
            if route >= 0:  # else it is what `rest` leaves out
                kept = torch.from_numpy(found.territory(number) if selection.soft else mask)
                matte[route] = all_mattes[route] * kept.to(mattes.device)
        if selection.heir >= 0:
            matte[selection.heir] += (all_mattes - matte).sum(0)
    return out, now


def _choose(now: Followed, selection: Selection, objects: Objects) -> tuple[int | None, int]:
    """Returns the chosen object's number in a frame, if it is there, and the most objects."""
    if selection.alone:
        there = bool(objects.numbers.any())
        return (1 if there else None), max(now.most, int(there))
    numbers = objects.by_size()
    most = max(now.most, len(numbers))
    if now.mask is None or now.mask.shape != objects.numbers.shape:
        return _first(selection.wanted, objects, numbers), most
    overlaps = objects.overlaps(now.mask)
    same = [n for n in numbers if objects.routes[n] == now.route and overlaps[n] >= OVERLAP]
    return max(same, key=overlaps.__getitem__, default=None), most


def _first(wanted: Wanted, objects: Objects, numbers: list[int]) -> int | None:
    if isinstance(wanted, int):
        return numbers[wanted - 1] if wanted <= len(numbers) else None
    check_inside(wanted, *objects.numbers.shape)
    x, y = wanted
    number = int(objects.numbers[y, x])
    return number if number in numbers else None
