"""OpenVINO on the CPU: the default there, in bfloat16 where the processor has it.

A net is converted once with any B, H and W (seconds), and that is kept on the disk, of a styler
without its weights, for all that differ in nothing else; each shape is then compiled for itself
(tenths of a second), which is kept in memory only. A net that takes another way at another size is
converted anew for a shape that the common one does not fit.

A style that comes beside a live picture takes that one's processor: what does not depend on its
weights is done once for all styles, which is the conversion and the form at each shape.
"""

import copy
import logging
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cbs_core.accelerators import quantise
from cbs_core.accelerators.checked import SHAPES, Call, Checked, Way, precisions, reference
from cbs_core.accelerators.store import Store, versions
from cbs_core.contract.accelerated import Accelerated, Kind, shapes
from cbs_core.contract.errors import AcceleratorError, PluginLoadError
from cbs_core.machine.background import threads
from cbs_core.machine.device import multiplies_in_bf16, precision
from cbs_core.machine.scratch import scratch

log = logging.getLogger("cbs")

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def runtime() -> Any:
    """Imports OpenVINO as it is where its package for telemetry is not installed.

    That package tells Google Analytics of the import and of each conversion, unasked.
    """
    telemetry = "openvino_telemetry"
    if "openvino" not in sys.modules and telemetry not in sys.modules:
        sys.modules[telemetry] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            del sys.modules[telemetry]
    import openvino

    return openvino


@cache
def core() -> Any:
    """Returns the process's one OpenVINO core, which is never given up.

    Each core's CPU plugin gives the thread that loads it a stack for signals, and puts back the
    one before when it goes. Where that was another core's, gone earlier, the next Ctrl-C would be
    a segmentation fault.
    """
    return runtime().Core()


