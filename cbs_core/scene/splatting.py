"""Gaussian splats drawn in torch: exact, for CPUs too, as a linear map of their colours.

It follows Kerbl et al. 2023 (2308.04079) and Zwicker et al. 2001: a Gaussian's covariance is
carried to the picture by the projection's slope at its middle, 0.3 pixels squared are added, and
splats are blended from front to back with alpha = min(0.99, opacity * exp(-d/2)), those below
1/255 left out, until less than 1/10,000 of the light would get through. One thing differs on
purpose: a splat is drawn wherever its alpha reaches 1/255, and not only in tiles within three
standard deviations, so that a picture does not depend on how it is cut into tiles.

There are no tiles here either. On a CPU most splats are some pixels large, and a tile would try
each of them on hundreds: every splat is tried on the pixels of its own ellipse, row by row, what it
leaves there is turned from an order by splats into one by pixels, and running sums of logarithms
give the light that is left.

Letters: ``N`` splats, ``H W`` picture.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor

from cbs_core.scene.cameras import Camera
from cbs_core.scene.types import Floats, Ints, Splats

BLUR = 0.3
"""Pixels squared that are added to a splat's variance, so that none falls between pixels."""

LEAST_ALPHA = 1 / 255
MOST_ALPHA = 0.99
LEAST_LIGHT = 1e-4
BOUND = 1.3
"""Beyond so many times the picture's half field, the projection's slope is taken at the bound."""

NEAR = 0.2
"""Nearer splats are not drawn; of the published renderer."""

AT_ONCE = 6_000_000
"""Pixels of splats that are tried together."""

SLACK = 0.5
"""Pixels that are tried to each side of a splat's row, so that rounding leaves out none."""

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (
    1.0925484305920792,
    -1.0925484305920792,
    0.31539156525252005,
    -1.0925484305920792,
    0.5462742152960396,
)
C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)
"""Real spherical harmonics, in the order of 3DGS's files."""


