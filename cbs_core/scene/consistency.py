"""How alike a surface point looks from two sides, since its place is known.

As the field has it, neighbouring pictures of a turn (short range) and pictures seven apart (long
range); in the place of an optical flow that is guessed, the scene's own depth says which pixel is
which. Only RMSE is told: LPIPS would need weights that are not the project's.

Letters: ``H W`` a picture, ``n`` points.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import map_coordinates

from cbs_core.scene.cameras import Camera, orbit
from cbs_core.scene.restyled import Restyled
from cbs_core.scene.types import Floats

PAIRS = 4
RANGES = {"short": 1, "long": 7}
STEPS = PAIRS * len(RANGES)

TURN = 48
"""Pictures of the turn that the ranges count in."""

SIDE = 192


def measured(restyled: Restyled, step: Callable[[], None]) -> dict[str, dict[str, float]]:
    """Returns RMSE between views of the same points, colours in [0,1], before and after.

    Args:
        restyled: the scene.
        step: called after each pair.
    """
    out: dict[str, dict[str, float]] = {}
    for name, apart in RANGES.items():
        errors: dict[str, list[Floats]] = {"before": [], "after": []}
        for i in range(PAIRS):
            at = TURN * i // PAIRS
            one, two = (orbit(restyled.ball, 360 * (at + k) / TURN, 14, SIDE) for k in (0, apart))
            pixels, other = matches(one, two, restyled.depth(one), restyled.depth(two))
            for when, shot in (("before", restyled.before), ("after", restyled.after)):
                a, b = shot(one), shot(two)
                there = np.stack([map_coordinates(b[..., k], other, order=1) for k in range(3)], 1)
                errors[when].append(((a[pixels] - there) ** 2).mean(1))
            step()
        found = {
            k: float(np.sqrt(np.concatenate(v).mean()))
            for k, v in errors.items()
            if sum(map(len, v))
        }
        out[name] = {k: round(v, 5) for k, v in found.items()}
    return out


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