class OpenVINOAccelerator:
    """Compiles a module by OpenVINO, on the CPU (`Accelerator`).

    Each shape's result must agree with eager float32 (`cbs_core.accelerators.check`: a styler's
    PSNR of 35 dB, a segmenter's IoU of 0.995); where half precision does not, float32 is taken.

    Args:
        int8: whether int8 is tried first (``precision=int8``).

    Raises:
        PluginLoadError: OpenVINO is not installed.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        if find_spec("openvino") is None:
            raise PluginLoadError("accelerator=openvino needs openvino: pip install openvino")

    def __call__(
        self, module: nn.Module, /, *, device: torch.device, dtype: torch.dtype, kind: Kind
    ) -> Accelerated:
        """Returns the module as an `Accelerated`.

        Raises:
            AcceleratorError: another device than the CPU.
        """
        if device.type != "cpu":
            raise AcceleratorError(
                f"accelerator=openvino runs on the CPU, not on {device}: say device=cpu or another "
                "accelerator"
            )
        module = reference(module, device)
        store = Store(module, device)
        net = Net(module, store, kind)
        ways: list[Way] = [Int8Way(net, device)] if self.int8 else []
        ways += [OpenVINOWay(net, one) for one in precisions(dtype)]
        return Checked(module, kind, ways, store)


_shaped: OrderedDict[tuple[object, ...], Any] = OrderedDict()
"""Models of `Net.model` without their weights, the least recently used given up first."""

_shaping = threading.Lock()


class Net:
    """A module as OpenVINO reads it: converted once, kept in memory and on the disk.

    A styler is converted with its parameters as inputs, which are filled in when it is read. So
    another style's net of the same form need not be converted, which would hold a live picture up.
    What OpenVINO cannot read that way is converted with its weights, for itself alone, as a
    segmenter is: filling in costs each start some tenths of a second.
    """

    def __init__(self, module: nn.Module, store: Store, kind: Kind) -> None:
        self._module = module
        self._store = store
        self._apart = kind == "styler"
        self._kept: dict[tuple[object, ...], bytes] = {}

    @property
    def converted(self) -> bool:
        """Whether it is in memory or on the disk."""
        return bool(self._kept) or any(
            store.read("openvino", versions("openvino"), inputs) is not None
            for store in (self._store.alike, self._store)
            for inputs in (1, 2)  # the picture, and statistics
        )

    def read(self, inputs: tuple[Tensor, ...], *, fixed: bool) -> Any:
        """Returns an `openvino.Model` for any picture, or else ``fixed`` for the inputs' shapes.

        Parameters that it was converted apart from are inputs of it, behind the module's.
        """
        parts = ("openvino", versions("openvino"), shapes(inputs) if fixed else len(inputs))
        if parts not in self._kept:
            content = self._store.alike.read(*parts) or self._store.read(*parts)
            if content is None:
                content = self._made(inputs, parts, fixed=fixed)
            if fixed:  # one size's at a time: the others are on the disk
                self._kept = {
                    key: kept for key, kept in self._kept.items() if key[2] == len(inputs)
                }
            self._kept[parts] = content
        xml, _, weights = self._kept[parts].partition(b"\0")
        return core().read_model(xml, weights)

    def model(self, inputs: tuple[Tensor, ...]) -> Any:
        """Returns an `openvino.Model` for the inputs' shapes, with the module's weights."""
        alike = self._store.alike.base
        key = (alike, shapes(inputs))
        with _shaping:
            found = _shaped.get(key)
            model = None if found is None else found.clone()
        if model is None:
            model, common = self._for_shapes(inputs)
            if common and alike is not None and len(model.inputs) > len(inputs):
                with _shaping:
                    _shaped[key] = model.clone()
                    if len(_shaped) > SHAPES:
                        _shaped.popitem(last=False)
        return self._filled(model, len(inputs))

    def _for_shapes(self, inputs: tuple[Tensor, ...]) -> tuple[Any, bool]:
        """Returns a model, and whether it is the one for any picture."""
        try:
            model = reshaped(self.read(inputs, fixed=False), inputs)
            if self.fits(model, inputs):
                return model, True
        except RuntimeError as error:
            if "KeyboardInterrupt" in str(error):
                raise
        return reshaped(self.read(inputs, fixed=True), inputs), False

    def fits(self, model: Any, inputs: tuple[Tensor, ...]) -> bool:
        """Tells whether a model returns the shapes that the module does.

        A module that takes another way at another size (frames that need padding, say) is converted
        by the way that it took at first.
        """
        module = self._module
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        state = {name: tensor.to("meta") for name, tensor in tensors.items()}
        with torch.no_grad():
            want = functional_call(module, state, tuple(one.to("meta") for one in inputs))
        outputs = want if isinstance(want, tuple) else (want,)
        return [tuple(port.shape) for port in model.outputs] == [tuple(o.shape) for o in outputs]

    def quantised(self, inputs: tuple[Tensor, ...]) -> Any:
        """Returns an `openvino.Model` in int8 for the inputs' shapes.

        Ranges are taken from the frame mirrored, so that what is compared with the module on the
        frame itself was not made from that.

        Raises:
            AcceleratorError: it cannot be made.
        """
        parts = ("int8", versions("openvino"), quantise.FLOAT, shapes(inputs))
        content = self._store.anywhere.read(*parts)
        if content is None:
            # For any size NNCF cannot read every net: of `johnson` it would have to run layers
            # that OpenVINO knows for fixed sizes alone.
            xml, _, weights = self._written(self.model(inputs)).partition(b"\0")
            picture, *rest = inputs
            seen = [(picture.flip(way).contiguous(), *rest) for way in (3, 2)]
            content = quantise.quantised(xml, weights, seen)
            self._store.anywhere.write(content, *parts)
            self._store.anywhere.write(b"made", *self._in_int8())
        xml, _, weights = content.partition(b"\0")
        return core().read_model(xml, weights)

    @property
    def in_int8(self) -> bool:
        """Whether `quantised` is on the disk, for some size."""
        return self._store.anywhere.read(*self._in_int8()) is not None

    def _in_int8(self) -> tuple[object, ...]:
        return "int8", versions("openvino"), quantise.FLOAT

    def _filled(self, model: Any, inputs: int) -> Any:
        """Puts the parameters where a model has inputs for them, behind the first so many."""
        ports = model.get_parameters()[inputs:]
        if not ports:  # it was converted with them, or there are none
            return model
        constant = runtime().op.Constant
        for port, tensor in zip(ports, self._module.parameters(), strict=True):
            filled = constant(tensor.detach().contiguous().numpy())
            port.output(0).replace(filled.output(0))
            model.remove_parameter(port)
        return model

    def _made(self, inputs: tuple[Tensor, ...], parts: tuple[object, ...], *, fixed: bool) -> bytes:
        if self._apart:
            try:
                content = self._convert(inputs, fixed=fixed, apart=True)
                self._store.alike.write(content, *parts)
                return content
            except Exception as error:  # OpenVINO and the module may raise anything
                if "KeyboardInterrupt" in str(error):
                    raise
                name = type(self._module).__name__
                log.debug("%s is converted with its weights: %s", name, error)
        content = self._convert(inputs, fixed=fixed, apart=False)
        self._store.write(content, *parts)
        return content

    def _convert(self, inputs: tuple[Tensor, ...], *, fixed: bool, apart: bool) -> bytes:
        """Returns OpenVINO's XML, a zero byte, and what constants it has.

        Args:
            inputs: the module's.
            fixed: whether for their shapes alone.
            apart: whether its parameters become inputs too, after these.
        """
        ov = runtime()
        # Values made inside inference mode cannot be traced outside of it.
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensors = (*inputs, *(self._module.parameters() if apart else ()))
            example = tuple(one.detach().clone().contiguous() for one in tensors)
            # Its own comparison would run the net six times more; ours is on a real frame.
            run = apart_from_weights(self._module, len(inputs)) if apart else self._module
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                run, example, check_trace=False, strict=False
            )
            picture, *rest = ([*one.shape] for one in example)
            if not fixed:
                picture = [-1, picture[1], -1, -1]
            model = ov.convert_model(
                traced, example_input=example, input=[ov.PartialShape(s) for s in (picture, *rest)]
            )
            used = [port for port in model.inputs if port.get_target_inputs()]
            if apart and len(used) != len(example):  # a weight that is none has stayed in it
                raise AcceleratorError(f"it uses {len(used)} of {len(example)} inputs")
        return self._written(model)

    def _written(self, model: Any) -> bytes:
        with scratch("cbs-openvino-") as folder:
            path = folder / "net.xml"
            runtime().save_model(model, path, compress_to_fp16=False)
            return path.read_bytes() + b"\0" + path.with_suffix(".bin").read_bytes()


def apart_from_weights(module: nn.Module, inputs: int) -> Callable[..., Any]:
    """Returns a module as a function that takes its parameters' values behind so many inputs.

    `torch.func.functional_call` does not let itself be traced.
    """
    parameters = [*module.parameters()]
    copied = copy.deepcopy(module, {id(one): one for one in parameters})
    at = {id(one): index for index, one in enumerate(parameters)}
    places = [
        (part, name, at[id(one)])
        for part in copied.modules()
        for name, one in part.named_parameters(recurse=False, remove_duplicate=False)
    ]
    for part, name, _ in places:
        delattr(part, name)

    def run(*given: Tensor) -> Any:
        for part, name, index in places:
            setattr(part, name, given[inputs + index])
        return copied(*given[:inputs])

    return run


def reshaped(model: Any, inputs: tuple[Tensor, ...]) -> Any:
    """Returns a model, now for the inputs' shapes."""
    ports = zip(model.inputs, inputs, strict=False)  # behind them come weights
    model.reshape({port: [*one.shape] for port, one in ports})
    return model


