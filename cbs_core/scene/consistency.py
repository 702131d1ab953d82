"""How alike a surface point looks from two sides, since its place is known.

As the field has it, neighbouring pictures of a turn (short range) and pictures seven apart (long
range); in the place of an optical flow that is guessed, the scene's own depth says which pixel is
which. RMSE is always told, and by request a distance of features (``cbs.distances``), as LPIPS is:
of the picture and of the other one carried to its place, black where no point is in both, the mean
over the points that are.

Letters: ``H W`` a picture, ``n`` points.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from cbs_core.choose import registry
from cbs_core.contract.errors import PluginContractError
from cbs_core.contract.extensions import Distance
from cbs_core.scene.cameras import Camera, orbit
from cbs_core.scene.restyled import Restyled
from cbs_core.scene.types import Floats, Mask

PAIRS = 4
RANGES = {"short": 1, "long": 7}
STEPS = PAIRS * len(RANGES)

TURN = 48
"""Pictures of the turn that the ranges count in."""

SIDE = 192


def measured(
    restyled: Restyled, step: Callable[[], None], distance: Distance | None = None
) -> dict[str, dict[str, float]]:
    """Returns how far views of the same points are apart, colours in [0,1].

    Args:
        restyled: the scene.
        step: called after each pair.
        distance: measured too.

    Returns:
        Of each range RMSE ``before`` and ``after``, and with a distance ``distance_before`` and
        ``distance_after``; empty where no point is seen from both sides.
    """
    return {name: _apart(restyled, turns, step, distance) for name, turns in RANGES.items()}


def _apart(
    restyled: Restyled, turns: int, step: Callable[[], None], distance: Distance | None
) -> dict[str, float]:
    squares: dict[str, list[Floats]] = {"before": [], "after": []}
    felt: dict[str, list[Floats]] = {"before": [], "after": []}
    for i in range(PAIRS):
        at = TURN * i // PAIRS
        one, two = (orbit(restyled.ball, 360 * (at + k) / TURN, 14, SIDE) for k in (0, turns))
        pixels, other = matches(one, two, restyled.depth(one), restyled.depth(two))
        for when, shot in (("before", restyled.before), ("after", restyled.after)):
            a, b = shot(one)[pixels], shot(two)
            there = np.stack([map_coordinates(b[..., k], other, order=1) for k in range(3)], 1)
            squares[when].append(((a - there) ** 2).mean(1))
            if distance and len(a):
                felt[when].append(_felt(distance, pixels, a, there))
        step()
    if not sum(map(len, squares["before"])):
        return {}
    out = {when: float(np.sqrt(np.concatenate(v).mean())) for when, v in squares.items()}
    if distance:
        out |= {f"distance_{when}": float(np.concatenate(v).mean()) for when, v in felt.items()}
    return {key: round(value, 5) for key, value in out.items()}


def _felt(distance: Distance, pixels: Mask, one: Floats, two: Floats) -> Floats:
    """Returns a distance at each of the points ``(n,)`` of a mask, by their colours ``(n,3)``."""
    pictures = []
    for colours in (one, two):
        picture = np.zeros((*pixels.shape, 3), np.float32)
        picture[pixels] = colours
        pictures.append(torch.from_numpy(picture).permute(2, 0, 1)[None])
    with torch.inference_mode():
        found = registry.guarded("the distance", distance, *pictures)
    if not isinstance(found, torch.Tensor) or found.shape != (1, 1, *pixels.shape):
        raise PluginContractError("the distance gave no map (1,1,H,W)")
    return np.asarray(found[0, 0].float().cpu().numpy()[pixels])


def matches(one: Camera, two: Camera, depth: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Returns pixels of one view as a mask ``(H,W)``, and where each is in the other, ``(2,n)``.

    Points that the other view does not see are left out, and those near an edge of its depth.
    """
    rays = one.rays().reshape(one.height, one.width, 3)
    shown = np.isfinite(depth)
    points = one.position + rays[shown] * depth[shown][:, None]
    pixel, there = two.seen(points)
    x, y = pixel[:, 0] - 0.5, pixel[:, 1] - 0.5
    inside = (there > 0) & (x >= 0) & (y >= 0) & (x <= two.width - 1) & (y <= two.height - 1)
    column, row = np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)
    near = np.ones(len(points), bool)
    for dy in (0, 1):
        for dx in (0, 1):
            found = other[
                np.minimum(row + dy, two.height - 1), np.minimum(column + dx, two.width - 1)
            ]
            near &= np.abs(np.where(np.isfinite(found), found, -1e30) - there) < 0.01 * there
    keep = inside & near
    mask = np.zeros(depth.shape, bool)
    mask[shown] = keep
    return mask, np.stack([y[keep], x[keep]])
