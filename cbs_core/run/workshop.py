"""Where plans are built: it outlives a run, keeps what it built, and builds beside one.

A plan that has parts in common with an earlier one shares them, so that another strength is had at
once and another style costs that style's net alone.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cbs_core.accelerators.eager import Eager
from cbs_core.choose import registry, weights
from cbs_core.choose.sections import Choice
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.interfaces import (
    HasMemory,
    HasReach,
    InstanceSegmenter,
    MatteStyler,
    RegionStyler,
    Resettable,
    Segmenter,
)
from cbs_core.contract.promptable import PointSegmenter, Promptable
from cbs_core.contract.types import WeightsFile
from cbs_core.frame import pipeline, routes
from cbs_core.frame.mattes import Regions
from cbs_core.frame.plan import Facts, Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Recall, Stage
from cbs_core.frame.styling import ByStatistics, Styling, Whole, WithMatte
from cbs_core.frame.wanted import Extent, lasting
from cbs_core.machine import device as devices
from cbs_core.machine.background import stand_back
from cbs_core.run import selecting, settings, sizing
from cbs_core.run.accelerate import Accelerate, words_of
from cbs_core.run.settings import Look

T = TypeVar("T")

KEPT = 16
"""Parts that are kept ready, the least recently used given up first."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A plugin as plans use it, and what it was built from."""

    plugin: Any
    """The plugin itself."""

    stage: Any
    """A `Stage`, or a styler's `Styling`."""

    facts: Facts = field(default_factory=Facts)


