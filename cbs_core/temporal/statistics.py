"""The statistics of a style in a stream: when they are taken anew, and how they change.

Instance normalisation by each frame's own means and variances lets sensor noise, and whatever
enters the picture, flicker through the whole of it, and needs the whole picture each frame. Kept
from one frame to the next, they do neither.

Letters: ``B`` batch, ``H W`` the frame, ``S`` numbers in the statistics.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.contract.errors import ConfigError

BLEND = 8
"""Frames over which statistics that were refreshed within a scene take the place of the old."""

THUMBNAIL = (16, 32)
"""Height and width to which frames are reduced to be compared."""

SCENE_CUT = 0.1
"""Mean absolute difference of two frames' thumbnails, grey in [0,1], above which a scene ends. A
camera that pans by a tenth of the picture a frame makes about half of it; cuts between unlike
pictures make 0.15 and more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When statistics are taken anew."""

    every: int | None = None
    """Frames that show the style from one time to the next; None: not by number."""

    on_cut: bool = False
    """Whether at each scene cut."""


def parse(spec: object) -> Policy | None:
    """Reads the ``styler.statistics`` value of the configuration.

    Args:
        spec: ``frame``, ``frozen``, ``scene`` or ``refresh:N``.

    Returns:
        None for each frame's own.

    Raises:
        ConfigError: a value of another form.

    Example:
        >>> parse("refresh:30"), parse("frame")
        (Policy(every=30, on_cut=True), None)
    """
    text = str(spec)
    if text == "frame":
        return None
    if text == "frozen":
        return Policy()
    if text == "scene":
        return Policy(on_cut=True)
    if match := re.fullmatch(r"refresh:0*([1-9]\d*)", text):
        return Policy(every=int(match[1]), on_cut=True)
    raise ConfigError(
        f"styler.statistics={text} is none of frame (each frame's own), frozen (the first "
        "frame's), scene (anew at scene cuts) or refresh:N (and every N frames)"
    )


class Statistics:
    """Those of one style; they are first taken in the first frame that shows it.

    At a scene cut they change at once, else little by little, so that no jump is seen.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.reset()

    def reset(self) -> None:
        """Forgets them: the next frame is the first of another stream."""
        self._now: Tensor | None = None
        self._target: Tensor | None = None
        self._left = 0
        self._age = 0
        self._scene = 0

    def due(self, scene: int) -> bool:
        """Tells whether those of this frame are to be taken.

        Args:
            scene: its number from `Scenes`.
        """
        return self._now is None or self._cut(scene) or self._age == self.policy.every

    def take(self, measured: Tensor, scene: int) -> bool:
        """Takes a frame's own, ``(1,S)``; tells whether they count from this frame on."""
        at_once = self._now is None or self._cut(scene)
        if at_once:
            self._now = measured
        self._target, self._left = measured, 0 if at_once else BLEND
        self._age, self._scene = 0, scene
        return at_once

    def step(self) -> Tensor:
        """Returns those to style this frame by, ``(1,S)``; called once a frame, after `take`."""
        assert self._now is not None
        assert self._target is not None
        if self._left:
            self._now = torch.lerp(self._now, self._target, 1 / self._left)
            self._left -= 1
        self._age += 1
        return self._now

    def _cut(self, scene: int) -> bool:
        return self.policy.on_cut and scene != self._scene


class Scenes:
    """Numbers the scenes of a stream, from thumbnails of its frames."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the last frame: the next one is the first of another stream."""
        self._last: NDArray[np.floating] | None = None
        self._number = 0

    @staticmethod
    def thumbnail(image: Tensor) -> Tensor:
        """Returns the first of ``(B,3,H,W)``, grey and small: ``(1,1,*THUMBNAIL)``."""
        few = image[:1, :, ::4, ::4]  # of so few values' means, every fourth pixel is enough
        return F.interpolate(few.mean(1, keepdim=True), THUMBNAIL, mode="area")

    def __call__(self, thumbnail: NDArray[np.floating]) -> int:
        """Returns the number of the scene that the next frame, as a thumbnail, is in."""
        if self._last is not None and np.abs(thumbnail - self._last).mean() > SCENE_CUT:
            self._number += 1
        self._last = thumbnail
        return self._number
