"""What the suites are made of: drawn pictures and frames, and a plugin run as the core runs it."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cbs_core.accelerators.eager import EagerAccelerator
from cbs_core.contract.tensors import to_pixels
from cbs_core.contract.types import RawFrame

SIZES = ((64, 96), (65, 131), (1, 1), (7, 300))
"""Frame sizes (H, W): even, odd, a single pixel, a thin strip."""

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
)


def picture(height: int, width: int, *, seed: int = 0) -> Tensor:
    """Returns a smooth coloured picture with a hard-edged square, float32 ``(1,3,H,W)``.

    It lies in memory as the core's frames do (channels_last), so that no cast hides a write to it.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    image[:, :, height // 4 : height // 2, width // 4 : width // 2] = 0
    return image.contiguous(memory_format=torch.channels_last)


def raw_frame(height: int, width: int, index: int = 0, *, rate: int = 25) -> RawFrame:
    """Returns `picture` as a source would give it, frame ``index`` of a clip."""
    pixels = to_pixels(picture(height, width, seed=index))
    return RawFrame(pixels, index, Fraction(index, rate))


@contextmanager
def no_device_wait(device: str) -> Iterator[None]:
    """Makes a wait for the CUDA device an error inside the block."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def as_run(plugin: Any, device: str, dtype: torch.dtype = torch.float32) -> Callable[..., Tensor]:
    """Returns a plugin as the core would run it; one that is no module runs where it likes."""
    call: Callable[..., Tensor] = plugin
    if isinstance(plugin, nn.Module):
        call = EagerAccelerator()(plugin, device=torch.device(device), dtype=dtype, kind="styler")
    return call


def accepts_path_first(target: Callable[..., object]) -> bool:
    """Tells whether a source's or sink's first parameter is ``path``, as ``input=`` needs."""
    names = list(inspect.signature(target).parameters)
    return bool(names) and names[0] == "path"
