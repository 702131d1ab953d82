"""The arithmetic floor: what a frame costs where every multiplier is always busy.

Operations are those of both nets as they are written (a multiply-add is two), counted by torch,
and the machine's rate is that of a large matrix product, measured in the same precision. To be
faster than that is to compute less: styling only where the matte is does, and so does a layer that
gets the same numbers by fewer operations.
"""

import time

import torch
from cbs_plugins.nets.dabnet import DABNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.reference_flow import PlainTransformerNet

CPU = torch.device("cpu")

SIDE = 2048
"""Of the matrices: large enough for a CPU to run at its rate; a GPU gets four times that."""

PRODUCTS = 7


def gflop(height: int, width: int, channels: int) -> dict[str, float]:
    """Returns the thousand million operations of each net on a whole frame; runs nothing.

    Args:
        height: of the frame.
        width: of the frame.
        channels: the style net's width.
    """
    nets: dict[str, nn.Module] = {"segment": DABNet(19), "style": PlainTransformerNet(channels)}
    image = torch.empty(1, 3, height, width, device="meta")
    counts = {}
    for name, net in nets.items():
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            net.to("meta").eval()(image)
        counts[name] = counter.get_total_flops() / 1e9
    return counts


def rate(dtype: torch.dtype, device: torch.device = CPU) -> float:
    """Returns a device's best rate in a matrix product, thousand million operations a second."""
    side = SIDE if device.type == "cpu" else 4 * SIDE
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(PRODUCTS):
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        times.append(time.perf_counter() - start)
    return 2e-9 * side**3 / min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
