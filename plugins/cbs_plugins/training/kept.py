"""Which weights of a net are kept: the last ones, or their mean over the last steps."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel


class Kept:
    """The weights of a net that are validated and exported.

    Args:
        net: that is trained.
        average_from: the step from which the weights are averaged; None for the last ones.
        adjust: so many times the logarithm of a class's mean probability is taken from its logits.
        last: the name of the convolution that gives the logits; needed for ``adjust``.
    """

    def __init__(
        self, net: nn.Module, average_from: float | None, adjust: float, last: str | None
    ) -> None:
        self._net = net
        self._adjust, self._last = adjust, last
        self._average: AveragedModel | None = None
        self._average_from = average_from or 0.0
        self.module = net
        """All that a checkpoint holds."""
        if average_from is not None:
            self._average = AveragedModel(net, use_buffers=True)
            self.module = nn.ModuleDict({"net": net, "average": self._average})

    def follow(self, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Counts what the optimizer leaves, from the step on that was said."""
        if self._average is None:
            return
        average = self._average

        def count(*_: object) -> None:
            if scheduler.last_epoch >= self._average_from:
                average.update_parameters(self._net)

        optimizer.register_step_post_hook(count)

    def net(self, found: Callable[[nn.Module], Tensor]) -> nn.Module:
        """Returns the net as it is kept.

        Args:
            found: gives the mean probability ``(K,)`` of each class by a net, above 0.
        """
        net = self._net
        if self._average is not None and self._average.n_averaged:
            net = self._average.module
        if not self._adjust:
            return net
        net = copy.deepcopy(net)
        bias = net.get_submodule(str(self._last)).bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias -= self._adjust * found(net).log()
        return net
