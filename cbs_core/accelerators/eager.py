"""Plain PyTorch: channels_last, in the precision asked for. The reference for the others."""

from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.machine.device import precision


class EagerAccelerator:
    """Moves a module to its device and dtype; float32 in and out (`Accelerator`)."""

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module, moved, as an `Accelerated`."""
        module = module.eval().requires_grad_(False).to(device, dtype)
        return Eager(module.to(memory_format=torch.channels_last), dtype)


class Eager:
    """A module as it is, between casts (`Accelerated`).

    Args:
        call: takes the picture in ``dtype``, and everything else in float32.
        dtype: what it computes in.
    """

    def __init__(self, call: Callable[..., Any], dtype: torch.dtype) -> None:
        self._call = call
        self._dtype = dtype
        self.chosen = f"eager {precision(dtype)}"
        self._built: set[tuple[int, ...]] = set()

    @property
    def built(self) -> Set[tuple[int, ...]]:
        """The shapes that it has run on; any other is as ready."""
        return self._built

    def prepare(self, *inputs: Tensor) -> None:
        """Runs once, so that memory is allocated and kernels are chosen."""
        self(*inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """Runs the module, whose output becomes float32."""
        image, *more = inputs
        out = self._call(image.to(self._dtype, memory_format=torch.channels_last), *more)
        self._built.add(tuple(image.shape))
        if isinstance(out, tuple):
            return tuple(map(_float, out))
        return _float(out)


def _float(out: Any) -> Any:
    # Anything else is the core's to refuse, in words that name the plugin.
    return out.float() if isinstance(out, Tensor) and not out.is_complex() else out
