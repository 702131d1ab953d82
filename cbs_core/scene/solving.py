"""Colours of splats that make views look as they should: least squares.

A view is a linear map of the splats' colours, and the new ones solve ``min sum_v |A_v x - b_v|^2``,
the splats of other classes held, over colours that there are (0..1).

Letters: ``n`` splats that are solved for, ``P`` pixels of a view.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from cbs_core.scene.restyled import Progress
from cbs_core.scene.splatting import Weights
from cbs_core.scene.types import Floats

LEAST_SEEN = 0.05
"""Pixels: a splat of which all views together show less has the colour of its neighbour."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one view asks of the colours."""

    weights: Weights
    """``(P,n)``."""

    free: Floats
    """``(P,3)``, what the picture has without these splats."""

    target: Floats
    """``(P,3)``, the picture as it should be."""

    size: tuple[int, int]
    """Height and width."""


def solved(asked: list[Asked], means: Floats, iterations: int, progress: Progress) -> Floats:
    """Returns colours ``(n,3)`` in [0,1] by conjugate gradients on the normal equations.

    They are scaled by how much each splat is seen, begun anew where they would lead uphill, and
    kept to colours that there are: a colour at its bound is not moved beyond it. To cut the result
    off instead costs the more the further the steps go, because splats in front of each other come
    to make up for one another with colours that there are not.

    It starts from the mean of what a splat should look like where it is seen, and few steps are
    made: what the views disagree on would only be fitted to the noise of strokes. Splats that no
    view sees take their neighbours' colour.

    Args:
        asked: by the views.
        means: ``(n,3)`` places.
        iterations: steps.
        progress: told of them.
    """
    maps = [view.weights for view in asked]
    wanted = [view.target - view.free for view in asked]

    def transposed(pictures: list[Floats]) -> Floats:
        return np.asarray(sum(a.T @ p for a, p in zip(maps, pictures, strict=True)))

    seen = transposed([np.ones((len(b), 1), np.float32) for b in wanted])[:, 0]
    scale = 1 / np.maximum(seen, 1e-6)[:, None]
    one = np.ones((len(means), 1), np.float32)
    shown = [np.maximum(np.asarray(a @ one), 0.05) for a in maps]
    x = transposed([b / s for b, s in zip(wanted, shown, strict=True)]) * scale
    x = np.clip(x, 0, 1)
    ahead, before, last = np.zeros_like(x), np.full(3, np.inf), np.zeros_like(x)
    residual = transposed([b - a @ x for a, b in zip(maps, wanted, strict=True)])
    with progress("solving for colours", iterations) as step:
        for _ in range(iterations):
            held = (x <= 0) & (residual < 0) | (x >= 1) & (residual > 0)
            z = np.where(held, 0, residual * scale)
            turn = np.maximum((z * (residual - last)).sum(0) / before, 0)
            ahead = np.where(held, 0, z + turn * ahead)
            ahead = np.where((ahead * residual).sum(0) > 0, ahead, z)
            carried = transposed([a @ ahead for a in maps])
            length = (ahead * residual).sum(0) / np.maximum((ahead * carried).sum(0), 1e-30)
            last, before = residual, np.maximum((residual * z).sum(0), 1e-30)
            x = np.clip(x + length * ahead, 0, 1)
            residual = transposed([b - a @ x for a, b in zip(maps, wanted, strict=True)])
            step()
    faint = seen < LEAST_SEEN
    if faint.any() and not faint.all():
        _, near = cKDTree(means[~faint]).query(means[faint])
        x[faint] = x[~faint][near]
    return x
