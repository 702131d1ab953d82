"""How well a matte fits the truth, and whether the background was left alone.

Masks are boolean ``(H,W)``, pictures uint8 ``(H,W,3)``.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask: TypeAlias = NDArray[np.bool_]
Picture: TypeAlias = NDArray[np.uint8]

BOUNDARY_TOLERANCE = 0.008
"""Of the boundary F-measure, as a share of the picture's diagonal (DAVIS)."""

BOUNDARY_BAND = 0.02
"""Of the boundary IoU, likewise (Cheng et al. 2021, 2103.16562)."""


def iou(mask: Mask, truth: Mask) -> float:
    """Returns intersection over union in [0,1]; two empty masks agree fully."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_f(mask: Mask, truth: Mask, *, tolerance: int | None = None) -> float:
    """Returns the boundary F-measure in [0,1]; two masks without a boundary agree fully.

    Source: Perazzi et al. 2016 (DAVIS), section 5: the harmonic mean of the shares of either
    boundary that lies within ``ceil(0.008 * diagonal)`` pixels of the other, or ``tolerance``.
    """
    ours, theirs = _boundary(mask), _boundary(truth)
    if not ours.any() and not theirs.any():
        return 1.0
    if not ours.any() or not theirs.any():
        return 0.0
    if tolerance is None:
        tolerance = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*mask.shape))
    precision = np.mean(distance_transform_edt(~theirs)[ours] <= tolerance)
    recall = np.mean(distance_transform_edt(~ours)[theirs] <= tolerance)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def boundary_iou(mask: Mask, truth: Mask) -> float:
    """Returns the IoU of the bands inside both boundaries, in [0,1].

    Source: Cheng et al. 2021 (2103.16562): a band is the mask less the mask eroded by 3x3,
    ``round(0.02 * diagonal)`` times; what lies beyond the picture counts as outside.
    """
    width = max(1, round(BOUNDARY_BAND * math.hypot(*mask.shape)))

    def band(whole: Mask) -> Mask:
        inner = binary_erosion(whole, np.ones((3, 3), bool), iterations=width)
        return np.asarray(whole & ~inner)

    return iou(band(mask), band(truth))


def background_error(result: Picture, original: Picture, mask: Mask) -> float:
    """Returns the mean absolute difference outside the mask, in levels of 255; 0 is untouched."""
    outside = ~mask
    if not outside.any():
        return 0.0
    difference = result[outside].astype(np.int16) - original[outside]
    return float(np.abs(difference).mean())


def _boundary(mask: Mask) -> Mask:
    """Returns the pixels that differ from their right, lower or diagonal neighbour (seg2bmap)."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


class Confusion:
    """The confusion matrix of a whole set of pictures, and the figures that come from it.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((classes, classes + 1), dtype=np.int64)
        """Pixels by truth (row) and prediction (column); the last column is none of the classes."""

    def add(self, prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """Counts the pixels of a picture.

        Args:
            prediction: ids in 0..K; K is none of the classes.
            truth: ids of the same shape; pixels of no class (255) are left out.
        """
        rows, columns = self.counts.shape
        valid = truth < rows
        pairs = truth[valid].astype(np.int64) * columns + prediction[valid]
        self.counts += np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU a class ``(K,)`` in [0,1]; NaN where the truth never has the class."""
        correct = np.diag(self.counts).astype(np.float64)
        truth, predicted = self.counts.sum(1), self.counts[:, :-1].sum(0)
        union = truth + predicted - correct
        return np.where(truth > 0, correct / np.maximum(union, 1), np.nan)

    @property
    def mean_iou(self) -> float:
        """The mean of `iou` over all classes that the truth has; NaN where it has none."""
        iou = self.iou
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else math.nan

    @property
    def pixel_accuracy(self) -> float:
        """The share of right pixels, in [0,1]; NaN where there are none."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else math.nan
