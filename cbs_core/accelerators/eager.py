"""Plain PyTorch: channels_last, in the precision asked for. The reference for the others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class EagerAccelerator:
    """Moves a module to its device and dtype; float32 in and out (`Accelerator`)."""

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype
    ) -> Callable[..., Any]:
        """Returns the module as a callable float32 ``(B,3,H,W)`` -> float32.

        What it takes beside the picture, and returns beside one tensor, is passed on as it is.
        """
        module = module.eval().requires_grad_(False).to(device, dtype)
        module = module.to(memory_format=torch.channels_last)

        def run(image: Tensor, *more: Tensor) -> Any:
            image = image.to(dtype, memory_format=torch.channels_last)
            out = module(image, *more)
            if isinstance(out, tuple):
                return tuple(one.float() if isinstance(one, Tensor) else one for one in out)
            # Anything else is the core's to refuse, in words that name the plugin.
            return out.float() if isinstance(out, Tensor) else out

        return run