Weights: TypeAlias = csr_matrix | LinearOperator
"""A picture's linear map ``(P,N)`` of colours: ``weights @ colours``, ``weights.T @ picture``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """Splats in a picture, front to back."""

    index: Tensor
    middle: Tensor
    conic: Tensor
    """``(n,3)`` of the inverse covariance: xx, xy, yy."""

    opacity: Tensor
    reach: Tensor
    """``(n,2)`` pixels to each side, x and y, beyond which alpha is below `LEAST_ALPHA`."""

    depth: Tensor


class Splatter:
    """Draws splats.

    Args:
        splats: the scene.
        device: where it computes.
        dtype: float32, or float64 for a reference.
    """

    name = "torch"
    """For the report."""

    def __init__(
        self, splats: Splats, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        def moved(values: Floats) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)

        self.means, self.opacities = moved(splats.means), moved(splats.opacities)
        self.harmonics = moved(splats.harmonics)
        self.covariance = _covariance(moved(splats.scales), moved(splats.rotations))
        self.device, self.dtype = device, dtype

    def shine(self, camera: Camera) -> Tensor:
        """Returns ``(N,3)``, what the further harmonics add to a splat's colour from here."""
        place = torch.as_tensor(camera.position, device=self.device, dtype=self.dtype)
        away = torch.nn.functional.normalize(self.means - place, dim=1)
        basis = harmonics(away, self.harmonics.shape[1])
        return torch.einsum("nd,ndc->nc", basis, self.harmonics)

    def weights(self, camera: Camera) -> Weights:
        """Returns the picture's linear map, ``(H*W,N)``: the part of each splat in each pixel."""
        flat = self._flat(camera)
        # A band of rows at a time: what is tried at once has a bound.
        wide = (2 * flat.reach[:, 0] + 1).clamp_max(camera.width)
        tried = float((wide * (2 * flat.reach[:, 1] + 1).clamp_max(camera.height)).sum())
        bands = max(1, min(camera.height, round(tried / AT_ONCE)))
        edges = [camera.height * i // bands for i in range(bands + 1)]
        parts = [self._band(flat, camera, low, high) for low, high in pairwise(edges)]
        pixel, splat, weight = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        count = np.bincount(pixel, minlength=camera.width * camera.height)
        starts = np.concatenate([[0], np.cumsum(count)])
        shape = (camera.width * camera.height, len(self.means))
        return csr_matrix((weight, splat.astype(np.int32), starts), shape)

    def _band(self, flat: _Flat, camera: Camera, low: int, high: int) -> tuple[Tensor, ...]:
        """Returns pixels, splats and weights above 0 of some rows, by pixel and front to back."""
        x, y, owner, alpha = _spread(flat, camera.width, low, high)
        # By splats these are columns, front to back; turned into rows they are so in each pixel.
        count = torch.bincount(owner, minlength=len(flat.index))
        starts = np.concatenate([[0], count.cumsum(0).cpu().numpy()])
        pixel = ((y - low) * camera.width + x).cpu().numpy()
        shape = ((high - low) * camera.width, len(flat.index))
        rows = csc_matrix((alpha.double().cpu().numpy(), pixel, starts), shape).tocsr()
        alpha, begin = torch.from_numpy(rows.data), torch.from_numpy(rows.indptr).long()
        count = begin.diff()
        passed = torch.log1p(-alpha)
        total = passed.cumsum(0)
        ahead = total - passed
        first = ahead[begin[:-1].clamp_max(max(0, len(ahead) - 1))] if len(ahead) else begin[:-1]
        ahead = ahead - first.repeat_interleave(count)
        # The splat that would let through less than the least is the first left out.
        seen = torch.nonzero(ahead + passed >= math.log(LEAST_LIGHT))[:, 0]
        alpha, ahead = alpha.index_select(0, seen), ahead.index_select(0, seen)
        weight = (alpha * torch.exp(ahead)).to(self.dtype)
        place = torch.arange(low * camera.width, high * camera.width).repeat_interleave(count)
        column = torch.from_numpy(rows.indices).index_select(0, seen)
        return place.index_select(0, seen), flat.index.cpu().index_select(0, column), weight

    def _flat(self, camera: Camera) -> _Flat:
        rotation = torch.as_tensor(camera.rotation, device=self.device, dtype=self.dtype)
        place = torch.as_tensor(camera.position, device=self.device, dtype=self.dtype)
        local = (self.means - place) @ rotation.T
        index = torch.nonzero((local[:, 2] > NEAR) & (self.opacities >= LEAST_ALPHA))[:, 0]
        local, opacity = local[index], self.opacities[index]
        z, f = local[:, 2], camera.focal
        bound = BOUND * torch.tensor(
            [camera.width / 2 / f, camera.height / 2 / f], device=self.device, dtype=self.dtype
        )
        slope = torch.minimum(torch.maximum(local[:, :2] / z[:, None], -bound), bound)
        zero = torch.zeros_like(z)
        carry = (
            torch.stack(
                [f / z, zero, -f * slope[:, 0] / z, zero, f / z, -f * slope[:, 1] / z], 1
            ).view(-1, 2, 3)
            @ rotation
        )
        flat = carry @ self.covariance[index] @ carry.transpose(1, 2)
        xx, xy, yy = flat[:, 0, 0] + BLUR, flat[:, 0, 1], flat[:, 1, 1] + BLUR
        area = xx * yy - xy * xy
        middle = local[:, :2] / z[:, None] * f + torch.tensor(
            camera.axis, device=self.device, dtype=self.dtype
        )
        spread = 2 * torch.log(opacity * (1 / LEAST_ALPHA)).clamp_min(0)
        reach = torch.sqrt(torch.stack([xx, yy], 1) * spread[:, None]) + 0.01
        size = torch.tensor([camera.width, camera.height], device=self.device)
        shown = (area > 0) & ((middle + reach > 0) & (middle - reach < size)).all(1)
        order = torch.nonzero(shown)[:, 0]
        order = order[torch.sort(z[order], stable=True).indices]
        conic = torch.stack([yy / area, -xy / area, xx / area], 1)
        parts = (index, middle, conic, opacity, reach, z)
        return _Flat(*(part[order] for part in parts))

    def depths(self, camera: Camera) -> Tensor:
        """Returns ``(N,)`` distances along the camera's axis."""
        rotation = torch.as_tensor(camera.rotation, device=self.device, dtype=self.dtype)
        place = torch.as_tensor(camera.position, device=self.device, dtype=self.dtype)
        return (self.means - place) @ rotation[2]


def restricted(weights: Weights, own: Ints) -> Weights:
    """Returns the map ``(P,n)`` of those splats alone."""
    if isinstance(weights, csr_matrix):
        return weights[:, own]
    count = len(own)
    parts = (np.ones(count, np.float32), own, np.arange(count + 1))
    return weights @ aslinearoperator(csc_matrix(parts, (weights.shape[1], count)))


def _spread(flat: _Flat, width: int, low: int, high: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns x, y, splat and alpha of all pixels of some rows, by splat, where it is not left out.

    Args:
        flat: splats.
        width: pixels.
        low: the first row.
        high: the row after the last.
    """
    (mx, my), dtype = flat.middle.unbind(1), flat.middle.dtype
    top = (my - flat.reach[:, 1] - 0.5).ceil().long().clamp_min(low)
    bottom = (my + flat.reach[:, 1] - 0.5).floor().long().clamp_max(high - 1)
    owner, offset = _runs((bottom - top + 1).clamp_min(0))
    y = top.index_select(0, owner) + offset
    a, b, c = flat.conic.index_select(0, owner).unbind(1)
    held = torch.stack([mx, my, flat.opacity]).index_select(1, owner)
    mx, my, opacity = held
    dy = y.to(dtype) + 0.5 - my
    # Within a row alpha reaches the least where a dx^2 + 2 b dx dy + c dy^2 <= 2 log(255 opacity).
    wide, tilt, tall = a.double(), b.double() * dy, c.double() * dy * dy
    room = tilt * tilt - wide * (tall - 2 * torch.log(opacity.double() / LEAST_ALPHA))
    reach = room.clamp_min(0).sqrt() / wide + SLACK
    middle = mx.double() - tilt / wide - 0.5
    left = (middle - reach).ceil().clamp(0, width).long()
    right = (middle + reach).floor().clamp(-1, width - 1).long()
    row, offset = _runs((right - left + 1).clamp_min(0))
    x = left.index_select(0, row) + offset
    held = torch.stack([mx, dy, a, b, c * dy * dy, opacity]).index_select(1, row)
    mx, dy, a, b, tall, opacity = held
    dx = x.to(dtype) + 0.5 - mx
    power = 0.5 * (a * dx * dx + tall) + b * dx * dy
    alpha = (opacity * torch.exp(-power)).clamp_max(MOST_ALPHA)
    kept = torch.nonzero((alpha >= LEAST_ALPHA) & (power >= 0))[:, 0]
    row = row.index_select(0, kept)
    y, owner = (held.index_select(0, row) for held in (y, owner))
    return x.index_select(0, kept), y, owner, alpha.index_select(0, kept)


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the run of each element of runs one after the other, and its place in it."""
    owner = torch.repeat_interleave(lengths)
    start = lengths.cumsum(0) - lengths
    return owner, torch.arange(len(owner), device=lengths.device) - start.index_select(0, owner)


def _covariance(scales: Tensor, rotations: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(rotations, dim=1).unbind(1)
    turn = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        1,
    ).view(-1, 3, 3)
    stretched = turn * scales[:, None]
    return stretched @ stretched.transpose(1, 2)


def harmonics(direction: Tensor, count: int) -> Tensor:
    """Returns the harmonics beyond the first ``(N,D)`` in unit directions ``(N,3)``; D as count."""
    x, y, z = direction.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    out = [-C1 * y, C1 * z, -C1 * x]
    if count > 3:
        out += [C2[0] * x * y, C2[1] * y * z, C2[2] * (2 * zz - xx - yy), C2[3] * x * z]
        out += [C2[4] * (xx - yy)]
    if count > 8:
        out += [C3[0] * y * (3 * xx - yy), C3[1] * x * y * z, C3[2] * y * (4 * zz - xx - yy)]
        out += [C3[3] * z * (2 * zz - 3 * xx - 3 * yy), C3[4] * x * (4 * zz - xx - yy)]
        out += [C3[5] * z * (xx - yy), C3[6] * x * (xx - 3 * yy)]
    return torch.stack(out[:count], 1) if count else direction[:, :0]


def colour_of(first: Floats) -> Floats:
    """Returns the colour 0.5 + 0.28209479 f of first coefficients."""
    return np.asarray(0.5 + C0 * first)


def first_of(colours: Floats) -> Floats:
    """Returns the first coefficients of colours."""
    return np.asarray((colours - 0.5) / C0)


def logit(values: Floats) -> Floats:
    """Returns the number whose sigmoid a value in (0,1) is."""
    x = np.clip(values, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(x / (1 - x)))


def sigmoid(values: Floats) -> Floats:
    """Returns 1 / (1 + exp(-x))."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64))))
