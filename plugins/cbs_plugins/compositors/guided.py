"""Composition by a matte that follows the picture's edges.

The fast guided filter (He et al. 2013; He and Sun 2015, 1505.00996) with a colour guide. It is
written out on kornia's ``box_blur`` because ``kornia.filters.guided_blur`` subsamples by nearest
neighbour, which moves a matte's edge by up to ``subsample - 1`` pixels, and solves its 3x3 systems
by ``torch.linalg.solve``, which waits for the device.

By itself the filter leaves a veil: the style lies thinly on whatever looks a little like the object
beside it, and the old background shows thinly in the object's rim and round hair. So what it gives
is steepened about its middle, and nowhere exceeds the highest of the matte within ``radius``, nor
falls below the lowest. That is not linear in the matte, but in its scale, which is a route's
strength; and two mattes that fill the picture together still do.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from kornia.filters import box_blur
from torch import Tensor, nn

from cbs_core.contract.errors import ConfigError

MOST = 256
"""Pixels: a wider window takes in the whole of most objects, and costs by its width."""

GAIN = 2.5
"""By how much the filtered matte is steepened about its middle: below 0.3 it is nothing, above 0.7
all. Of 1 the veil stays, beyond 4 a soft edge is none."""


class GuidedCompositor(nn.Module):
    """``U = A' * T + (1 - A') * I``, where A' is the matte A filtered with I as the guide.

    A' is between 0 and A's greatest value. Pixels further than ``2 * (radius + subsample)`` from
    the matte are bit-exact I.

    Args:
        radius: of the filter's window, pixels, at least 1.
        eps: variance of the guide (RGB in [0,1]) above which an edge is kept, more than 0.
        subsample: by how much the filter's statistics are reduced, at least 1; small pictures are
            reduced less.

    Raises:
        ConfigError: a value out of range.
    """

    ridge: Tensor

    def __init__(self, radius: int = 8, eps: float = 1e-3, subsample: int = 4) -> None:
        super().__init__()
        if not 1 <= radius <= MOST or not 0 < eps < math.inf or not 1 <= subsample <= MOST:
            raise ConfigError(
                f"compositor.radius and compositor.subsample must be 1 to {MOST} and "
                f"compositor.eps more than 0 and finite, not {radius}, {subsample} and {eps}"
            )
        self.radius = radius
        self.reach = 2 * (radius + subsample)
        self.subsample = subsample
        self.register_buffer("ridge", eps * torch.eye(3)[..., None, None], persistent=False)

    def forward(self, image: Tensor, styled: Tensor, alpha: Tensor) -> Tensor:
        """Blends ``(B,3,H,W)`` image I and styled T by the matte A ``(B,1,H,W)`` in [0,1]."""
        # Half precision would lose the variances: differences of nearly equal means.
        alpha = alpha.float()
        strength = alpha.amax((1, 2, 3), keepdim=True)
        full = alpha / strength.clamp(min=torch.finfo(alpha.dtype).tiny)
        steep = GAIN * (self.filtered(image.float(), full) - 0.5) + 0.5
        matte = strength * torch.clamp(steep, *self._around(full))
        return torch.lerp(image, styled, matte.to(image.dtype))

    def _around(self, matte: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the lowest and the highest of ``(B,1,H,W)`` within the radius, both smoothly."""
        height, width = matte.shape[-2:]
        size, subsample = self._reduced(height, width)
        window = 2 * max(1, round(self.radius / subsample)) + 1
        ends = F.adaptive_max_pool2d(torch.cat([-matte, matte], 1), size)
        ends = F.max_pool2d(ends, window, stride=1, padding=window // 2)
        lowest, highest = F.interpolate(ends, (height, width), mode="bilinear").chunk(2, 1)
        return -lowest, highest

    def _reduced(self, height: int, width: int) -> tuple[list[int], int]:
        """Returns the size at which statistics are taken, and by how much that is smaller."""
        subsample = max(1, min(self.subsample, min(height, width) // self.radius))
        return [max(1, height // subsample), max(1, width // subsample)], subsample

    def filtered(self, guide: Tensor, matte: Tensor) -> Tensor:
        """Returns a matte ``(B,1,H,W)`` guided by ``(B,3,H,W)``, linear in the matte."""
        height, width = guide.shape[-2:]
        size, subsample = self._reduced(height, width)
        i = F.interpolate(guide, size, mode="area")
        p = F.interpolate(matte, size, mode="area")
        window = 2 * max(1, round(self.radius / subsample)) + 1
        mean = partial(box_blur, kernel_size=window, border_type="replicate", separable=True)

        mean_i, mean_p = mean(i), mean(p)
        covariance = mean(i * p) - mean_i * mean_p
        outer = mean((i.unsqueeze(1) * i.unsqueeze(2)).flatten(1, 2))
        variance = (
            outer.view(-1, 3, 3, *size)
            - mean_i.unsqueeze(1) * mean_i.unsqueeze(2)
            + self.ridge.float()
        )

        a = _solve(variance, covariance)
        b = mean_p - (a * mean_i).sum(1, keepdim=True)
        line = F.interpolate(mean(torch.cat([a, b], 1)), (height, width), mode="bilinear")
        return (line[:, :3] * guide).sum(1, keepdim=True) + line[:, 3:]


def _solve(matrix: Tensor, vector: Tensor) -> Tensor:
    """Solves symmetric ``(B,3,3,h,w)`` times x = ``(B,3,h,w)`` by Cramer's rule."""
    x, y, z = matrix.unbind(1)
    yz, zx, xy = torch.cross(y, z, dim=1), torch.cross(z, x, dim=1), torch.cross(x, y, dim=1)
    determinant = (x * yz).sum(1, keepdim=True)
    return (torch.stack([yz, zx, xy], 1) * vector.unsqueeze(1)).sum(2) / determinant
