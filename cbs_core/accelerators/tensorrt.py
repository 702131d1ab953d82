"""TensorRT on CUDA, by Torch-TensorRT. Nothing is kept on the disk but the verdict."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from cbs_core.accelerators.checked import Call, Checked, in_precision, reference
from cbs_core.accelerators.eager import Eager
from cbs_core.accelerators.store import Store
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import AcceleratorError, PluginLoadError
from cbs_core.machine.device import precision


class TensorRTAccelerator:
    """Compiles a module by TensorRT, each shape for itself (`Accelerator`).

    Each shape's result must agree with eager float32 (`cbs_core.accelerators.check`: a styler's
    PSNR of 35 dB, a segmenter's IoU of 0.995).

    Raises:
        PluginLoadError: Torch-TensorRT is not installed.
    """

    def __init__(self) -> None:
        if find_spec("torch_tensorrt") is None:
            raise PluginLoadError(
                "accelerator=tensorrt needs torch-tensorrt: "
                "pip install 'class-based-styling[tensorrt]'"
            )

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`.

        Raises:
            AcceleratorError: another device than CUDA.
        """
        if device.type != "cuda":
            raise AcceleratorError(
                f"accelerator=tensorrt needs CUDA, not {device}: say accelerator=auto"
            )
        module = reference(module, device)
        return Checked(module, kind, [TensorRTWay(module, dtype)], Store(module, device))


@dataclass(frozen=True, slots=True)
class TensorRTWay:
    """TensorRT in one precision (`cbs_core.accelerators.checked.Way`)."""

    module: nn.Module
    dtype: torch.dtype
    usual: float = 120.0

    @property
    def label(self) -> str:
        """``tensorrt fp16``."""
        return f"tensorrt {precision(self.dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, compiled for the inputs' shapes."""
        import torch_tensorrt

        picture, *rest = inputs
        with torch.inference_mode(False), torch.no_grad():
            example = [picture.to(self.dtype).clone(), *(one.clone() for one in rest)]
            compiled = torch_tensorrt.compile(
                in_precision(self.module, self.dtype),
                ir="dynamo",
                inputs=example,
                use_explicit_typing=True,  # each layer in the precision of its own weights
            )
        return Eager(compiled, self.dtype)
