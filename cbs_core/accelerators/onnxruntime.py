"""ONNX Runtime: a module exported as ONNX, with any B, H and W, which is kept on the disk."""

import logging
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from cbs_core.accelerators.checked import Call, Checked, in_precision, reference
from cbs_core.accelerators.store import Store, versions
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import AcceleratorError, PluginLoadError
from cbs_core.machine.background import threads
from cbs_core.machine.device import precision

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
        self._device = device
        half = device.type == "cuda" and dtype == torch.float16
        self._dtype = torch.float16 if half else torch.float32
        self._store = store
        self._session: Any = None
        self.label = f"onnxruntime {precision(self._dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module's session, which serves all shapes."""
        import onnxruntime

        if self._session is None:
            self._session = self._start(onnxruntime, inputs)
        session, device, dtype = self._session, self._device, self._dtype

        def run(*inputs: Tensor) -> Any:
            picture, *rest = inputs
            binding = session.io_binding()
            for port, one in zip(session.get_inputs(), (picture.to(dtype), *rest), strict=True):
                value = onnxruntime.OrtValue.from_dlpack(one.contiguous())
                binding.bind_ortvalue_input(port.name, value)
            for port in session.get_outputs():
                binding.bind_output(port.name, device.type, device.index or 0)
            if device.type == "cuda":
                # ONNX Runtime has a stream of its own, which knows nothing of ours.
                torch.cuda.current_stream(device).synchronize()
            session.run_with_iobinding(binding)
            outputs = tuple(from_dlpack(value).float() for value in binding.get_outputs())
            return outputs if len(outputs) > 1 else outputs[0]

        return run

    def _start(self, runtime: Any, inputs: tuple[Tensor, ...]) -> Any:
        provider = f"{self._device.type.upper()}ExecutionProvider"
        offered = runtime.get_available_providers()
        if provider not in offered:
            raise AcceleratorError(f"this onnxruntime offers only {', '.join(offered)}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.log_severity_level = 3
        place = {"device_id": self._device.index or 0} if self._device.type == "cuda" else {}
        session = runtime.InferenceSession(
            self._exported(inputs), options, providers=[(provider, place)]
        )
        # One that cannot start is replaced by the CPU without an error.
        if provider not in session.get_providers():
            raise AcceleratorError(f"onnxruntime's {provider} does not start here")
        return session

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
        content: bytes = program.model_proto.SerializeToString()
        return content
