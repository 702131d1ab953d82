"""Composition by a matte whose edge a Markov random field has moved to the picture's.

A variant of the boundary treatment of Castillo et al. 2017 (1701.02357), which smooths outlier
pixels near an object's boundary; it is not the authors' code, and their energy is not known. Here,
in a band around the matte's boundary, each pixel p is styled (x_p = 1) or original (0), so that

    E(x) = Σ_p U_p(x_p) + λ Σ_pq w_pq exp(-|I_p - I_q|² / 2σ²) [x_p ≠ x_q]

is least. U_p(x_p) is 0 where x_p agrees with the matte, else p's distance to the matte's boundary
over the band's width: the further a pixel lies from the boundary, the more it costs to go against
the matte. pq are the eight neighbours and w_pq is 1 over their distance, as in GrabCut (Rother et
al. 2004), so that slanted edges cost as much as upright ones. Outside the band the matte is kept.
The minimum is exact, by min-cut (Greig et al. 1989), and is feathered at last.

The cut is made on the host: unlike other compositors, this one waits for the device. It is also
not linear in the matte, but in its scale, which is a route's strength; and routes whose mattes lie
more than two bands and feathers apart are superposed exactly. Where two mattes touch, both may
claim a pixel of the band.

Letters: ``B`` batch, ``H W`` the frame, ``h w`` the part of it around the matte.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor, nn

from cbs_core.contract.errors import ConfigError
from cbs_plugins.compositors.feather import MOST, FeatherCompositor

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

UNIT = 1000
"""Flow has whole capacities: this many stand for an energy of 1."""

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns from a pixel to half of its neighbours; the other half see it."""


class MRFCompositor(nn.Module):
    """``U = A' * T + (1 - A') * I``, where A' is the feathered minimum of the energy.

    Soft mattes become binary first: styled is at least half of the matte's greatest value. A' has
    the values that A has nearby. Pixels further than ``width + feather`` from the matte are
    bit-exact I.

    Args:
        width: pixels that the band reaches to each side of the boundary, at least 1.
        smoothness: λ, at least 0; 0 keeps the boundary.
        sigma: σ, the difference of neighbours (RGB in [0,1]) that counts as an edge, more than 0.
        feather: reach of the final blur, pixels, as of ``compositor=feather``; 0 for none.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, width: int = 8, smoothness: float = 1.0, sigma: float = 0.1, feather: int = 2
    ) -> None:
        super().__init__()
        inside = 1 <= width <= MOST and 0 <= feather <= MOST
        if not inside or not 0 <= smoothness <= 1e6 or not 1e-3 <= sigma < math.inf:
            raise ConfigError(
                f"compositor.width must be 1 to {MOST}, compositor.feather 0 to {MOST}, "
                "compositor.smoothness 0 to 1e6 and compositor.sigma at least 0.001, not "
                f"{width}, {feather}, {smoothness} and {sigma}"
            )
        self.width = width
        self.reach = width + feather
        self.smoothness = smoothness
        self.sigma = sigma
        self.feather = FeatherCompositor(feather)

    def forward(self, image: Tensor, styled: Tensor, alpha: Tensor) -> Tensor:
        """Blends ``(B,3,H,W)`` image I and styled T by the matte A ``(B,1,H,W)`` in [0,1]."""
        pictures = image.float().cpu().permute(0, 2, 3, 1).numpy()
        mattes = alpha.float().cpu()[:, 0].numpy()
        cut = [
            self.labels(i, a >= max(a.max() / 2, 1e-6))
            for i, a in zip(pictures, mattes, strict=True)
        ]
        labels = torch.from_numpy(np.stack(cut))[:, None].to(alpha)
        # Whatever is labelled anew lies within the band, so that a value of A is near it.
        nearby = F.max_pool2d(alpha, 2 * self.width + 1, stride=1, padding=self.width)
        blended: Tensor = self.feather(image, styled, labels * nearby)
        return blended

    def labels(self, image: Floats, matte: Mask) -> Mask:
        """Returns which pixels of ``(H,W,3)`` RGB in [0,1] are styled, given ``(H,W)`` that are."""
        labels = matte.copy()
        rows, columns = (np.flatnonzero(matte.any(axis)) for axis in (1, 0))
        if not len(rows) or matte.all():
            return labels
        reach = self.width + 1
        part = tuple(
            slice(max(0, places[0] - reach), places[-1] + 1 + reach) for places in (rows, columns)
        )
        labels[part] = self._cut(image[part], matte[part])
        return labels

    def _cut(self, image: Floats, matte: Mask) -> Mask:
        """Returns the labels ``(h,w)`` of least energy."""
        inside, outside = distance_transform_edt(matte), distance_transform_edt(~matte)
        # Half a pixel, because the boundary runs between pixels.
        distance = np.maximum(inside, outside) - 0.5
        band = distance < self.width
        count = int(band.sum())
        node = np.full(matte.shape, -1)
        node[band] = np.arange(count)

        # By how much rather 1 than 0: what a pixel and its neighbours outside the band say.
        favour = np.where(matte, distance, -distance) / self.width
        ends, weights = [], []
        for down, right in NEIGHBOURS:
            p, q = _pairs(down, right)
            squares = np.square(image[p] - image[q]).sum(-1) / (2 * self.sigma**2)
            weight = self.smoothness / np.hypot(down, right) * np.exp(-squares)
            for near, far in ((p, q), (q, p)):
                favour[near] += np.where(band[far], 0, np.where(matte[far], weight, -weight))
            both = band[p] & band[q]
            ends.append(np.stack([node[p][both], node[q][both]]))
            weights.append(weight[both])
        labels = matte.copy()
        labels[band] = min_cut(favour[band], np.hstack(ends), np.hstack(weights))
        return labels


def min_cut(favour: Floats, pairs: NDArray[np.int_], weights: Floats) -> Mask:
    """Returns the binary labels that minimise -Σ favour_p x_p + Σ weight_pq [x_p ≠ x_q].

    Args:
        favour: ``(n,)``.
        pairs: ``(2,m)`` numbers p and q of the labels joined.
        weights: ``(m,)``, at least 0.
    """
    count = len(favour)
    source, sink = np.full(count, count), np.full(count, count + 1)
    every = np.arange(count)
    start = np.concatenate([source, every, pairs[0], pairs[1]])
    end = np.concatenate([every, sink, pairs[1], pairs[0]])
    energy = np.concatenate([favour.clip(min=0), (-favour).clip(min=0), weights, weights])
    capacity = csr_array(
        (np.rint(energy * UNIT).astype(np.int32), (start, end)), shape=(count + 2, count + 2)
    )
    residual = csr_array(capacity - maximum_flow(capacity, count, count + 1).flow)
    residual.eliminate_zeros()
    labels = np.zeros(count + 2, bool)
    labels[breadth_first_order(residual, count, return_predecessors=False)] = True
    return labels[:count]


def _pairs(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the places of all pixels that have such a neighbour, and of the neighbours."""

    def first(step: int) -> slice:
        return slice(max(0, -step), -step if step > 0 else None)

    def second(step: int) -> slice:
        return slice(max(0, step), step if step < 0 else None)

    return (first(down), first(right)), (second(down), second(right))
