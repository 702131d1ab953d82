"""How a style is painted: whole frames, frames with their matte, or windows around the mattes.

All three are a `Styling`: a function of the frame, of where the style shows, and of a memory.

Letters: ``B`` batch, ``R`` a style's routes, ``H W`` the frame, ``h w`` its grid of cells, ``S``
numbers in the statistics.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.errors import PluginContractError
from cbs_core.frame.stage import Recall, Stage
from cbs_core.frame.tiles import Tiles
from cbs_core.frame.windows import CELL, Mask, Planner, Window, batches
from cbs_core.temporal import statistics
from cbs_core.temporal.state import Memory
from cbs_core.temporal.statistics import Statistics
from cbs_core.temporal.wanted import Policy

SIZES = 16
"""Frame sizes whose windows' grids are kept, as many as shapes of nets are."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a style shows in a frame."""

    mattes: Tensor
    """``(B,*,H,W)`` in [0,1], those of all routes."""

    routes: Sequence[int]
    """Which of them are this style's."""

    cells: Mask
    """``(B,h,w)``, whether one of these shows there."""

    scene: int
    """The frame's number from `cbs_core.temporal.scenes`."""

    size: tuple[int, int] | None = None
    """Of the picture that is painted, where it is not the frame's."""

    def matte(self) -> Tensor:
        """Returns the sum of the style's mattes at the size of what is painted, ``(B,1,*,*)``."""
        matte = self.mattes[:, list(self.routes)].sum(1, keepdim=True)
        if self.size is None:
            return matte
        return F.interpolate(matte, self.size, mode="bilinear", antialias=True).clamp_(0, 1)


