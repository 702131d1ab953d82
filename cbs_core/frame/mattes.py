"""From class scores to mattes, one a route.

Letters: ``B`` batch, ``K`` classes, ``R`` routes, ``H W`` the frame, ``h w`` a model's output.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.contract.tensors import to_size
from cbs_core.frame.wanted import parse_matte

MARGIN = 1e-3
"""By how much a logit may lie below another's and still be taken for as high: above rounding."""

REACH = 4
"""Pixels around a hard matte in which half of a soft edge lies."""


class Regions(nn.Module):
    """Turns ``(B,K,h,w)`` logits into ``(B,R,H,W)`` mattes in [0,1] whose sum is at most 1.

    Modes:
        argmax: the paper's R_c (section 3): argmax of the full-resolution logits, hard.
        soft: softmax at model resolution, the route's channels summed, then upsampled; it ends
            within 12 pixels of the hard matte, of which it is the edge.

    Args:
        classes: the segmenter's names, in channel order.
        routes: the class names of each route; a class in several routes is shared evenly.
        mode: ``argmax`` or ``soft``.
        confidence: the least probability of a route's class, against the likeliest class on no
            route, at which a pixel is restyled; in (0,1).

    Raises:
        ConfigError: an unknown mode.
    """

    weights: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        routes: Sequence[Sequence[str]],
        mode: str = "argmax",
        confidence: float = 0.5,
    ) -> None:
        super().__init__()
        self.mode = parse_matte(mode)
        self.confidence = confidence
        self._handicap = math.log(confidence / (1 - confidence))
        weights = torch.zeros(len(routes), len(classes))
        for row, names in enumerate(routes):
            for name in names:
                weights[row, classes.index(name)] = 1
        # Overlapping mattes are normalised, never summed past 1.
        weights /= weights.sum(0).clamp(min=1)
        self.register_buffer("weights", weights, persistent=False)

    def sure(self, logits: Tensor) -> Tensor:
        """Returns logits ``(B,K,h,w)`` in which a route's class wins only where it is sure enough.

        With `confidence` of 0.5 they are the same. What is on a route everywhere (``rest``) has
        nothing to lose against.
        """
        if not self._handicap:
            return logits
        routed = self.weights.any(0).to(logits.dtype)
        return logits.sub(self._handicap * routed[:, None, None])

    def labels(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the class map, int64 ``(B,H,W)``: argmax of the full-resolution logits."""
        # argmax over 19 channels is six times faster on CPU where they lie side by side; a GPU's
        # threads read side by side where the pixels do.
        on_cpu = logits.device.type == "cpu"
        layout = torch.channels_last if on_cpu else torch.contiguous_format
        logits = logits.contiguous(memory_format=layout)
        return to_size(logits, size).argmax(1)

    def forward(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the mattes ``(B,R,H,W)`` for a frame of ``size`` (H, W)."""
        if not len(self.weights):
            return logits.new_zeros(len(logits), 0, *size)
        hard = self._hard_mattes(logits, size)
        if self.mode != "soft":
            return hard
        scores = torch.einsum("bkhw,rk->brhw", logits.float().softmax(1), self.weights)
        return ended(to_size(scores.contiguous(), size), hard)

    def _hard_mattes(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if logits.device.type == "cpu":
            return torch.stack([self._hard(one.float(), size) for one in logits])
        labels = self.labels(logits, size)
        return torch.stack([row[labels] for row in self.weights.unbind()], dim=1)

    def _hard(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns what ``weights[:, labels]`` is, ``(R,H,W)``, from ``(K,h,w)`` on the host.

        Between four neighbours of the logits' grid an upsampled logit is no higher than its
        highest and no lower than its lowest corner. So most cells have one class that can be the
        highest, most others none that is on a route, and only the rest are upsampled: an edge.
        How many pixels those are is known on the host alone, where that costs no wait.
        """
        height, width = logits.shape[1:]
        padded = F.pad(logits.contiguous()[None], (0, 1, 0, 1), mode="replicate")[0]
        highest, lowest = (_of_corners(padded, of_two) for of_two in (torch.maximum, torch.minimum))
        possible = highest >= lowest.amax(0) - MARGIN
        routed = possible[self.weights.any(0)].any(0)
        edge = routed & (possible.sum(0) > 1)

        top, bottom, down = _neighbours(height, size[0])
        left, right, across = _neighbours(width, size[1])
        sure = self.weights[:, logits.argmax(0)] * (routed & ~edge)
        mattes = sure.index_select(1, top).index_select(2, left)
        rows, columns = edge.index_select(0, top).index_select(1, left).nonzero(as_tuple=True)
        known = possible[:, edge].any(1).nonzero()[:, 0]
        grid = logits[known].flatten(1).t().contiguous()

        def line(at: Tensor) -> Tensor:
            start = at[rows] * width
            before, after = (grid.index_select(0, start + side[columns]) for side in (left, right))
            return before.lerp_(after, across[columns, None])

        scores = line(top).lerp_(line(bottom), down[rows, None])
        if len(known):
            mattes[:, rows, columns] = self.weights[:, known[scores.argmax(1)]]
        return mattes


def ended(soft: Tensor, hard: Tensor) -> Tensor:
    """Returns soft mattes ``(B,R,H,W)`` that end near the hard ones; shares go to who is there.

    What a net thinks possible far from anything that it has found would be a veil on the picture.
    A matte falls to 0 within ``2 * REACH`` pixels along both axes, less than 12 in any direction.
    """
    side = 2 * REACH + 1
    near = (hard > 0).float()
    near = F.max_pool2d(near, (side, 1), stride=1, padding=(REACH, 0))
    near = F.max_pool2d(near, (1, side), stride=1, padding=(0, REACH))
    near = torch.cat([near, near.amax(1, keepdim=True)], 1)  # of each, and of all together
    for kernel, padding in (((side, 1), (REACH, 0)), ((1, side), (0, REACH))):
        near = F.avg_pool2d(near, kernel, stride=1, padding=padding, count_include_pad=False)
    cut = soft * near[:, :-1]
    # Where routes cover all, one that ends leaves no hole.
    whole = soft.sum(1, keepdim=True) * near[:, -1:]
    return cut * (whole / cut.sum(1, keepdim=True).clamp(min=torch.finfo(cut.dtype).tiny))


def _of_corners(padded: Tensor, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Reduces each cell's four corners: ``(K,h+1,w+1)`` -> ``(K,h,w)``."""
    rows = of_two(padded[:, :-1], padded[:, 1:])
    return of_two(rows[..., :-1], rows[..., 1:])


def _neighbours(count: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns each pixel's sample before it, the one after it and the latter's share.

    As in bilinear interpolation (align_corners=False) of ``count`` samples to ``total`` pixels.
    """
    place = (torch.arange(total, dtype=torch.float32) + 0.5) * (count / total) - 0.5
    place = place.clamp_(min=0)
    before = place.long().clamp_(max=count - 1)
    return before, (before + 1).clamp_(max=count - 1), place - before
