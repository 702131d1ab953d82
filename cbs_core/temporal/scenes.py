"""Scenes of a stream, told apart by thumbnails of its frames.

Letters: ``B`` batch, ``H W`` the frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor

THUMBNAIL = (16, 32)
"""Height and width to which frames are reduced to be compared."""

SCENE_CUT = 0.1
"""Mean absolute difference of two frames' thumbnails, grey in [0,1], above which a scene ends. A
camera that pans by a tenth of the picture a frame makes about half of it; cuts between unlike
pictures make 0.15 and more."""


def thumbnail(image: Tensor) -> Tensor:
    """Returns the first of ``(B,3,H,W)``, grey and small: ``(1,1,*THUMBNAIL)``."""
    few = image[:1, :, ::4, ::4]  # of so few values' means, every fourth pixel is enough
    return F.interpolate(few.mean(1, keepdim=True), THUMBNAIL, mode="area")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The scene that a stream is in."""

    number: int = 0

    last: Tensor | None = None
    """The last frame's thumbnail, flat, on the host; None before the first frame."""

    def after(self, thumbnail: Tensor) -> "Scene":
        """Returns the scene of the next frame.

        Args:
            thumbnail: of that frame, on the host, of any shape.
        """
        now = thumbnail.flatten()
        if self.last is None:
            return Scene(self.number, now)
        # By numpy, whose mean is the same whatever the number of threads.
        cut = float(abs(now.numpy() - self.last.numpy()).mean()) > SCENE_CUT
        return Scene(self.number + cut, now)

    def state(self) -> dict[str, object]:
        """Returns it as plain values."""
        return {"number": self.number, "last": self.last}

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of."""
        return cls(kept["number"], kept["last"])