class Styling(Protocol):
    """One style, ready to be painted."""

    @property
    def what(self) -> str:
        """The plugin in words."""
        ...

    @property
    def tells_scenes_apart(self) -> bool:
        """Whether `Shown.scene` is looked at."""
        ...

    @property
    def recall(self) -> Recall | None:
        """Where the plugin has a state of its own from frame to frame."""
        ...

    @property
    def policy(self) -> Policy | None:
        """When statistics are taken anew; None: they are each frame's own."""
        ...

    def bytes_per_pixel(self, height: int, width: int) -> int:
        """Returns the working memory, by a pixel of a frame of that size."""
        ...

    def prepare(self, image: Tensor) -> None:
        """Builds whatever frames like this ``(B,3,H,W)`` need."""
        ...

    def __call__(self, image: Tensor, shown: Shown, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns the picture restyled, ``(B,3,H,W)`` in [0,1], and what the next one goes on from.

        Args:
            image: ``(B,3,H,W)`` in [0,1].
            shown: where the style shows; elsewhere the picture may stay as it was.
            memory: of the last frame that showed this style.

        Raises:
            PluginContractError: the styler broke its interface.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A `Styler`, which restyles whole pictures."""

    stage: Stage
    tiles: Tiles = field(default_factory=Tiles)
    tells_scenes_apart: bool = False

    @property
    def what(self) -> str:
        """The plugin in words."""
        return self.stage.what

    @property
    def recall(self) -> Recall | None:
        """Where the plugin has a state of its own."""
        return self.stage.recall

    @property
    def policy(self) -> None:
        """Statistics are each frame's own."""
        return None

    def bytes_per_pixel(self, height: int, width: int) -> int:
        """Returns the working memory, whatever the frame's size."""
        return self.stage.bytes_per_pixel

    def prepare(self, image: Tensor) -> None:
        """Builds what frames like this need, in tiles where it must."""
        net = self.stage.call
        if isinstance(net, Accelerated) and tuple(image.shape) not in net.built:
            self.tiles(self.stage, self.what, image)

    def __call__(self, image: Tensor, shown: Shown, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns the picture restyled."""
        self.stage.at(memory)
        out = self.tiles(self.stage.picture, self.what, *self._inputs(image, shown))
        return out, self.stage.memory()

    def _inputs(self, image: Tensor, shown: Shown) -> tuple[Tensor, ...]:
        return (image,)


@dataclass(frozen=True, slots=True)
class WithMatte(Whole):
    """A `MatteStyler`, which is also given where its style shows."""

    def _inputs(self, image: Tensor, shown: Shown) -> tuple[Tensor, ...]:
        return image, shown.matte()


class ByStatistics:
    """A `RegionStyler`, by statistics that outlive a frame: whole frames, or windows of them.

    Args:
        what: the plugin in words.
        dense: ``(B,3,H,W)`` -> the picture restyled, ``(B,S)`` statistics.
        window: ``(B,3,h,w)``, ``(1,S)`` statistics -> the windows restyled.
        policy: when statistics are taken anew.
        masked: whether only windows are restyled.
        halo: as in `RegionStyler`.
        align: as in `RegionStyler`.
        reach: the compositor's.
        bytes_per_pixel: of working memory.
    """

    tells_scenes_apart = True
    recall = None

    def __init__(
        self,
        what: str,
        dense: Accelerated,
        window: Accelerated,
        *,
        policy: Policy,
        masked: bool,
        halo: int,
        align: int,
        reach: int,
        bytes_per_pixel: int = 0,
    ) -> None:
        self.dense = Stage(dense, what)
        self.window = Stage(window, what)
        self._nets = (dense, window)
        self.what = what
        self.masked = masked
        self.policy: Policy = policy
        self._bytes_per_pixel = bytes_per_pixel
        self._lock = threading.Lock()
        self._planning = {"halo": halo, "align": align, "reach": reach}
        self._planners: OrderedDict[tuple[int, int], Planner] = OrderedDict()

    def bytes_per_pixel(self, height: int, width: int) -> int:
        """Returns the working memory, whatever the frame's size."""
        return self._bytes_per_pixel

    def prepare(self, image: Tensor) -> None:
        """Builds what frames like this ``(B,3,H,W)`` need.

        These are both modules for the whole frame, and a window for an object of a quarter of its
        sides; others are built when they are first due.
        """
        dense, window = self._nets
        parts = [image, *(part.outer.of(image[:1]) for part in self._usual(image))]
        if image[:1].shape in dense.built and all(part.shape in window.built for part in parts):
            return
        dense.prepare(image[:1])
        _, measured = dense(image[:1])
        for part in parts:
            window.prepare(part, measured)

    def _usual(self, image: Tensor) -> list[Window]:
        if not self.masked:
            return []
        height, width = image.shape[2:]
        cells = np.zeros((1, *(-(-side // CELL) for side in (height, width))), bool)
        cells[:, : cells.shape[1] // 4 + 1, : cells.shape[2] // 4 + 1] = True
        return self._planner(height, width)(cells)

    def _planner(self, height: int, width: int) -> Planner:
        size = (height, width)
        # The segmenter's thread may prepare a size while another one's is painted.
        with self._lock:
            if size not in self._planners:
                self._planners[size] = Planner(height, width, **self._planning)
                if len(self._planners) > SIZES:
                    self._planners.popitem(last=False)
            self._planners.move_to_end(size)
            return self._planners[size]

    def __call__(self, image: Tensor, shown: Shown, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns the picture restyled, and as it was outside of the windows."""
        before = memory.to(image.device) if isinstance(memory, Statistics) else None
        if statistics.due(self.policy, before, shown.scene):
            styled, measured = self._measured(image)
            before = statistics.taken(self.policy, before, measured, shown.scene)
            if not before.left and len(image) == 1:
                return styled, before.step()
        assert before is not None
        now = before.step()
        if not self.masked:
            return self.window.picture(image, now.now), now
        return self._windows(image, shown.cells, now.now), now

    def _measured(self, image: Tensor) -> tuple[Tensor, Tensor]:
        out = self.dense.run(image[:1])
        parts = out if isinstance(out, tuple) else (out,)
        if len(parts) != 2 or not all(isinstance(one, Tensor) for one in parts):
            raise PluginContractError(
                f"the {self.what} returned {', '.join(type(one).__name__ for one in parts)} of its "
                "dense module where a picture and its statistics, two tensors, are due"
            )
        return self.dense.like(parts[0], image[:1]), parts[1]

    def _windows(self, image: Tensor, cells: Mask, current: Tensor) -> Tensor:
        out = image.clone()
        planner = self._planner(image.shape[2], image.shape[3])
        for group in batches(planner(cells)):
            seen = torch.stack([_outer(image, window) for window in group])
            styled = self.window.picture(seen, current)
            for window, picture in zip(group, styled, strict=True):
                part = window.core.within(window.outer).of(picture)
                window.core.of(out[window.frame]).copy_(part)
        return out


def _outer(image: Tensor, window: Window) -> Tensor:
    return window.outer.of(image[window.frame])
