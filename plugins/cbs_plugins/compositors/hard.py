"""The paper's composition (Kurzman, Vazquez, Laradji 2019, 1908.11525, equation 1)."""

import torch
from torch import Tensor


class HardCompositor:
    """``U = A * T + (1 - A) * I``: bit-exact I where A is 0, bit-exact T where A is 1."""

    reach = 0

    def __call__(self, image: Tensor, styled: Tensor, alpha: Tensor) -> Tensor:
        """Blends ``(B,3,H,W)`` image I and styled T by the matte A ``(B,1,H,W)`` in [0,1]."""
        # lerp starts from the nearer end, which is what makes both ends exact.
        return torch.lerp(image, styled, alpha)
