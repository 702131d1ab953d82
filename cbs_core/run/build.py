"""From a configuration to plugins and a pipeline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cbs_core.accelerators.eager import Eager
from cbs_core.choose import registry
from cbs_core.choose.registry import Registry
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.interfaces import (
    HasMemory,
    HasWeights,
    InstanceSegmenter,
    MatteStyler,
    RegionStyler,
    Resettable,
    Segmenter,
)
from cbs_core.contract.types import WeightsFile
from cbs_core.frame import routes, styling
from cbs_core.frame.mattes import Regions, parse_size
from cbs_core.frame.pipeline import Pipeline, Stage
from cbs_core.frame.routes import Route
from cbs_core.frame.styling import WHOLE, Choice, RegionStyling
from cbs_core.temporal import carrying as propagation
from cbs_core.temporal import objects

T = TypeVar("T")

Section = Mapping[str, object]
"""One kind's part of the configuration: ``name`` and the constructor's parameters."""


@dataclass(frozen=True, slots=True)
class Built:
    """A pipeline and what it was built from, for the report."""

    pipeline: Pipeline
    classes: tuple[str, ...]
    routes: tuple[Route, ...]
    weights: tuple[WeightsFile, ...]
    plugins: dict[str, str]
    """``kind/name`` -> distribution."""

    accelerated: tuple[tuple[str, Accelerated], ...] = ()
    """The plugin in words and the module, of each that an accelerator runs."""


def split(section: object, kind: str) -> tuple[str, dict[str, object]]:
    """Returns the plugin's name and parameters of a section.

    Raises:
        ConfigError: the section is no mapping with a ``name``.
    """
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise ConfigError(f"{kind}: no plugin is chosen: say {kind}=NAME")
    params = {str(key): value for key, value in section.items() if key != "name"}
    return str(section["name"]), params


def pipeline(config: Mapping[str, object], *, device: torch.device, dtype: torch.dtype) -> Built:
    """Builds the pipeline that a composed configuration describes.

    Args:
        config: with ``segmenter``, ``styler``, ``compositor``, ``accelerator``, ``routes``,
            ``matte``, ``segment_size``, ``segment_every`` and ``select``, as in
            ``conf/config.yaml``; ``where`` and ``statistics`` of the section ``styler`` are for all
            stylers, and not given to their constructors.
        device: where it runs.
        dtype: the coarsest that the nets compute in; the picture itself stays float32.

    Raises:
        CbsError: a plugin cannot be had, or the configuration is wrong.
    """
    wanted = objects.parse(config.get("select"))
    segment_size = parse_size(config.get("segment_size"))
    segment_every = propagation.parse(config.get("segment_every", 1))
    name, params = split(config.get("accelerator"), "accelerator")
    accelerator = registry.accelerators.create(name, **params)
    accelerator_words = _words(registry.accelerators, name)
    used = registry.origins(f"accelerator/{name}")
    weights: dict[str, WeightsFile] = {}
    stateful: list[Resettable] = []
    accelerated: list[tuple[str, Accelerated]] = []

    def accelerate(module: nn.Module, words: str, kind: Kind) -> Accelerated:
        what = f"the {words} under the {accelerator_words}"
        fast = registry.guarded(what, accelerator, module, device=device, dtype=dtype, kind=kind)
        accelerated.append((words, fast))
        return fast

    def stage(plugins: Registry[Any], name: str, plugin: object, made: Choice = WHOLE) -> Stage:
        used.update(registry.origins(f"{plugins.kind}/{name}"))
        if isinstance(plugin, HasWeights):
            weights.update({file.sha256: file for file in plugin.weights_files})
        if isinstance(plugin, Resettable):
            stateful.append(plugin)
        words = _words(plugins, name)
        if made.policy is None:
            kind: Kind = "segmenter" if plugins is registry.segmenters else "styler"
            return _stage(words, plugin, kind, accelerate, device, dtype)
        region = _region(words, plugin, made, reach or 0, accelerate)
        stateful.append(region)
        return Stage(region, words, _cost(plugin, dtype), takes_cells=True)

    segmenter_name, params = split(config.get("segmenter"), "segmenter")
    segmenter = registry.segmenters.create(segmenter_name, **params)
    classes = _classes(segmenter, segmenter_name)

    compositor_name, params = split(config.get("compositor"), "compositor")
    compositor = registry.compositors.create(compositor_name, **params)
    compositor_words = _words(registry.compositors, compositor_name)
    if isinstance(compositor, nn.Module):
        # Blending stays float32 on purpose: bfloat16 would shift the untouched background.
        compositor.eval().to(device)
    used |= registry.origins(f"compositor/{compositor_name}")

    styler, params = split(config.get("styler"), "styler")
    choice = styling.parse(params.pop("where", None), params.pop("statistics", None))
    reach = getattr(compositor, "reach", None)
    if choice.masked and reach is None:
        raise ConfigError(
            f"the {compositor_words} does not say how far from the matte it shows the style "
            "(`reach`): say styler.where=frame"
        )
    chosen = routes.parse(config.get("routes"), classes=classes, styler=styler, params=params)
    stylers = {
        route.style: stage(
            registry.stylers,
            route.styler,
            registry.stylers.create(route.styler, **route.params),
            choice,
        )
        for route in {route.style: route for route in chosen}.values()
    }

    segmenter_stage = stage(registry.segmenters, segmenter_name, segmenter)
    mode = str(config.get("matte"))
    selection, detector = None, None
    if wanted is not None:
        route_of = [_route_of(name, chosen) for name in classes]
        selection = objects.Selection(wanted, route_of, soft=mode == "soft")
        if isinstance(segmenter, InstanceSegmenter):
            detector = Stage(_autocast(segmenter.instances, device, dtype), segmenter_stage.what)

    built = Pipeline(
        segmenter=segmenter_stage,
        stylers=stylers,
        compositor=Stage(compositor, compositor_words),
        regions=Regions(classes, [route.classes for route in chosen], mode),
        routes=chosen,
        device=device,
        detector=detector,
        selection=selection,
        stateful=stateful,
        segment_size=segment_size,
        segment_every=segment_every,
    )
    return Built(built, classes, chosen, tuple(weights.values()), used, tuple(accelerated))


def _words(plugins: Registry[Any], name: str) -> str:
    return f"{plugins.kind} '{name}' of {plugins.origin(name)}"


def _classes(segmenter: Segmenter, name: str) -> tuple[str, ...]:
    classes = getattr(segmenter, "classes", None)
    if not isinstance(classes, tuple | list) or not classes:
        raise PluginContractError(
            f"the {_words(registry.segmenters, name)} has no `classes`: a tuple of names is due"
        )
    return tuple(map(str, classes))


def _route_of(name: str, chosen: Sequence[Route]) -> int:
    """Returns the index of the first route with this class, or -1."""
    return next((index for index, route in enumerate(chosen) if name in route.classes), -1)


def _autocast(
    call: Callable[[Tensor], T], device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], T]:
    """Wraps a detector, whose box arithmetic has no kernels in half precision."""

    def run(image: Tensor) -> T:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return call(image)

    return run


def _stage(
    words: str,
    plugin: object,
    kind: Kind,
    accelerate: Callable[[nn.Module, str, Kind], Accelerated],
    device: torch.device,
    dtype: torch.dtype,
) -> Stage:
    if not callable(plugin):
        raise PluginContractError(f"the {words} cannot be called: it needs a __call__(image)")
    call: Callable[..., Tensor] = plugin
    cost = _cost(plugin, torch.float32)
    if isinstance(plugin, nn.Module):
        plugin.eval().requires_grad_(False).to(device)
    if isinstance(plugin, MatteStyler):
        call = plugin.style_matte
    elif isinstance(plugin, InstanceSegmenter):
        call = _autocast(plugin, device, dtype)
    elif isinstance(plugin, nn.Module):
        call = accelerate(plugin, words, kind)
        if isinstance(call, Eager):  # the others run it once in float32, for which it is stated
            cost = _cost(plugin, dtype)
    return Stage(call, words, cost, isinstance(plugin, MatteStyler))


def _region(
    words: str,
    plugin: object,
    made: Choice,
    reach: int,
    accelerate: Callable[[nn.Module, str, Kind], Accelerated],
) -> RegionStyling:
    if not isinstance(plugin, RegionStyler):
        value = "where=mask" if made.masked else "statistics"
        raise ConfigError(
            f"the {words} restyles whole pictures, each by itself, and knows no styler.{value}: "
            "say styler.where=frame and styler.statistics=frame, or choose another styler"
        )
    assert made.policy is not None
    return RegionStyling(
        accelerate(plugin.dense_module(), words, "styler"),
        accelerate(plugin.window_module(), words, "styler"),
        policy=made.policy,
        masked=made.masked,
        halo=plugin.halo,
        align=plugin.align,
        reach=reach,
    )


def _cost(plugin: object, dtype: torch.dtype) -> int:
    """Returns the bytes a pixel, which plugins state for float32."""
    return plugin.bytes_per_pixel * dtype.itemsize // 4 if isinstance(plugin, HasMemory) else 0