class OpenVINOWay:
    """OpenVINO in one precision (`cbs_core.accelerators.checked.Way`)."""

    def __init__(self, net: Net, dtype: torch.dtype) -> None:
        self.label = f"openvino {precision(dtype)}"
        self._net = net
        self._dtype = dtype

    @property
    def usual(self) -> float:
        """Seconds: most go into the conversion, which all precisions share."""
        return 1.0 if self._net.converted else 4.0

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, compiled for the inputs' shapes."""
        can = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision(self._dtype).upper() not in can:
            raise AcceleratorError(f"this processor has no {precision(self._dtype)}")
        return compiled(self._net.model(inputs), self._dtype)


class Int8Way:
    """OpenVINO with convolutions and matrix products in int8 (`cbs_core.accelerators.checked.Way`).

    Everything else is in the best float of the processor.
    """

    label = "openvino int8"

    def __init__(self, net: Net, device: torch.device) -> None:
        self._net = net
        self._dtype = torch.bfloat16 if multiplies_in_bf16(device) else torch.float32

    @property
    def usual(self) -> float:
        """Seconds: NNCF runs the net on some frames and looks at each layer."""
        return 1.0 if self._net.in_int8 else 15.0

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, quantised and compiled for the inputs' shapes."""
        return compiled(self._net.quantised(inputs), self._dtype)


def compiled(model: Any, dtype: torch.dtype) -> Call:
    """Returns a model of fixed shapes as a function of tensors."""
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[dtype],
        "INFERENCE_NUM_THREADS": threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    ready = core().compile_model(model, "CPU", options)

    def run(*inputs: Tensor) -> Any:
        arrays = [one.contiguous().numpy() for one in inputs]
        # The results are copied out: the next call writes over the net's own.
        found = ready(arrays, share_inputs=True, share_outputs=False)
        outputs = tuple(torch.from_numpy(found[port]) for port in ready.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    return run
