"""A click is a mask: SAM and its kin find the thing at ``select=x,y``, whatever it is.

Letters: ``B`` batch, ``M`` masks, ``H W`` the frame, ``h w`` the grid that motion is measured on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.types import Instances
from cbs_core.temporal.carrying import Seen
from cbs_core.temporal.flow import resized, warped
from cbs_core.temporal.objects import OVERLAP
from cbs_core.temporal.scenes import Scene, thumbnail
from cbs_plugins.nets import sam
from cbs_plugins.nets.transformers import BACKGROUND

OBJECT = "object"

MASKS = ("best", "largest", "smallest")
"""Which of the three masks of a point."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The thing as it was last seen."""

    point: tuple[float, float]
    """What was asked for."""

    seen: Seen
    thumbnail: Tensor
    """Of that frame, flat, on the host."""

    mask: Tensor
    """``(1,1,h,w)``, logits."""

    def state(self) -> dict[str, Any]:
        """Returns it as plain values and tensors."""
        return {
            "point": self.point,
            "seen": self.seen.state(),
            "thumbnail": self.thumbnail,
            "mask": self.mask,
        }

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(
            tuple(kept["point"]), Seen.restore(kept["seen"]), kept["thumbnail"], kept["mask"]
        )


class SamSegmenter(nn.Module):
    """Finds the thing at a point, and in later frames the same thing (`PointSegmenter`).

    In the first frame the net is asked what lies at the point. In each later one its last mask is
    moved by the optical flow, and what the net makes of that mask and of the box around it is the
    thing now. After a scene cut, or where what it makes is somewhere else, the thing is not there;
    it is looked for again in each frame that looks like the one where it was seen last.

    Args:
        model: a checkpoint of SAM, SlimSAM, HQ-SAM or SAM 2, as a folder or by its name on the Hub.
        revision: branch, tag or commit on the Hub.
        mask: which of the three masks of a point: ``best``, ``largest`` or ``smallest``.

    Raises:
        ConfigError: no such mask.
        PluginLoadError: transformers is not installed.
        WeightsMissingError: there is no such model, or no network.
        WeightsError: it is no SAM, or cannot be read.
    """

    classes = (BACKGROUND, OBJECT)

    def __init__(
        self, model: str | None = sam.USUAL, revision: str | None = None, mask: str = "best"
    ) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ConfigError(
                f"segmenter.mask={mask} is none of {', '.join(MASKS)}{closest(str(mask), MASKS)}"
            )
        self.net, found = sam.find(model, revision, key="segmenter.model")
        self.weights_files = found.files
        self.mask = mask
        self._held: Held | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Tells that it has nothing to look for.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "segmenter=sam finds whatever lies at cbs-run's select=x,y, and knows no classes: "
            "choose another segmenter here"
        )

    def instances_at(self, image: Tensor, point: tuple[float, float], /) -> list[Instances]:
        """Returns the thing in each frame; see `PointSegmenter`."""
        return [self._found(frame[None], point) for frame in image]

    def reset(self) -> None:
        """Forgets the thing."""
        self._held = None

    def state(self) -> dict[str, Any]:
        """Returns the thing as it was last seen."""
        return {} if self._held is None else self._held.state()

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Goes on from a `state`."""
        self._held = Held.restore(state) if state else None

    def _found(self, image: Tensor, point: tuple[float, float]) -> Instances:
        now, small = Seen.of(image, 0), thumbnail(image).flatten().cpu()
        held = self._held
        if held is None or held.point != point or not now.follows(held.seen):
            logits, score = self._first(image, point)
            if not (logits > 0).any():
                self._held = None  # the next frame may have something there
                return _nothing(image)
        elif Scene(0, held.thumbnail).after(small).number:
            return _nothing(image)
        else:
            motion = now.since(held.seen.to(image.device)).motion
            moved = warped(held.mask.to(image.device), motion)
            found = self._again(image, moved)
            if found is None:
                return _nothing(image)
            logits, score = found
        self._held = Held(point, now, small, resized(logits[None, None], now.size))
        return Instances(logits.sigmoid()[None], _one(image), score.clamp(0, 1)[None])

    def _first(self, image: Tensor, point: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Returns logits ``(H,W)`` of what lies at a point, and how good they are."""
        height, width = image.shape[-2:]
        place = torch.tensor([[point[0] * width - 0.5, point[1] * height - 0.5]])
        masks, scores = self.net(image, points=place.to(image.device), several=True)
        (masks,), (scores,) = masks, scores
        areas = (masks > 0).sum((1, 2)).float()
        # One that is nothing is no smallest mask.
        rank = {
            "best": scores,
            "largest": areas,
            "smallest": -areas.masked_fill(areas == 0, torch.inf),
        }[self.mask]
        best = int(rank.argmax())
        return masks[best], scores[best]

    def _again(self, image: Tensor, moved: Tensor) -> tuple[Tensor, Tensor] | None:
        """Returns the same of the thing whose mask may be ``(1,1,h,w)``; None: it is not there."""
        due = resized(moved, (image.shape[-2], image.shape[-1]))[0, 0] > 0
        if not due.any():
            return None
        rows, columns = (due.any(axis).nonzero().flatten() for axis in (1, 0))
        box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        masks, scores = self.net(image, boxes=box.to(image.dtype)[None], mask=moved)
        logits, score = masks[0, 0], scores[0, 0]
        mask = logits > 0
        common, union = (mask & due).sum(), (mask | due).sum()
        return (logits, score) if bool(common > OVERLAP * union) else None


def _one(image: Tensor) -> Tensor:
    return torch.ones(1, dtype=torch.int64, device=image.device)


def _nothing(image: Tensor) -> Instances:
    height, width = image.shape[-2:]
    return Instances(
        image.new_zeros(0, height, width),
        torch.zeros(0, dtype=torch.int64, device=image.device),
        image.new_zeros(0),
    )
