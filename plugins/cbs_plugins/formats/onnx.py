"""Nets as ONNX files, run by ONNX Runtime on the picture's own device.

The YAML beside a file tells what its numbers mean (`cbs_plugins.formats.onnx_spec`).

Letters: ``B`` batch, ``H W`` the frame, ``h w`` the net's output, ``C`` its channels.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cbs_core.contract.errors import (
    ConfigError,
    PluginContractError,
    PluginLoadError,
    WeightsError,
    WeightsMissingError,
)
from cbs_core.machine.background import threads
from cbs_core.machine.memory import GIB, MemoryLimitError, available
from cbs_core.run.workers import Worker
from cbs_plugins.formats.onnx_files import files_of
from cbs_plugins.formats.onnx_spec import Spec

DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
"""ONNX Runtime's names of the types that a picture can be given in."""

FATAL = 4
"""How bad is what ONNX Runtime prints: what is less is raised too, and told in our own line."""

LONG = 30.0
"""Seconds after which a net that has not returned is told: a graph's loop may have no end."""

LOOK = 0.5
"""Seconds between two looks at a net that has not returned."""

LEAST = GIB // 2
"""Bytes of memory that such a net leaves free, or is ended: a loop may keep all it computes."""

log = logging.getLogger("cbs")


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
            import onnxruntime
        except ImportError as error:
            raise PluginLoadError(
                f"ONNX files need {error.name}: pip install 'class-based-styling[{extra}]'"
            ) from error
        self._runtime: Any = onnxruntime
        path = Path(path).expanduser()
        if not path.is_file():
            raise WeightsMissingError(f"no ONNX file '{path}': check the path")
        self.file, *data = files_of(path)
        self.files = (self.file, *data)
        """The graph, and the files of external data that it names."""
        cpu = self._start("CPUExecutionProvider", {})
        self._sessions = {"cpu": cpu}
        self.inputs = tuple(Port(p.name, tuple(p.shape), p.type) for p in cpu.get_inputs())
        self.outputs = tuple(Port(p.name, tuple(p.shape), p.type) for p in cpu.get_outputs())

    def _start(self, provider: str, options: Mapping[str, object]) -> Any:
        settings = self._runtime.SessionOptions()
        settings.log_severity_level = FATAL
        settings.intra_op_num_threads = threads()

        def begin() -> Any:
            return self._runtime.InferenceSession(
                str(self.file.path), settings, providers=[(provider, dict(options))]
            )

        try:
            return self._awaited(begin)  # it computes what depends on no input, loops too
        except Exception as error:  # ONNX Runtime's have no common base
            raise WeightsError(
                f"'{self.file.path}' is no ONNX file that ONNX Runtime can run ({one_line(error)})"
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
        asked = self._runtime.RunOptions()
        asked.log_severity_level = FATAL
        try:
            self._awaited(
                lambda: session.run_with_iobinding(binding, asked),
                lambda: setattr(asked, "terminate", True),
            )
        except MemoryLimitError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise PluginContractError(
                f"'{self.file.path}' failed on an input of {shapes} ({one_line(error)}): compare "
                "its layout, size and multiple with what the net was made for"
            ) from error
        out: Tensor = from_dlpack(binding.get_outputs()[0])
        return out

    def _awaited(self, call: Callable[[], Any], end: Callable[[], None] = lambda: None) -> Any:
        """Returns what a call of the library returns, which Ctrl-C ends.

        The main thread hears no signal while it is in C++, and a file's loop may never come back:
        so another calls, while this one waits in Python.

        Args:
            call: what is called.
            end: has it come back soon.

        Raises:
            MemoryLimitError: it took nearly all of the host's memory.
        """
        returned: list[Any] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                returned.append(call())
            except BaseException as error:
                failed.append(error)

        worker = Worker(work, "cbs-onnx")
        worker.start()
        begun, told = time.monotonic(), False
        try:
            while not worker.wait(LOOK):
                if available(torch.device("cpu")) < LEAST:
                    raise MemoryLimitError(
                        f"'{self.file.path}' takes all of the memory, and was ended: give it "
                        "smaller pictures, or another net"
                    )
                if not told and time.monotonic() > begun + LONG:
                    told = True
                    log.warning(
                        "'%s' has not returned for %.0f s: Ctrl-C ends it", self.file.path, LONG
                    )
        except BaseException:
            end()
            worker.wait(LONG)
            raise
        if failed:
            raise failed[0]
        return returned[0]


def one_line(error: BaseException) -> str:
    """Returns the beginning of an error's message, without line breaks."""
    return " ".join(str(error).split())[:200]


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
