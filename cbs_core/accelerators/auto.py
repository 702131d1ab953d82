"""Whatever is fastest here: measured on the first frame, and remembered."""

from importlib.util import find_spec

import torch
from torch import nn

from cbs_core.accelerators import onnxruntime, quantise
from cbs_core.accelerators.checked import Checked, EagerWay, Way, precisions, reference
from cbs_core.accelerators.compile import CompileWay
from cbs_core.accelerators.cudagraph import CUDAGraphWay
from cbs_core.accelerators.onnxruntime import ONNXRuntimeWay
from cbs_core.accelerators.openvino import Int8Way, Net, OpenVINOWay
from cbs_core.accelerators.store import Store
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import ConfigError


class AutoAccelerator:
    """Tries what is installed and runs what is fastest of that (`Accelerator`).

    On the CPU that is OpenVINO (in its absence ONNX Runtime), torch's compiler and plain torch; on
    CUDA it is CUDA graphs, torch's compiler and plain torch. A result must be within a PSNR of
    35 dB (a styler's) or an IoU of 0.995 (a segmenter's) of eager float32's; where half precision
    was asked for and does not agree, float32 is taken.

    Args:
        budget: seconds that a module's first frame may spend on trying. What usually takes longer
            by itself is left out: torch's compiler takes about 60. With 0 only what an earlier
            run found out, and has made of this very module, is used, or else plain torch.
        frames: how many follow each other, where that is known: what is most promising is then
            built only where they make up for it, and all further trying takes a tenth of their
            time at most.
        int8: whether int8 is tried too, on the CPU (``precision=int8``); None is no.

    Raises:
        ConfigError: a number below 0.
    """

    def __init__(
        self, budget: float = 20.0, frames: int | None = None, int8: bool | None = None
    ) -> None:
        for name, value in (("budget", budget), ("frames", frames)):
            if value is not None and not value >= 0:
                raise ConfigError(f"accelerator.{name} must be at least 0, not {value}")
        self.budget = budget
        self.frames = frames
        self.int8 = bool(int8)

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`."""
        module = reference(module, device)
        store = Store(module, device)
        ways = candidates(module, device, dtype, store, kind, int8=self.int8)
        return Checked(module, kind, ways, store, budget=self.budget, frames=self.frames)


def candidates(
    module: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    store: Store,
    kind: Kind,
    *,
    int8: bool = False,
) -> list[Way]:
    """Returns the ways that are installed, the most promising first; eager float32 is the last.

    Args:
        module: as `reference` returns it.
        device: where it is.
        dtype: the coarsest to compute in.
        store: the module's.
        kind: what it is for.
        int8: whether it is one of them, where it can be made or is there.
    """
    ways: list[Way] = []
    if device.type == "cuda":
        ways += [CUDAGraphWay(module, precision) for precision in precisions(dtype)]
    elif find_spec("openvino"):
        net = Net(module, store, kind)
        ways += [OpenVINOWay(net, precision) for precision in precisions(dtype)]
        if int8 and (quantise.installed() or net.in_int8):
            ways.insert(1, Int8Way(net, device))
    elif all(map(find_spec, onnxruntime.NEEDS)):
        ways.append(ONNXRuntimeWay(module, device, dtype, store))
    ways.append(CompileWay(module, dtype))
    if device.type == "cuda":  # plain torch on the CPU is hardly faster in half precision
        ways += [EagerWay(module, precision) for precision in precisions(dtype)[:-1]]
    return [*ways, EagerWay(module, torch.float32)]
