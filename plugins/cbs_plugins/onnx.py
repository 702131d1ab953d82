"""Nets as ONNX files: run on the picture's own device, and described by a small YAML.

An ONNX file does not tell what its numbers mean. The YAML beside it does (``net.onnx.yaml`` or
``net.yaml`` beside ``net.onnx``), and is read as plain data: nothing in it is ever called.

    layout: NCHW                # or NHWC, of input and output
    color: RGB                  # or BGR, of input and of an output picture
    range: [0, 1]               # what black and white are in the input: [0, 255], [-1, 1], ...
    mean: [0.485, 0.456, 0.406] # subtracted after that, in the input's own colour order; optional
    std: [0.229, 0.224, 0.225]  # divides the difference; optional
    size: [512, 1024]           # height, width: the picture is resized to it; optional
    multiple: 32                # the picture is padded to such sides; optional
    min_side: 8                 # the picture is padded to at least this; optional
    classes: [road, car]        # of a segmenter: in channel order, or the name of a vocabulary
    output_range: [0, 1]        # of a styler: what black and white are in the output

Letters: ``B`` batch, ``H W`` the frame, ``h w`` the net's output, ``C`` its channels.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cbs_core import vocabularies
from cbs_core.errors import (
    ConfigError,
    PluginContractError,
    PluginLoadError,
    WeightsError,
    WeightsMissingError,
    closest,
)
from cbs_core.weights import WeightsFile

T = TypeVar("T")

DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
"""ONNX Runtime's names of the types that a picture can be given in."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a net."""

    name: str
    shape: tuple[int | str | None, ...]
    """A side that may vary is a name or None."""

    type: str
    """``tensor(float)``, ..."""

    def __str__(self) -> str:
        return f"{self.type.removeprefix('tensor')} ({', '.join(map(str, self.shape))})"


