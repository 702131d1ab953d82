"""CUDA graphs: a module's kernels, recorded once a shape, are started all at once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.accelerators.checked import Call, Checked, in_precision, precisions, reference
from cbs_core.accelerators.eager import Eager
from cbs_core.accelerators.store import Store
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import AcceleratorError
from cbs_core.machine.device import precision

WARM_UP = 3
"""Runs before the recording: the first ones allocate and choose kernels."""


class CUDAGraphAccelerator:
    """Records a module as a CUDA graph, each shape for itself (`Accelerator`).

    Each shape's result must agree with eager float32 (`cbs_core.accelerators.check`: a styler's
    PSNR of 35 dB, a segmenter's IoU of 0.995); where half precision does not, float32 is
    taken. Nothing is kept on the disk but that verdict.
    """

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`.

        Raises:
            AcceleratorError: another device than CUDA.
        """
        if device.type != "cuda":
            raise AcceleratorError(
                f"accelerator=cudagraph needs CUDA, not {device}: say accelerator=auto"
            )
        module = reference(module, device)
        ways = [CUDAGraphWay(module, one) for one in precisions(dtype)]
        return Checked(module, kind, ways, Store(module, device))


@dataclass(frozen=True, slots=True)
class CUDAGraphWay:
    """A CUDA graph in one precision (`cbs_core.accelerators.checked.Way`)."""

    module: nn.Module
    dtype: torch.dtype
    usual: float = 2.0

    @property
    def label(self) -> str:
        """``cudagraph fp16``."""
        return f"cudagraph {precision(self.dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, recorded for the inputs' shapes."""
        return Recorded(Eager(in_precision(self.module, self.dtype), self.dtype), inputs)


class Recorded:
    """A callable whose kernels are recorded, for the shapes of some inputs.

    Args:
        call: what is recorded; it is kept, because the graph reads its weights where they are.
        inputs: on a CUDA device.
    """

    def __init__(self, call: Call, inputs: tuple[Tensor, ...]) -> None:
        self._call = call
        self._static = [one.clone() for one in inputs]
        device = inputs[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                call(*self._static)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._recorded = call(*self._static)

    def __call__(self, *inputs: Tensor) -> Any:
        """Returns what the callable returns, in tensors of its own."""
        for mine, given in zip(self._static, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        # The next replay writes over the recorded tensors, which a scheduler may still need.
        if isinstance(self._recorded, tuple):
            return tuple(one.clone() for one in self._recorded)
        return self._recorded.clone()
