"""Plain PyTorch: channels_last, in the precision asked for. The reference for the others."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class EagerAccelerator:
    """Moves a module to its device and dtype; float32 in and out (`Accelerator`)."""

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype
    ) -> Callable[[Tensor], Tensor]:
        """Returns the module as a callable float32 ``(B,3,H,W)`` -> float32."""
        module = module.eval().requires_grad_(False).to(device, dtype)
        module = module.to(memory_format=torch.channels_last)

        def run(image: Tensor) -> Tensor:
            image = image.to(dtype, memory_format=torch.channels_last)
            out: Tensor = module(image)
            # Anything else is the core's to refuse, in words that name the plugin.
            return out.float() if isinstance(out, Tensor) else out

        return run
