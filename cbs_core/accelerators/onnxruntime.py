"""ONNX Runtime: a module exported as ONNX, with any B, H and W, which is kept on the disk."""

import logging
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from cbs_core.accelerators.base import Accelerated, Kind
from cbs_core.accelerators.checked import Call, Checked, in_precision, reference, short
from cbs_core.accelerators.store import Store, versions
from cbs_core.errors import AcceleratorError, PluginLoadError

NEEDS = ("onnx", "onnxruntime", "onnxscript")


class ONNXRuntimeAccelerator:
    """Runs a module in ONNX Runtime (`Accelerator`); on the CPU it has float32 only.

    Each shape's result must agree with eager float32 (`cbs_core.accelerators.check`: a styler's
    PSNR of 35 dB, a segmenter's IoU of 0.995).

    Raises:
        PluginLoadError: a package that it needs is not installed.
    """

    def __init__(self) -> None:
        if absent := [name for name in NEEDS if find_spec(name) is None]:
            raise PluginLoadError(
                f"accelerator=onnxruntime needs {', '.join(absent)}: "
                "pip install 'class-based-styling[onnx]'"
            )

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`."""
        module = reference(module, device)
        store = Store(module, device)
        return Checked(module, kind, [ONNXRuntimeWay(module, device, dtype, store)], store)


class ONNXRuntimeWay:
    """ONNX Runtime (`cbs_core.accelerators.checked.Way`); it has no kernels in bfloat16."""

    usual = 15.0

    def __init__(
        self, module: nn.Module, device: torch.device, dtype: torch.dtype, store: Store
    ) -> None:
        self._module = module
        self._provider = (
            "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
        )
        half = device.type == "cuda" and dtype == torch.float16
        self._dtype = torch.float16 if half else torch.float32
        self._store = store
        self._session: Any = None
        self.label = f"onnxruntime {short(self._dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module's session, which serves all shapes."""
        import onnxruntime

        if self._provider not in onnxruntime.get_available_providers():
            raise AcceleratorError(f"this onnxruntime has no {self._provider}")
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                self._exported(inputs), options, providers=[self._provider]
            )
        session, dtype = self._session, self._dtype
        names = [port.name for port in session.get_inputs()]

        def run(*inputs: Tensor) -> Any:
            picture, *rest = inputs
            given = (picture.to(dtype), *rest)
            values = {
                name: onnxruntime.OrtValue.from_dlpack(one.contiguous().__dlpack__(), False)
                for name, one in zip(names, given, strict=True)
            }
            found = session.run_with_ort_values(None, values)
            outputs = tuple(from_dlpack(one.to_dlpack()).float() for one in found)
            return outputs if len(outputs) > 1 else outputs[0]

        return run

    def _exported(self, inputs: tuple[Tensor, ...]) -> bytes:
        parts = (self.label, versions("onnx", "onnxruntime", "onnxscript"), len(inputs))
        content = self._store.read(*parts)
        if content is None:
            content = self._export(inputs)
            self._store.write(content, *parts)
        return content

    def _export(self, inputs: tuple[Tensor, ...]) -> bytes:
        picture, *rest = inputs
        free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
        logging.disable(logging.WARNING)  # what the exporter says to its own authors
        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # A batch of one would be taken for a constant.
                example = picture.to(self._dtype).repeat(2, 1, 1, 1).contiguous()
                program = torch.onnx.export(
                    in_precision(self._module, self._dtype),
                    (example, *(one.clone() for one in rest)),
                    dynamo=True,
                    verbose=False,
                    dynamic_shapes=(free, *({} for _ in rest)),
                )
        finally:
            logging.disable(logging.NOTSET)
        assert program is not None
        return program.model_proto.SerializeToString()
