"""What is done with each frame of a stream, as one value that travels with the frame."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import WeightsFile
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.sizes import Scale, size_of
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import Styling
from cbs_core.frame.tiles import Tiles
from cbs_core.temporal.objects import Selection
from cbs_core.temporal.wanted import check_inside


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What a plan was built from, for reports."""

    weights: tuple[WeightsFile, ...] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)
    """``kind/name`` -> distribution."""

    accelerated: tuple[tuple[str, Accelerated], ...] = ()
    """The plugin in words and the module, of each that an accelerator runs."""


class Builder(Protocol):
    """Builds a plan like another one."""

    def rerouted(self, plan: "Plan", word: str, value: object) -> "Plan":
        """See `Plan.with_route`."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plan:
    """Everything that a frame needs, built; never changed, so that two threads may share it."""

    segmenter: Stage
    """``(B,3,H,W)`` -> ``(B,K,h,w)`` logits."""

    stylings: Mapping[str, Styling]
    """By `Route.style`."""

    compositor: Stage
    """See `cbs_core.contract.interfaces.Compositor`."""

    regions: Regions
    """Logits to mattes; its routes are `routes`, in order."""

    routes: tuple[Route, ...]
    """Which classes get which style."""

    device: torch.device
    """Where it all runs."""

    classes: tuple[str, ...] = ()
    """The segmenter's, in channel order."""

    detector: Stage | None = None
    """An `InstanceSegmenter`'s ``instances``, run in the place of `segmenter` where one object is
    selected; or a `PointSegmenter`'s ``instances_at``, which is given `told` too."""

    selection: Selection | None = None
    """Which object is restyled; None is all."""

    segment_size: Scale = None
    """Of the picture that the segmenter is given."""

    segment_every: int = 1
    """N: the segmenter is run on every Nth frame, and in between its scores go along with the
    motion (`cbs_core.temporal.carrying`)."""

    steady: str = "off"
    """One of `cbs_core.temporal.wanted.STEADY`: what is held from frame to frame."""

    lookahead: int = 0
    """Frames after each one that its mattes go by too (`cbs_core.temporal.lookahead`)."""

    facts: Facts = field(default_factory=Facts)

    tiles: Tiles = field(default_factory=Tiles)
    """How the segmenter fits into the device's memory."""

    builder: Builder | None = field(default=None, repr=False)
    """What built it, for plans like it."""

    def with_route(self, word: str, style: str, **more: object) -> "Plan":
        """Returns a plan that gives a class another style; builds that style, if it is not yet.

        Args:
            word: a class of the segmenter, an alias or a group, as in ``routes``.
            style: the style's name, or ``none`` to leave the class as it is.
            more: ``strength``, ``keep_color``, ``styler`` and that styler's parameters.

        Raises:
            CbsError: there is no such class or style.
        """
        if self.builder is None:
            raise ConfigError("this plan was put together by hand: build another")
        return self.builder.rerouted(self, word, {"style": style, **more} if more else style)

    @property
    def scored_by(self) -> str:
        """Names what the scores come from: those of another plan with the same can be kept."""
        scored = f"{self.segmenter.what} at {self.segment_size}: {', '.join(self.classes)}"
        if self.regions.confidence == 0.5:
            return scored
        # Then which classes are on a route counts, too.
        routed = "; ".join(", ".join(route.classes) for route in self.routes)
        return f"{scored}: {self.regions.confidence} of {routed}"

    @property
    def believed_by(self) -> str:
        """Names what is believed of the scores."""
        return f"{self.scored_by}: {'; '.join(', '.join(one.classes) for one in self.routes)}"

    def told(self, height: int, width: int) -> tuple[tuple[float, float], ...]:
        """Returns what `detector` is told beside a frame of a size: the selected point, or nothing.

        Raises:
            ConfigError: the point is outside the frame.
        """
        chosen = self.selection
        if chosen is None or not chosen.alone or not isinstance(chosen.wanted, tuple):
            return ()
        check_inside(chosen.wanted, height, width)
        x, y = chosen.wanted
        return (((x + 0.5) / width, (y + 0.5) / height),)

    def bytes_per_pixel(self, height: int, width: int) -> int:
        """Returns the working memory at its peak on the host, by a pixel of a frame of that size.

        A GPU says when it is full, and `Tiles` make do; on the host the process is killed.
        """
        mattes = 2 * 4 * self.regions.weights.shape[1]
        pictures = 3 if self.steady == "full" else 1  # of a style: what is held of it, too
        own = 3 * 4 * (2 + pictures * len(self.stylings)) + 4 * len(self.routes)
        own += 3 * self.lookahead
        if self.device.type == "cuda":
            return own + mattes
        share = math.prod(size_of(self.segment_size, height, width)) / (height * width)
        segmenter = math.ceil(self.segmenter.bytes_per_pixel * min(1.0, share))
        styles = (one.bytes_per_pixel(height, width) for one in self.stylings.values())
        return own + max(mattes, segmenter, *styles)

    def routes_of(self, style: str) -> list[int]:
        """Returns the indices of the routes that have a style."""
        return [index for index, route in enumerate(self.routes) if route.style == style]