class Runner:
    """An ONNX file in ONNX Runtime, on whichever device its inputs lie.

    Args:
        path: the file.
        extra: the extra of this project that brings ONNX Runtime, for the message.

    Raises:
        PluginLoadError: ONNX Runtime is not installed.
        WeightsMissingError: no such file.
        WeightsError: the file is no ONNX, or one that this ONNX Runtime cannot run.
    """

    def __init__(self, path: str | Path, *, extra: str = "onnx") -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise PluginLoadError(
                f"ONNX files need {error.name}: pip install 'class-based-styling[{extra}]'"
            ) from error
        self._runtime: Any = onnxruntime
        path = Path(path).expanduser()
        if not path.is_file():
            raise WeightsMissingError(f"no ONNX file '{path}': check the path")
        self.file = WeightsFile(path, hashlib.sha256(path.read_bytes()).hexdigest())
        cpu = self._start("CPUExecutionProvider", {})
        self._sessions = {"cpu": cpu}
        self.inputs = tuple(Port(p.name, tuple(p.shape), p.type) for p in cpu.get_inputs())
        self.outputs = tuple(Port(p.name, tuple(p.shape), p.type) for p in cpu.get_outputs())

    def _start(self, provider: str, options: Mapping[str, object]) -> Any:
        settings = self._runtime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = torch.get_num_threads()
        try:
            return self._runtime.InferenceSession(
                str(self.file.path), settings, providers=[(provider, dict(options))]
            )
        except Exception as error:  # ONNX Runtime's have no common base
            raise WeightsError(
                f"'{self.file.path}' is no ONNX file that ONNX Runtime can run ({_line(error)})"
            ) from error

    def _session(self, device: torch.device) -> Any:
        key = str(device)
        if key not in self._sessions:
            provider = f"{device.type.upper()}ExecutionProvider"
            offered = self._runtime.get_available_providers()
            # A provider that cannot start is replaced by the CPU without an error.
            if provider in offered:
                session = self._start(provider, {"device_id": device.index or 0})
                if provider in session.get_providers():
                    self._sessions[key] = session
            if key not in self._sessions:
                raise PluginLoadError(
                    f"this ONNX Runtime cannot run on {device} (it offers {', '.join(offered)}): "
                    "say device=cpu, or for CUDA pip install onnxruntime-gpu instead of onnxruntime"
                )
        return self._sessions[key]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Returns the first output, on the device of the inputs; waits for the device.

        Args:
            inputs: in the net's order and types, all on one device.

        Raises:
            PluginContractError: the net failed.
            PluginLoadError: ONNX Runtime cannot run on that device.
        """
        device = inputs[0].device
        session = self._session(device)
        value = self._runtime.OrtValue
        binding = session.io_binding()
        for port, tensor in zip(self.inputs, inputs, strict=True):
            binding.bind_ortvalue_input(port.name, value.from_dlpack(tensor.contiguous()))
        binding.bind_output(self.outputs[0].name, device.type, device.index or 0)
        if device.type == "cuda":
            # ONNX Runtime has a stream of its own, which knows nothing of ours.
            torch.cuda.current_stream(device).synchronize()
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise PluginContractError(
                f"'{self.file.path}' failed on an input of {shapes} ({_line(error)}): compare its "
                "layout, size and multiple with what the net was made for"
            ) from error
        out: Tensor = from_dlpack(binding.get_outputs()[0])
        return out


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@dataclass(frozen=True, slots=True)
class Spec:
    """What an ONNX file's numbers mean, by the keys of the YAML (see the module's docstring)."""

    layout: str
    color: str
    range: tuple[float, ...]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: tuple[int, ...] | None = None
    multiple: int = 1
    min_side: int = 1
    classes: tuple[str, ...] = ()
    output_range: tuple[float, ...] = ()


def read_spec(path: str | Path | None, onnx: str | Path, *, needs: str) -> Spec:
    """Reads the YAML of an ONNX file.

    Args:
        path: the YAML; None is the one beside the ONNX file.
        onnx: the ONNX file.
        needs: the key that this kind of plugin needs, ``classes`` or ``output_range``.

    Raises:
        ConfigError: it is missing or no YAML, has an unknown key or lacks one, or a value is wrong.
    """
    path = _beside(Path(onnx)) if path is None else Path(path).expanduser()
    content = _read_yaml(path, example=f"layout, color, range and {needs}")
    known = {field.name: field.default is MISSING or field.name == needs for field in fields(Spec)}
    for key in content:
        if key not in known:
            raise ConfigError(
                f"'{path}': unknown key '{key}'{closest(str(key), known)} (there are: "
                f"{', '.join(known)})"
            )
    if absent := [key for key, required in known.items() if required and key not in content]:
        raise ConfigError(
            f"'{path}' does not tell {', '.join(absent)}: add a line such as {absent[0]}: VALUE, "
            f"which is {_CHECKS[absent[0]][1]}"
        )
    values = {}
    for key, value in content.items():
        check, due = _CHECKS[key]
        try:
            values[key] = check(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"'{path}': {key}: {value} is wrong: give {due}") from error
    return Spec(**values)


def _beside(onnx: Path) -> Path:
    onnx = onnx.expanduser()
    full, short = onnx.with_name(f"{onnx.name}.yaml"), onnx.with_suffix(".yaml")
    return short if short.is_file() and not full.is_file() else full


def _read_yaml(path: Path, *, example: str) -> Mapping[Any, object]:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"no description '{path}' of the ONNX file: write it there, with {example}, or name "
            "another with spec=FILE"
        ) from error
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"'{path}' is no YAML that can be read ({_line(error)})") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"'{path}' is no mapping of keys to values: write {example} into it")
    return content


def _one_of(*known: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError
        return str(value)

    return check


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError
    return value


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: Any) -> float:
    if _float(value) <= 0:
        raise ValueError
    return _float(value)


def _list_of(count: int, check: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def check_all(values: Any) -> tuple[T, ...]:
        if not isinstance(values, Sequence) or len(values) != count:
            raise ValueError
        return tuple(map(check, values))

    return check_all


def _interval(value: Any) -> tuple[float, ...]:
    low, high = _list_of(2, _float)(value)
    if low >= high:
        raise ValueError
    return low, high


def _classes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(vocabularies.get(value))
    names = tuple(map(str, value))
    if not names or len(set(names)) < len(names):
        raise ValueError
    return names


_CHECKS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "layout": (_one_of("NCHW", "NHWC"), "NCHW or NHWC"),
    "color": (_one_of("RGB", "BGR"), "RGB or BGR"),
    "range": (_interval, "black and white, such as [0, 255]"),
    "mean": (_list_of(3, _float), "three numbers"),
    "std": (_list_of(3, _positive), "three numbers above 0"),
    "size": (_list_of(2, _integer), "[HEIGHT, WIDTH] in pixels"),
    "multiple": (_integer, "a number of pixels"),
    "min_side": (_integer, "a number of pixels"),
    "classes": (_classes, "a list of names, each once, or the name of a vocabulary"),
    "output_range": (_interval, "black and white, such as [0, 1]"),
}
"""For each key of the YAML what reads its value (else TypeError or ValueError), and in words."""


class PictureNet:
    """An ONNX net whose input is a picture and whose output is one value a channel and pixel.

    Args:
        runner: the net.
        spec: what its numbers mean.
        channels: C, which its output must have.

    Raises:
        WeightsError: the net's input or output is not of that kind, layout or channel count.
        ConfigError: ``size`` is not the net's own.
    """

    def __init__(self, runner: Runner, spec: Spec, *, channels: int) -> None:
        self.runner = runner
        self.spec = spec
        self.channels = channels
        if len(runner.inputs) != 1:
            raise self._unfit(f"has {len(runner.inputs)} inputs where one picture is due")
        (port,) = runner.inputs
        if port.type not in DTYPES or len(port.shape) != 4:
            raise self._unfit(f"takes {port} where floats of four dimensions are due")
        self._dtype = DTYPES[port.type]
        self._check_channels("input", port, 3)
        if len(runner.outputs[0].shape) == 4:  # where the graph tells it
            self._check_channels("output", runner.outputs[0], channels)

        sides = port.shape[2:] if spec.layout == "NCHW" else port.shape[1:3]
        fixed = [side for side in sides if isinstance(side, int)]
        self._size = tuple(fixed) if len(fixed) == 2 else spec.size
        if spec.size is not None and self._size != spec.size:
            raise ConfigError(
                f"'{runner.file.path}' takes {fixed[0]} x {fixed[1]} pixels (height x width) only, "
                f"and its YAML says size: {list(spec.size)}: leave that out"
            )
        self._one_by_one = port.shape[0] == 1

    def _unfit(self, what: str) -> WeightsError:
        return WeightsError(f"'{self.runner.file.path}' {what}: give another net")

    def _check_channels(self, what: str, port: Port, due: int) -> None:
        axis, other = (1, 3) if self.spec.layout == "NCHW" else (3, 1)
        have = port.shape[axis]
        if have == due or (not isinstance(have, int) and port.shape[other] != due):
            return
        if port.shape[other] == due:
            right = "NHWC" if self.spec.layout == "NCHW" else "NCHW"
            raise WeightsError(
                f"'{self.runner.file.path}': its {what} is {port}, which is not layout: "
                f"{self.spec.layout} as its YAML says but {right}"
            )
        raise WeightsError(
            f"'{self.runner.file.path}': its {what} is {port}, which has {have} channels in layout "
            f"{self.spec.layout} where {due} are due: mend its YAML or give another net"
        )

    def __call__(self, image: Tensor) -> Tensor:
        """Runs the net on pictures.

        Args:
            image: ``(B,3,H,W)`` RGB in [0,1], any H and W.

        Returns:
            ``(B,C,h,w)`` float32, as the net gives it and over the whole frame: what was padded is
            cut off again.

        Raises:
            PluginContractError: the net failed, or gave another shape.
        """
        height, width = image.shape[-2:]
        x = self._prepare(image)
        padded = x.shape[-2:]
        if self.spec.layout == "NHWC":
            x = x.permute(0, 2, 3, 1)
        parts = [x[i : i + 1] for i in range(len(x))] if self._one_by_one else [x]
        out = torch.cat([self.runner(part) for part in parts]).float()
        if self.spec.layout == "NHWC" and out.ndim == 4:
            out = out.permute(0, 3, 1, 2)
        if out.ndim != 4 or out.shape[:2] != (len(image), self.channels):
            raise PluginContractError(
                f"'{self.runner.file.path}' returned {tuple(out.shape)} where ({len(image)}, "
                f"{self.channels}, h, w) is due: compare its YAML with the net"
            )
        if self._size is not None or padded == (height, width):
            return out
        if out.shape[-2:] != padded:
            out = F.interpolate(out, padded, mode="bilinear")
        return out[..., :height, :width]

    def _prepare(self, image: Tensor) -> Tensor:
        spec = self.spec
        height, width = image.shape[-2:]
        if self._size is None:
            new = [max(spec.min_side, side) for side in (height, width)]
            new = [side + -side % spec.multiple for side in new]
            x = F.pad(image, (0, new[1] - width, 0, new[0] - height), mode="replicate")
        elif self._size == (height, width):
            x = image
        else:
            x = F.interpolate(image, self._size, mode="bilinear", antialias=True)
        if spec.color == "BGR":
            x = x.flip(1)
        low, high = spec.range
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
        return ((x * (high - low) + low - mean) / std).to(self._dtype)
