"""Modules made fast by the chosen accelerator, and plugins named in words."""

from typing import Any

import torch
from torch import nn

from cbs_core.choose import registry
from cbs_core.choose.registry import Registry
from cbs_core.choose.sections import Choice
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import ConfigError


class Accelerate:
    """Makes modules fast by the chosen accelerator, and remembers them.

    Args:
        choice: the accelerator; None for plugins that are no modules.
        device: where they run.
        dtype: the coarsest that they compute in.
    """

    def __init__(self, choice: Choice | None, device: torch.device, dtype: torch.dtype) -> None:
        self.made: list[tuple[str, Accelerated]] = []
        self._choice, self._device, self._dtype = choice, device, dtype

    def __call__(self, module: nn.Module, words: str, kind: Kind) -> Accelerated:
        """Returns the module made fast; ``words`` name its plugin in errors.

        Raises:
            CbsError: the accelerator cannot be had.
        """
        assert self._choice is not None
        name = self._choice.name
        if self._choice.params.get("int8") and not registry.accelerators.takes(name, "int8"):
            raise ConfigError(
                f"accelerator={name} has no int8: say accelerator=auto, or another precision"
            )
        accelerator = registry.accelerators.create(name, **self._choice.params)
        what = f"the {words} under the {words_of(registry.accelerators, name)}"
        fast = registry.guarded(
            what, accelerator, module, device=self._device, dtype=self._dtype, kind=kind
        )
        self.made.append((words, fast))
        return fast


def words_of(plugins: Registry[Any], name: str) -> str:
    """Returns a plugin and its package in words, for errors."""
    return f"{plugins.kind} '{name}' of {plugins.origin(name)}"
