"""What a net costs: parameters, multiplications and time.

Letters: ``H W`` the picture.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP = 3
"""Calls before the clock starts: the first ones allocate and choose kernels."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one picture costs."""

    height: int
    width: int
    parameters: int | None
    """Of a torch module, trained or not; None for any other plugin."""

    gmac: float
    """Thousands of millions of multiply-adds in convolutions and matrix products, all torch's."""

    fps: float
    """Pictures a second, one at a time, the device waited for after each."""


@torch.inference_mode()
def measure(plugin: object, call: Callable[[Tensor], Tensor], image: Tensor, *, calls: int) -> Cost:
    """Measures a plugin on one picture.

    Args:
        plugin: whose parameters are counted.
        call: runs it.
        image: ``(1,3,H,W)`` on the device.
        calls: how many are timed.
    """
    with FlopCounterMode(display=False) as counter:
        call(image)
    for _ in range(WARM_UP):
        call(image)
    _synchronise(image.device)
    start = time.perf_counter()
    for _ in range(calls):
        call(image)
        _synchronise(image.device)
    seconds = time.perf_counter() - start
    parameters = None
    if isinstance(plugin, nn.Module):
        parameters = sum(p.numel() for p in plugin.parameters())
    gmac = counter.get_total_flops() / 2 / 1e9  # a multiply-add is counted as two
    return Cost(image.shape[2], image.shape[3], parameters, gmac, calls / seconds)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