class Workshop:
    """Builds plans; several threads may use it.

    Args:
        device: where they run.
        dtype: the coarsest that their nets compute in; the picture itself stays float32.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._kept = KEPT
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._lock = threading.RLock()
        self._ordering = threading.Lock()  # who orders a plan does not wait for those being built
        self._thread: ThreadPoolExecutor | None = None

    @classmethod
    def on(cls, device: str = "auto", precision: str = "auto") -> "Workshop":
        """Returns one for a device and a precision in words, as in the configuration.

        Raises:
            CbsError: there is none such.
        """
        chosen = devices.choose(device).device
        return cls(chosen, devices.dtype(precision, chosen))

    def plan(self, look: Look, classes: tuple[str, ...] | None = None) -> Plan:
        """Builds a plan.

        Args:
            look: what it is to look like.
            classes: where the scores come from elsewhere, such as a labelled set, the names of
                theirs; no segmenter is built then.

        Raises:
            CbsError: a plugin cannot be had, or the configuration is wrong.
        """
        with self._lock:
            return self._plan(look, classes)

    def order(self, look: Look, image: Tensor | None = None) -> "Future[Plan]":
        """Builds a plan in a thread of the workshop that stands back, one after the other.

        Args:
            look: what it is to look like.
            image: a frame ``(B,3,H,W)``; the nets are built for frames like it too, so that none
                has to be built when the plan is taken.
        """

        def build() -> Plan:
            plan = self.plan(look)
            if image is not None:
                pipeline.prepare(image, plan)
            return plan

        with self._ordering:
            if self._thread is None:
                start = partial(stand_back, builds=True)
                self._thread = ThreadPoolExecutor(1, "cbs-workshop", initializer=start)
            return self._thread.submit(build)

    def keep(self, parts: int) -> None:
        """Keeps so many parts ready where that is more than usual."""
        self._kept = max(KEPT, parts)

    def close(self) -> None:
        """Ends its thread, after the plan that is being built; may be called again."""
        with self._ordering:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(cancel_futures=True)

    def _plan(self, look: Look, told: tuple[str, ...] | None = None) -> Plan:
        name = look.segmenter.name
        segmenter = self._segmenter_for(look) if told is None else Part(None, _UNASKED)
        classes = told or _classes(segmenter.plugin, name)
        compositor = self._part("compositor", look.compositor, None, self._compositor)
        reach = compositor.plugin.reach if isinstance(compositor.plugin, HasReach) else None
        if look.extent.masked and reach is None:
            raise ConfigError(
                f"the {compositor.stage.what} does not say how far from the matte it shows the "
                "style (`reach`): say styler.where=frame"
            )
        chosen = _routes(look, classes)

        def extent(styler: object) -> Extent:
            held = look.steady == "full" and isinstance(styler, RegionStyler)
            return lasting(look.extent) if held else look.extent

        stylings = {
            route.style: self._part(
                "styler",
                Choice(route.styler, route.params),
                look.accelerator,
                lambda plugin, words, accelerate: self._styling(
                    plugin, words, accelerate, extent(plugin), reach or 0
                ),
                suffix=f"{look.extent} {look.steady == 'full'} {reach}",
            )
            for route in chosen
        }
        detect = selecting.detection(segmenter.plugin, segmenter.stage.what, look)
        return Plan(
            segmenter=segmenter.stage,
            stylings={
                style: sizing.sized(look.style_size, part.plugin, part.stage)
                for style, part in stylings.items()
            },
            compositor=compositor.stage,
            regions=Regions(
                classes, [route.classes for route in chosen], look.matte, look.confidence
            ).to(self.device),
            routes=chosen,
            device=self.device,
            classes=classes,
            detector=detect and Stage(self._autocast(detect), segmenter.stage.what),
            selection=selecting.selection(look, chosen, classes, segmenter.plugin),
            segment_size=sizing.scale(look.segment_size, segmenter.plugin, segmenter.stage.what),
            segment_every=look.segment_every,
            steady=look.steady or "off",
            lookahead=look.lookahead,
            facts=_together(look, [segmenter, compositor, *stylings.values()]),
            builder=_Builder(self, look, told),
        )

    def _part(
        self,
        kind: str,
        choice: Choice,
        accelerator: Choice | None,
        make: Callable[[Any, str, Accelerate], Any],
        *,
        suffix: str = "",
        create: Callable[[], Any] | None = None,
    ) -> Part:
        """Returns a plugin ready for use, that of an earlier plan where it is the same."""
        key = f"{kind}/{choice.key} {accelerator.key if accelerator else ''} {suffix}"
        if key not in self._parts:
            plugins = registry.REGISTRIES[kind]
            plugin = create() if create else plugins.create(choice.name, **choice.params)
            words = words_of(plugins, choice.name)
            accelerate = Accelerate(accelerator, self.device, self.dtype)
            self._parts[key] = Part(
                plugin,
                registry.guarded(f"the {words}", make, plugin, words, accelerate),
                Facts(
                    weights.of(plugin),
                    registry.origins(f"{kind}/{choice.name}"),
                    tuple(accelerate.made),
                ),
            )
            if len(self._parts) > self._kept:
                self._parts.popitem(last=False)
        self._parts.move_to_end(key)
        return self._parts[key]

    def _segmenter_for(self, look: Look) -> Part:
        """Returns the segmenter; one that takes words is given those of the routes."""
        choice, accelerator = look.segmenter, look.accelerator

        def unless_promptable(plugin: Any, *rest: Any) -> Stage | None:
            return None if isinstance(plugin, Promptable) else self._segmenter(plugin, *rest)

        part = self._part("segmenter", choice, accelerator, unless_promptable)
        if not isinstance(part.plugin, Promptable):
            return part
        asked = routes.words_of(look.routes)
        what, prompted = words_of(registry.segmenters, choice.name), part.plugin.prompted
        return self._part(
            "segmenter",
            choice,
            accelerator,
            self._segmenter,
            suffix=f"{asked}",
            create=lambda: registry.guarded(f"the {what}", prompted, asked),
        )

    def _segmenter(self, plugin: Any, words: str, accelerate: Accelerate) -> Stage:
        if isinstance(plugin, PointSegmenter):  # nothing but its `instances_at` is ever run
            if isinstance(plugin, nn.Module):
                plugin.eval().requires_grad_(False).to(self.device)
            return Stage(_unasked, words, _cost(plugin, torch.float32), _recall(plugin, words))
        return self._stage(plugin, words, "segmenter", accelerate)

    def _compositor(self, plugin: Any, words: str, accelerate: Accelerate) -> Stage:
        if isinstance(plugin, nn.Module):
            # Blending stays float32 on purpose: bfloat16 would shift the untouched background.
            plugin.eval().to(self.device)
        return Stage(plugin, words, recall=_recall(plugin, words))

    def _styling(
        self, plugin: Any, words: str, accelerate: Accelerate, extent: Extent, reach: int
    ) -> Styling:
        if extent.policy is None:
            stage = self._stage(plugin, words, "styler", accelerate)
            return WithMatte(stage) if isinstance(plugin, MatteStyler) else Whole(stage)
        if not isinstance(plugin, RegionStyler):
            value = "where=mask" if extent.masked else "statistics"
            raise ConfigError(
                f"the {words} restyles whole pictures, each by itself, and knows no "
                f"styler.{value}: say styler.where=frame and styler.statistics=frame, or choose "
                "another styler"
            )
        return ByStatistics(
            words,
            accelerate(plugin.dense_module(), words, "styler"),
            accelerate(plugin.window_module(), words, "styler"),
            policy=extent.policy,
            masked=extent.masked,
            halo=plugin.halo,
            align=plugin.align,
            reach=reach,
            bytes_per_pixel=_cost(plugin, self.dtype),
        )

    def _stage(self, plugin: Any, words: str, kind: Kind, accelerate: Accelerate) -> Stage:
        if not callable(plugin):
            raise PluginContractError(f"the {words} cannot be called: it needs a __call__(image)")
        call: Callable[..., Tensor] = plugin
        cost = _cost(plugin, torch.float32)
        if isinstance(plugin, nn.Module):
            plugin.eval().requires_grad_(False).to(self.device)
        if isinstance(plugin, MatteStyler):
            call = plugin.style_matte
        elif isinstance(plugin, InstanceSegmenter):
            call = self._autocast(plugin)
        elif isinstance(plugin, nn.Module):
            call = accelerate(plugin, words, kind)
            if isinstance(call, Eager):  # others run it once in float32, for which it is stated
                cost = _cost(plugin, self.dtype)
        return Stage(call, words, cost, _recall(plugin, words))

    def _autocast(self, call: Callable[..., T]) -> Callable[..., T]:
        """Wraps a detector, whose box arithmetic has no kernels in half precision."""

        def run(*given: object) -> T:
            half = self.dtype != torch.float32
            with torch.autocast(self.device.type, self.dtype, enabled=half):
                return call(*given)

        return run


def _unasked(image: Tensor) -> Tensor:
    raise PluginContractError("this plan has no segmenter: its scores come from elsewhere")


_UNASKED = Stage(_unasked, "labels")


def plan(config: Mapping[str, object], *, device: torch.device, dtype: torch.dtype) -> Plan:
    """Builds the plan that a composed configuration (``conf/config.yaml``) describes.

    Raises:
        CbsError: a plugin cannot be had, or the configuration is wrong.
    """
    return Workshop(device, dtype).plan(settings.look(config))


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds a plan like another one (`cbs_core.frame.plan.Builder`)."""

    workshop: Workshop
    look: Look
    told: tuple[str, ...] | None

    def rerouted(self, plan: Plan, word: str, value: object) -> Plan:
        """See `Plan.with_route`."""
        styler = self.look.styler
        changed = routes.rerouted(
            plan.routes,
            word,
            value,
            classes=plan.classes,
            styler=styler.name,
            params=styler.params,
        )
        return self.workshop.plan(self.look.with_routes(changed), self.told)


