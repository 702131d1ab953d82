"""The training of the segmenter, on scenes that are drawn as they are needed."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cbs_core.contract.errors import ConfigError
from cbs_meadow.scenes import CLASSES, scene
from cbs_meadow.segmenter import net

SIDE = 96
"""Pixels of a scene's height and width."""

HELD_OUT = range(1_000_000, 1_000_016)
"""Seeds of the scenes for validation, which training never draws."""


class MeadowTask:
    """What `cbs-train` drives (`cbs_core.contract.task.Task`).

    Args:
        data: must be ``scenes``; there is no other data.
        seed: of the weights; the loop's generator chooses the scenes.
        steps: after which the learning rate is 0.
        batch: scenes a step.
        learning_rate: Adam's, at first.

    Raises:
        ConfigError: other data.
    """

    name = "scenes"
    criterion = "accuracy"
    greater_is_better = True

    def __init__(
        self,
        data: str = "scenes",
        seed: int = 0,
        steps: int = 300,
        batch: int = 8,
        learning_rate: float = 0.01,
    ) -> None:
        if data != "scenes":
            raise ConfigError(f"data={data}: this net learns from drawn scenes, say data=scenes")
        torch.manual_seed(seed)
        self.module = net()
        self.size = batch
        self.optimizer = torch.optim.Adam(self.module.parameters(), learning_rate)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def prepare(self, device: torch.device) -> None:
        """Remembers the device."""
        self.device = device

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns scenes, uint8 ``(B,3,SIDE,SIDE)``, and their ids ``(B,SIDE,SIDE)``."""
        seeds = torch.randint(0, min(HELD_OUT), (self.size,), generator=generator)
        return _stacked(seeds.tolist())

    def step(self, pictures: Tensor, ids: Tensor) -> Mapping[str, Tensor]:
        """Returns the cross entropy."""
        return {"loss": F.cross_entropy(self._logits(pictures), ids.long())}

    def validate(self) -> Mapping[str, float]:
        """Returns the share of right pixels of the scenes held out."""
        pictures, ids = (tensor.to(self.device) for tensor in _stacked(HELD_OUT))
        right = self._logits(pictures).argmax(1) == ids
        return {"accuracy": float(right.float().mean())}

    def preview(self) -> Tensor:
        """Returns a scene beside what the net sees in it, uint8 ``(SIDE,2*SIDE,3)``."""
        pictures, _ = _stacked([HELD_OUT[0]])
        seen = self._logits(pictures.to(self.device)).argmax(1)[0].cpu()
        palette = torch.tensor([[120, 120, 120], [90, 160, 255], [60, 170, 60]], dtype=torch.uint8)
        return torch.cat([pictures[0].permute(1, 2, 0), palette[seen]], 1)

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Returns the weights, and what their header says of them."""
        said = {"classes": ",".join(CLASSES), "licence": "Apache-2.0", "data": "drawn scenes"}
        return self.module.state_dict(), said

    def _logits(self, pictures: Tensor) -> Tensor:
        logits = self.module(pictures.float() / 255)
        return F.interpolate(logits, pictures.shape[2:], mode="bilinear", align_corners=False)


def _stacked(seeds: "range | list[int]") -> tuple[Tensor, Tensor]:
    pairs = [scene(seed, SIDE, SIDE) for seed in seeds]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs]))
    return pictures.permute(0, 3, 1, 2), torch.from_numpy(np.stack([ids for _, ids in pairs]))
