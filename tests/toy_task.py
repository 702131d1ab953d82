"""A task that trains in milliseconds: a small net with dropout learns to halve its input."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

STEPS = 12


class ToyTask:
    """`cbs_core.contract.task.Task`.

    Args:
        steps: of the learning rate's decay.
        disturb: (step, loss) -> loss, to break it.
    """

    name = "toy"
    criterion = "error"
    greater_is_better = False

    def __init__(self, steps: int = STEPS, disturb: Callable[[int, Tensor], Tensor] | None = None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.Dropout(0.2),
                nn.Conv2d(8, 3, 1),
            )
        self.optimizer = torch.optim.Adam(self.module.parameters(), 1e-2)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 1 - step / (steps + 1)
        )
        self.disturb = disturb
        self.steps_taken = 0

    def prepare(self, device: torch.device) -> None:
        self.device = device

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.rand(2, 3, 8, 8, generator=generator), torch.tensor(step))

    def step(self, image: Tensor, number: Tensor) -> Mapping[str, Tensor]:
        self.steps_taken += 1
        loss = (self.module(image) - image / 2).square().mean()
        if self.disturb is not None:
            loss = self.disturb(int(number), loss)
        return {"loss": loss, "twice": 2 * loss}

    def validate(self) -> Mapping[str, float]:
        image = torch.linspace(0, 1, 192).view(1, 3, 8, 8).to(self.device)
        return {"error": float((self.module(image) - image / 2).detach().abs().mean())}

    def preview(self) -> Tensor:
        return torch.zeros(4, 6, 3, dtype=torch.uint8)

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        return self.module.state_dict(), {"net": "toy"}