def _routes(look: Look, classes: Sequence[str]) -> tuple[Route, ...]:
    spec = look.routes
    if isinstance(spec, tuple) and all(isinstance(one, Route) for one in spec):
        return spec
    styler, params = look.styler.name, look.styler.params
    return routes.parse(spec, classes=classes, styler=styler, params=params)


def _together(look: Look, parts: Sequence[Part]) -> Facts:
    files: dict[str, WeightsFile] = {}
    plugins = registry.origins(f"accelerator/{look.accelerator.name}")
    made: list[tuple[str, Accelerated]] = []
    for part in parts:
        files.update({file.sha256: file for file in part.facts.weights})
        plugins.update(part.facts.plugins)
        made.extend(part.facts.accelerated)
    return Facts(tuple(files.values()), plugins, tuple(made))


def _classes(segmenter: Segmenter, name: str) -> tuple[str, ...]:
    words = words_of(registry.segmenters, name)
    classes = registry.guarded(f"the {words}", getattr, segmenter, "classes", None)
    if not isinstance(classes, tuple | list) or not classes:
        raise PluginContractError(f"the {words} has no `classes`: a tuple of names is due")
    return tuple(map(str, classes))


def _recall(plugin: object, words: str) -> Recall | None:
    return Recall(plugin, words) if isinstance(plugin, Resettable) else None


def _cost(plugin: object, dtype: torch.dtype) -> int:
    """Returns the bytes a pixel, which plugins state for float32."""
    return plugin.bytes_per_pixel * dtype.itemsize // 4 if isinstance(plugin, HasMemory) else 0
