"""Composition by a matte with a soft edge."""

import torch
import torch.nn.functional as F
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from torch import Tensor, nn

from cbs_core.contract.errors import ConfigError

MOST = 256
"""Pixels of radius: a pixel's cost grows with it."""


class FeatherCompositor(nn.Module):
    """``U = A' * T + (1 - A') * I``, where A' is the matte A blurred by a Gaussian.

    Pixels further than ``radius`` from the matte are bit-exact I. The blur is linear in A; rounding
    above 1 is cut.

    Args:
        radius: reach of the blur in pixels, three standard deviations; 0 leaves the matte as it is.

    Raises:
        ConfigError: a radius below 0 or above `MOST`.
    """

    kernel: Tensor

    def __init__(self, radius: int = 4) -> None:
        super().__init__()
        if not 0 <= radius <= MOST:
            raise ConfigError(f"compositor.radius must be 0 to {MOST} pixels, not {radius}")
        self.reach = radius
        # At three deviations the kernel's cut end moves no 8-bit level by more than one.
        kernel = get_gaussian_kernel1d(2 * radius + 1, radius / 3)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, image: Tensor, styled: Tensor, alpha: Tensor) -> Tensor:
        """Blends ``(B,3,H,W)`` image I and styled T by the matte A ``(B,1,H,W)`` in [0,1]."""
        return torch.lerp(image, styled, self.blurred(alpha).clamp_(max=1))

    def blurred(self, matte: Tensor) -> Tensor:
        """Returns a matte ``(B,1,H,W)`` blurred.

        A convolution of a single channel leaves most of a CPU's vectors empty: there it is a sum of
        the matte moved.
        """
        # Unlike reflection, replication also works on a picture smaller than the kernel.
        if matte.is_cuda:
            return filter2d_separable(matte, self.kernel, self.kernel, border_type="replicate")
        wide = F.pad(matte, 4 * (self.reach,), mode="replicate")
        return self._along(self._along(wide, 3), 2)

    def _along(self, wide: Tensor, dim: int) -> Tensor:
        """Returns it blurred along a side, shorter by the radius at both its ends."""
        radius, kernel = self.reach, self.kernel[0].to(wide.dtype)
        length = wide.shape[dim] - 2 * radius
        out = wide.narrow(dim, radius, length) * kernel[radius]
        for i in range(radius):  # the kernel is symmetric
            both = wide.narrow(dim, i, length) + wide.narrow(dim, 2 * radius - i, length)
            out.addcmul_(both, kernel[i])
        return out
