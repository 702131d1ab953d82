"""``torch.compile``: on CUDA by Triton, on the CPU by a C++ compiler, which must be there.

On CUDA what is compiled is recorded as a CUDA graph as well: a frame's kernels take less time than
Python needs to start them one by one.

Nothing is kept on the disk here but the verdict: torch's compiler keeps files of its own
(``TORCHINDUCTOR_CACHE_DIR``).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.accelerators.checked import Call, Checked, in_precision, precisions, reference
from cbs_core.accelerators.cudagraph import Recorded
from cbs_core.accelerators.eager import Eager
from cbs_core.accelerators.store import Store
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.machine.device import precision


class CompileAccelerator:
    """Compiles a module by ``torch.compile``, each shape for itself (`Accelerator`).

    Each shape's result must agree with eager float32 (`cbs_core.accelerators.check`: a styler's
    PSNR of 35 dB, a segmenter's IoU of 0.995); where half precision does not, float32 is taken.
    """

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`."""
        module = reference(module, device)
        ways = [CompileWay(module, one) for one in precisions(dtype)]
        return Checked(module, kind, ways, Store(module, device))


@dataclass(frozen=True, slots=True)
class CompileWay:
    """``torch.compile`` in one precision (`cbs_core.accelerators.checked.Way`)."""

    module: nn.Module
    dtype: torch.dtype
    usual: float = 60.0

    @property
    def label(self) -> str:
        """``compile fp16``."""
        return f"compile {precision(self.dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, compiled for the inputs' shapes by the first call."""
        module = in_precision(self.module, self.dtype)

        # A function of its own a shape: torch counts the shapes of one function, and after eight
        # runs it uncompiled.
        def forward(*inputs: Tensor) -> Any:
            return module(*inputs)

        call = Eager(torch.compile(forward, dynamic=False), self.dtype)
        return Recorded(call, inputs) if inputs[0].is_cuda else call
