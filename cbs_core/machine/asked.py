"""The words for a device and for a precision: read without torch."""

import re

from cbs_core.contract.errors import ConfigError, closest

PRECISIONS = ("fp32", "fp16", "bf16")

INT8 = "int8"
"""A precision that an accelerator makes of a net; what is computed beside it is in float."""


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
