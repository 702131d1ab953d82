"""The words for a device and for a precision: read without torch."""

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from cbs_core.contract.errors import CbsError, ConfigError, closest

PRECISIONS = ("fp32", "fp16", "bf16")

INT8 = "int8"
"""A precision that an accelerator makes of a net; what is computed beside it is in float."""


class DeviceError(CbsError):
    """The device asked for cannot compute."""


def device(spec: object) -> str:
    """Reads the ``device`` value of the configuration.

    Raises:
        ConfigError: neither ``auto``, ``cpu``, ``cuda`` nor ``cuda:N``.
    """
    text = str(spec)
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", text):
        known = ("auto", "cpu", "cuda", "cuda:0")
        raise ConfigError(
            f"no device '{text}'{closest(text, known)} (there are: {', '.join(known)})"
        )
    return text


def check_cuda(spec: object) -> None:
    """Refuses a GPU that cannot be there: torch is built for none, or none has a driver.

    That much its files and the driver's library tell; `cbs_core.machine.device.choose` knows more.

    Raises:
        DeviceError: with what to do.
    """
    if not str(spec).startswith("cuda"):
        return
    found = find_spec("torch")
    file = Path(found.origin).with_name("version.py") if found and found.origin else None
    if file is None or not file.is_file():
        return
    text = file.read_text(encoding="utf-8")
    said = dict(re.findall(r"^(\w+)(?:: [^=]+)? = '?([^'\n]*)'?$", text, re.MULTILINE))
    version = said.get("__version__", "?")
    if said.get("hip", "None") == "None" and not (said.get("cuda", "None") != "None" and _driver()):
        built = said.get("cuda", "None") != "None"
        raise DeviceError(no_gpu(spec, version, built=built))


def no_gpu(spec: object, version: str, *, built: bool) -> str:
    """Returns the line for a GPU that torch cannot use.

    Args:
        spec: as it was asked for.
        version: torch's.
        built: whether it is built with CUDA.
    """
    reason = "it finds no GPU" if built else "it is built without CUDA"
    return (
        f"device={spec}: torch {version} cannot use a GPU ({reason}): see `cbs-doctor`, or say "
        "device=cpu"
    )


def _driver() -> bool:
    """Tells whether there may be a driver of NVIDIA's; where it is not known how it is called."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def precision(spec: object) -> str:
    """Reads the ``precision`` value of the configuration.

    Raises:
        ConfigError: neither ``auto``, ``fp32``, ``fp16``, ``bf16`` nor ``int8``.
    """
    text, known = str(spec), ("auto", *PRECISIONS, INT8)
    if text not in known:
        raise ConfigError(
            f"no precision '{text}'{closest(text, known)} (there are: {', '.join(known)})"
        )
    return text
