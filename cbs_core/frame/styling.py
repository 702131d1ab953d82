"""Restyling only where a style shows, and by statistics that outlive a frame.

Letters: ``B`` batch, ``H W`` the frame, ``h w`` its grid of cells, ``S`` numbers in the statistics.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.frame.windows import CELL, Mask, Planner, batches
from cbs_core.temporal import statistics
from cbs_core.temporal.statistics import Policy, Statistics

WHERE = ("frame", "mask")


@dataclass(frozen=True, slots=True)
class Choice:
    """``styler.where`` and ``styler.statistics`` of the configuration."""

    masked: bool
    """Whether only windows around the mattes are restyled."""

    policy: Policy | None
    """When statistics are taken anew; None: they are each frame's own."""


WHOLE = Choice(masked=False, policy=None)
"""Each frame whole, by its own statistics: what a styler is without any of this."""


def parse(where: object, spec: object) -> Choice:
    """Reads ``styler.where`` and ``styler.statistics``; null is ``frame``, and then what fits.

    Raises:
        ConfigError: an unknown value, or two that do not go together.
    """
    text = "frame" if where is None else str(where)
    if text not in WHERE:
        raise ConfigError(
            f"styler.where={text} is neither frame nor mask{closest(text, WHERE)}: mask restyles "
            "only where the classes are"
        )
    masked = text == "mask"
    policy = statistics.parse(("scene" if masked else "frame") if spec is None else spec)
    if masked and policy is None:
        raise ConfigError(
            "styler.statistics=frame takes the whole picture each frame, so that "
            "styler.where=mask would save nothing: say styler.statistics=scene, refresh:N or frozen"
        )
    return Choice(masked, policy)


class RegionStyling:
    """A `RegionStyler` in a stream: `Pipeline` runs it in the styler's place.

    Args:
        dense: ``(B,3,H,W)`` -> the picture restyled, ``(B,S)`` statistics.
        window: ``(B,3,h,w)``, ``(1,S)`` statistics -> the windows restyled.
        policy: when statistics are taken anew.
        masked: whether only windows are restyled.
        halo: as in `RegionStyler`.
        align: as in `RegionStyler`.
        reach: the compositor's.
    """

    def __init__(
        self,
        dense: Accelerated,
        window: Accelerated,
        *,
        policy: Policy,
        masked: bool,
        halo: int,
        align: int,
        reach: int,
    ) -> None:
        self.dense = dense
        self.window = window
        self.masked = masked
        self.statistics = Statistics(policy)
        self._planning = {"halo": halo, "align": align, "reach": reach}
        self._planners: dict[tuple[int, int], Planner] = {}

    def reset(self) -> None:
        """Forgets the statistics: the next frame is the first of another stream."""
        self.statistics.reset()

    def prepare(self, image: Tensor) -> None:
        """Builds what frames like this ``(B,3,H,W)`` need, so that none has to wait for it.

        These are both modules for the whole frame, and a window for an object of a quarter of its
        sides; others are built when they are first due.
        """
        self.dense.prepare(image[:1])
        _, measured = self.dense(image[:1])
        self.window.prepare(image, measured)
        if self.masked:
            height, width = image.shape[2:]
            cells = np.zeros((1, *(-(-side // CELL) for side in (height, width))), bool)
            cells[:, : cells.shape[1] // 4 + 1, : cells.shape[2] // 4 + 1] = True
            for window in self._planner(height, width)(cells):
                self.window.prepare(window.outer.of(image[:1]), measured)

    def _planner(self, height: int, width: int) -> Planner:
        size = (height, width)
        if size not in self._planners:
            self._planners[size] = Planner(height, width, **self._planning)
        return self._planners[size]

    def __call__(self, image: Tensor, cells: Mask, scene: int) -> Tensor:
        """Returns the picture restyled, and as it was outside of the windows.

        Args:
            image: ``(B,3,H,W)`` in [0,1].
            cells: ``(B,h,w)``, where the style shows.
            scene: the frame's number from `cbs_core.temporal.statistics.Scenes`.
        """
        if self.statistics.due(scene):
            styled, measured = self.dense(image[:1])
            if self.statistics.take(measured, scene) and len(image) == 1:
                self.statistics.step()
                out: Tensor = styled
                return out
        current = self.statistics.step()
        if not self.masked:
            out = self.window(image, current)
            return out
        return self._windows(image, cells, current)

    def _windows(self, image: Tensor, cells: Mask, current: Tensor) -> Tensor:
        out = image.clone()
        built = self.window.built
        planner = self._planner(image.shape[2], image.shape[3])
        for group in batches(planner(cells, built), built):
            styled = self.window(torch.stack([w.outer.of(image[w.frame]) for w in group]), current)
            for window, picture in zip(group, styled, strict=True):
                part = window.core.within(window.outer).of(picture)
                window.core.of(out[window.frame]).copy_(part)
        return out
