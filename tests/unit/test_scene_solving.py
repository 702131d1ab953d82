"""Colours that are solved for: as near as colours can come, and nearer with each step."""

import numpy as np
from scipy.optimize import lsq_linear
from scipy.sparse import csr_matrix

from cbs_core.scene.solving import Asked, solved
from tests.restyling import silent


def test_colours_come_as_near_as_colours_within_their_bounds_can() -> None:
    rng = np.random.default_rng(0)
    # Each pixel shows three of twelve splats; what is wanted no colours in 0..1 make.
    views, wild = [], rng.uniform(-0.8, 1.8, (12, 3))
    for _ in range(3):
        weights = np.zeros((40, 12))
        for row in weights:
            row[rng.choice(12, 3, replace=False)] = rng.dirichlet([1, 1, 1])
        target = weights @ wild + rng.normal(0, 0.1, (40, 3))
        views.append(Asked(csr_matrix(weights), np.full((40, 3), 0.05), target, (5, 8)))
    whole = np.concatenate([view.weights.toarray() for view in views])
    wanted = np.concatenate([view.target - view.free for view in views])
    best = np.stack([lsq_linear(whole, wanted[:, k], (0, 1)).x for k in range(3)], 1)

    def apart(x: np.ndarray) -> float:
        return float(np.square(whole @ x - wanted).sum())

    means = rng.random((12, 3))
    found = [solved(views, means, count, silent) for count in (0, 1, 2, 4, 60)]
    assert all(x.min() >= 0 and x.max() <= 1 for x in found)
    assert ((best < 1e-9) | (best > 1 - 1e-9)).any()
    losses = [apart(x) for x in found]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] <= apart(best) * (1 + 1e-6)
    cut = np.clip(np.linalg.lstsq(whole, wanted, rcond=None)[0], 0, 1)
    assert losses[-1] < apart(cut)
