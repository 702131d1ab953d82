"""A segmenter whose soft labels another learns from."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cbs_core.choose import registry
from cbs_core.choose.sections import split as split_section
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_image
from cbs_core.datasets.labelled import IGNORE, class_map
from cbs_core.words.shares import BACKGROUND
from cbs_plugins.training.augmentation import SOFT_STRIDE


class Teacher:
    """A segmenter's soft labels, of the classes that the student has: C of its channels.

    C is K, and their order the student's, but where several of the student's classes are one to it.

    A photograph that is seen once is seen whole and as large as it is: of crops and enlargements a
    teacher knows less. One of 512x384 pixels then takes 130 KB of memory at 21 classes.

    Args:
        segmenter: with whatever classes.
        channels: its channel of each of the student's K classes.
    """

    def __init__(self, segmenter: nn.Module, channels: Sequence[int]) -> None:
        self._segmenter = segmenter.eval().requires_grad_(False)
        self._kept = list(dict.fromkeys(channels))
        self.channels = tuple(map(self._kept.index, channels))
        """Which of the C each of the student's classes is."""
        self.named = np.full(len(self._kept), IGNORE, np.uint8)
        """The student's class of each of the C, `IGNORE` where that is several."""
        for channel in range(len(self._kept)):
            if self.channels.count(channel) == 1:
                self.named[channel] = self.channels.index(channel)
        self._device = torch.device("cpu")
        self._seen: dict[Path, Tensor] = {}

    def to(self, device: torch.device) -> None:
        """Moves the segmenter."""
        self._device = device
        self._segmenter.to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Returns logits ``(B,C,h,w)`` of pictures ``(B,3,H,W)`` in [0,1]."""
        logits: Tensor = self._segmenter(images)
        return logits[:, self._kept]

    def cells(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Returns the same in float16 as means over so many cells: ``(B,C,*size)``."""
        logits = self.logits(images).float()
        return F.interpolate(logits, size, mode="bilinear", antialias=True).half()

    def soft(self, path: Path, picture: NDArray[np.uint8]) -> Tensor:
        """Returns logits ``(C,H/8,W/8)``, float16 on the host, of a picture ``(H,W,3)``."""
        if path not in self._seen:
            image = to_image(torch.from_numpy(picture).to(self._device))
            cells = [math.ceil(side / SOFT_STRIDE) for side in picture.shape[:2]]
            self._seen[path] = self.cells(image, cells)[0].cpu()
        return self._seen[path]


def create(section: Mapping[str, object], classes: tuple[str, ...]) -> Teacher:
    """Returns the teacher that a section ``teacher`` describes, for the student's classes.

    What a teacher with a ``background`` has no class for is part of that to it.

    Raises:
        ConfigError: it is no torch module, or does not know each class and has no background.
        CbsError: as the segmenter raises.
    """
    name, params = split_section(section, "teacher")
    segmenter: Any = registry.segmenters.create(name, **params)
    if not isinstance(segmenter, nn.Module):
        raise ConfigError(f"the teacher '{name}' is no torch module: choose another")
    known: tuple[str, ...] = tuple(map(str, segmenter.classes))  # type: ignore[arg-type]
    rest = known.index(BACKGROUND) if BACKGROUND in known else len(known)
    theirs = [rest if index == len(known) else index for index in class_map(classes, known)]
    theirs = list(map(int, theirs))
    for ours, index in zip(classes, theirs, strict=True):
        if index == len(known) or (index != rest and theirs.count(index) > 1):
            raise ConfigError(
                f"the teacher '{name}' has no class of its own for '{ours}' (it knows: "
                f"{', '.join(known)}): choose another teacher"
            )
    return Teacher(segmenter, theirs)
