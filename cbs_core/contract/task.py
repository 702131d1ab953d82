"""What is trained: the part of a training run that knows the net, the data and the losses.

A task is a plain object; it need not import `cbs_core`. The loop owns device, precision, memory
format, compilation, checkpoints, limits and progress.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Batch = tuple[Tensor, ...]
"""Tensors on the host, of any dtype (uint8 pictures travel fastest)."""


class Task(Protocol):
    """What `cbs_core.training.loop.train` drives.

    Order of the calls: `prepare`, then for each step `batch` (in other threads, ahead of time) and
    `step`; `validate` and `preview` now and then; `export` at the end.
    """

    name: str
    """Of the result, such as ``starry_night``: the file's name where none is given."""

    module: nn.Module
    """All that is optimised and checkpointed; several nets go into a `torch.nn.ModuleDict`."""

    optimizer: Optimizer
    """Over the module's parameters."""

    scheduler: LRScheduler
    """Of the learning rate; stepped once a step."""

    criterion: str
    """The key of `validate` that chooses the best checkpoint."""

    greater_is_better: bool
    """Of the criterion: False for a loss, True for an IoU."""

    def prepare(self, device: torch.device, /) -> None:
        """Moves what is not optimised (a loss net, a teacher) and computes what steps share.

        Called once, after the loop moved `module` to the device.
        """
        ...

    def batch(self, step: int, generator: torch.Generator, /) -> Batch:
        """Returns the data of a step, from 0; called from several threads at once.

        Args:
            step: the number of the step: with the batch size it tells which samples are due.
            generator: on the host, seeded from the seed and the step; nothing else may be random.
        """
        ...

    def step(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """Returns the losses without dimensions; ``loss`` is the one that is minimised.

        Called under autocast, with the module in training mode and the batch on the device. What
        overflows in half precision (a Gram matrix) must be computed in float32 by the task.
        """
        ...

    def validate(self) -> Mapping[str, float]:
        """Returns figures on held-out data, `criterion` among them; nothing in it is random.

        Called under autocast and ``no_grad``, with the module in evaluation mode.
        """
        ...

    def preview(self) -> Tensor | None:
        """Returns a picture of what the net does now, uint8 ``(H,W,3)``; called as `validate`."""
        ...

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Returns the tensors of the finished weight file, and what its header says of them."""
        ...
