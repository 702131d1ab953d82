"""Which device computes, told by running a kernel there: a GPU is really used, or it is said."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.machine import asked
from cbs_core.machine.asked import DeviceError

log = logging.getLogger("cbs")

PRECISIONS = dict(
    zip(asked.PRECISIONS, (torch.float32, torch.float16, torch.bfloat16), strict=True)
)

BF16 = ("amx_bf16", "avx512_bf16")
"""Features of a CPU, either of which makes bf16 faster than fp32."""

FEATURES = ("avx2", "avx512_f", "avx512_vnni", *BF16, "amx_int8")
"""Features of a CPU that matter to nets, by torch's names."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has just run a kernel."""

    device: torch.device
    name: str
    """For people: the GPU's name, or the number of CPU threads."""


def choose(spec: str) -> Device:
    """Returns the device meant by ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: another word.
        DeviceError: no such device, or its kernels fail. There is no fallback to CPU.
    """
    if asked.device(spec) == "auto":
        if torch.cuda.is_available():
            return _checked(torch.device("cuda"))
        if shutil.which("nvidia-smi"):
            log.warning(
                "a GPU driver is installed, but this torch (%s) cannot use it, so the CPU "
                "computes: see `cbs-doctor`, or say device=cpu",
                torch.__version__,
            )
        return _checked(torch.device("cpu"))
    kind, _, number = spec.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda is not None
        raise DeviceError(asked.no_gpu(spec, torch.__version__, built=built))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device={spec}: there are only {torch.cuda.device_count()} GPUs")
    return _checked(torch.device(spec))


def _checked(device: torch.device) -> Device:
    """Runs a small convolution: a GPU too new or too old for this torch fails only there."""
    try:
        image = torch.ones(1, 3, 8, 8, device=device)
        total = torch.nn.functional.conv2d(image, torch.ones(1, 3, 3, 3, device=device)).sum()
        healthy = total.item() == 36 * 27
    except RuntimeError as error:
        raise DeviceError(
            f"{device} is there but cannot compute ({str(error).splitlines()[0]}): install a "
            "torch made for it, or say device=cpu"
        ) from error
    if not healthy:
        raise DeviceError(f"{device} computes wrong results: see `cbs-doctor`")
    if device.type == "cuda":
        return Device(device, torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return Device(device, f"{threads} thread{'s' if threads > 1 else ''}")


def fetch(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a small tensor on the host, waiting for it by an event.

    It is for the few waits that are meant: unlike ``.cpu()`` it passes
    `torch.cuda.set_sync_debug_mode`, which is there to find the others.
    """
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    copied.synchronize()
    return host


def dtype(spec: str, device: torch.device) -> torch.dtype:
    """Returns the dtype of a precision.

    ``auto`` is fp16 on CUDA, bf16 on a CPU that multiplies in it, and fp32 elsewhere; so is
    ``int8``, of CPUs, for all that no accelerator makes int8 of.

    Raises:
        ConfigError: neither auto, fp32, fp16, bf16 nor int8, or int8 on CUDA.
    """
    word = asked.precision(spec)
    if word == asked.INT8 and device.type != "cpu":
        raise ConfigError("precision=int8 is for CPUs: say precision=auto, or device=cpu")
    if word in ("auto", asked.INT8):
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if multiplies_in_bf16(device) else torch.float32
    return PRECISIONS[spec]


def multiplies_in_bf16(device: torch.device) -> bool:
    """Tells whether bf16 is faster than fp32: the device has arithmetic for it, emulates none."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(features(BF16))


def precision(dtype: torch.dtype) -> str:
    """Returns the word for a dtype: ``fp32``, ``fp16`` or ``bf16``."""
    return next(word for word, one in PRECISIONS.items() if one == dtype)


def features(among: Sequence[str] = FEATURES) -> list[str]:
    """Returns which of some features the CPU has, by torch's names."""
    told = torch.cpu.get_capabilities()
    return [name for name in among if told.get(name)]
