"""The nets of a scene: one segmenter, and a styler a route whose statistics are frozen.

Letters: ``K`` classes, ``H W`` a view.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import kornia.color
import numpy as np
import torch
from torch import Tensor, nn

from cbs_core.choose import registry, weights
from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.interfaces import (
    InstanceSegmenter,
    RegionStyler,
    Segmenter,
    Styler,
)
from cbs_core.contract.promptable import Promptable
from cbs_core.contract.types import WeightsFile
from cbs_core.frame import routes
from cbs_core.frame.routes import Route
from cbs_core.frame.windows import CELL, Box, Planner
from cbs_core.run.accelerate import words_of
from cbs_core.scene.types import Floats, Mask

MEASURED = 8
"""Views, at most, that a style's statistics are taken from."""


def section(given: object, kind: str) -> tuple[str, dict[str, object]]:
    """Returns the plugin's name and parameters of a part of the configuration.

    Raises:
        ConfigError: it names no plugin.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ConfigError(f"{kind}: no plugin is chosen: say {kind}=NAME")
    params = {str(key): value for key, value in given.items() if key != "name"}
    if kind == "styler":
        # Of `cbs-run` for all stylers; a scene always freezes its statistics.
        params = {k: v for k, v in params.items() if k not in ("where", "statistics")}
    return str(given["name"]), params


@dataclass(slots=True)
class Workshop:
    """Builds the nets, and remembers what they were built from."""

    accelerator: object
    device: torch.device
    dtype: torch.dtype
    tell: Callable[[str], object] = lambda line: None
    """Told of each plugin that is built, and of its weights."""

    weights: dict[str, WeightsFile] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)

    def segmenter(self, given: object, spec: object) -> "Segmenting":
        """Returns the segmenter of a configuration; raises as its plugin does.

        Args:
            given: the configuration's section.
            spec: the routes, whose words one that takes words is given.
        """
        name, params = section(given, "segmenter")
        plugin = registry.segmenters.create(name, **params)
        self._note("segmenter", name, plugin)
        if isinstance(plugin, Promptable):
            # What the scene itself calls its parts is not looked for.
            words = [word for word in routes.words_of(spec) if "/" not in word]
            plugin = registry.guarded(f"the segmenter '{name}'", plugin.prompted, words)
        classes = registry.guarded(f"the segmenter '{name}'", getattr, plugin, "classes", None)
        if not isinstance(classes, tuple | list) or not classes:
            raise PluginContractError(f"the segmenter '{name}' has no `classes`: a tuple is due")
        call = _named(self._call(plugin, "segmenter"), "segmenter", name)
        return Segmenting(tuple(map(str, classes)), call, self.device)

    def styler(self, route: Route) -> "Styling":
        """Returns the styler of a route; raises as its plugin does."""
        plugin = registry.stylers.create(route.styler, **route.params)
        self._note("styler", route.styler, plugin)
        if isinstance(plugin, RegionStyler):
            parts = (plugin.dense_module(), plugin.window_module())
            dense, window = (_named(self._fast(p, "styler"), "styler", route.styler) for p in parts)
            planning = {"halo": plugin.halo, "align": plugin.align}
            return Styling(route, dense, window, self.device, planning)
        call = _named(self._call(plugin, "styler"), "styler", route.styler)
        return Styling(route, None, call, self.device)

    def _note(self, kind: str, name: str, plugin: object) -> None:
        self.plugins.update(registry.origins(f"{kind}/{name}"))
        files = weights.of(plugin)
        self.tell(f"{kind} {name} · weights: {weights.told(files)}")
        self.weights.update({file.sha256: file for file in files})

    def _fast(self, module: nn.Module, kind: str) -> Callable[..., object]:
        name, params = section(self.accelerator, "accelerator")
        accelerator = registry.accelerators.create(name, **params)
        self.plugins.update(registry.origins(f"accelerator/{name}"))
        return registry.guarded(
            f"the {kind} under the accelerator '{name}'",
            accelerator,
            module,
            device=self.device,
            dtype=self.dtype,
            kind="segmenter" if kind == "segmenter" else "styler",
        )

    def _call(self, plugin: Segmenter | Styler, kind: str) -> Callable[..., object]:
        if isinstance(plugin, nn.Module):
            plugin.eval().requires_grad_(False).to(self.device)
            if not isinstance(plugin, InstanceSegmenter):
                return self._fast(plugin, kind)
        return plugin


def _named(call: Callable[..., object], kind: str, name: str) -> Callable[..., object]:
    """Returns a plugin's call, of which what it raises is told by its name."""
    return partial(registry.guarded, f"the {words_of(registry.REGISTRIES[kind], name)}", call)


def _finite(found: Tensor, whose: str) -> None:
    if not bool(found.isfinite().all()):
        raise PluginContractError(
            f"{whose} returned NaN or infinity: its weights or a parameter may be wrong; choose "
            "others, or say precision=fp32"
        )


@dataclass(frozen=True, slots=True)
class Segmenting:
    """A segmenter for views."""

    classes: tuple[str, ...]
    call: Callable[..., object]
    device: torch.device

    def __call__(self, picture: Floats) -> Floats:
        """Returns ``(H,W,K)`` float32 probabilities of a view ``(H,W,3)`` in [0,1]."""
        with torch.inference_mode():
            image = _tensor(picture, self.device)
            logits = self.call(image)
            if not isinstance(logits, Tensor) or logits.ndim != 4:
                raise PluginContractError("the segmenter gave no logits (B,K,h,w)")
            _finite(logits, "the segmenter")
            soft = logits.float().softmax(1)
            soft = nn.functional.interpolate(
                soft, image.shape[2:], mode="bilinear", align_corners=False
            )
            return np.asarray(soft[0].permute(1, 2, 0).cpu().numpy(), dtype=np.float32)


@dataclass(slots=True)
class Styling:
    """A style for all views of a scene, with the same statistics in each."""

    route: Route
    dense: Callable[..., object] | None
    """Gives statistics, of stylers that have them."""

    window: Callable[..., object]
    device: torch.device
    planning: Mapping[str, int] | None = None
    """The halo and the alignment of its windows (`RegionStyler`)."""

    statistics: Tensor | None = None

    @property
    def frozen(self) -> bool:
        """Whether every view is styled with the same statistics."""
        return self.dense is not None

    def measure(self, pictures: Sequence[Floats]) -> None:
        """Takes the mean of the views' statistics; of no view there are none.

        Of many views `MEASURED` are taken, evenly: more would move the mean by next to nothing.
        """
        if self.dense is None or not pictures:
            return
        count = min(MEASURED, len(pictures))
        found = []
        with torch.inference_mode():
            for i in range(count):
                picture = pictures[i * len(pictures) // count]
                out = self.dense(_tensor(picture, self.device))
                if not isinstance(out, tuple) or len(out) != 2:
                    raise PluginContractError(
                        f"the styler '{self.route.styler}' gave no statistics beside its picture"
                    )
                found.append(out[1].float())
        self.statistics = torch.stack(found).mean(0)

    def __call__(
        self, picture: Floats, ground: Floats | None = None, shows: Mask | None = None
    ) -> Floats:
        """Returns a view ``(H,W,3)`` in [0,1] restyled, with the route's strength and colours.

        Args:
            picture: what the styler sees.
            ground: what a strength below 1 leaves, and whose colours are kept; None is the same.
            shows: ``(H,W)``, what is needed: elsewhere a result may be the ground; None is all.
        """
        whole = picture if ground is None else ground
        if shows is None or self.planning is None or self.statistics is None:
            return self._styled(picture, whole)
        out = np.array(whole, dtype=np.float32)
        for window in Planner(*shows.shape, **self.planning)(_cells(shows)[None]):
            part, core = _slices(window.outer), _slices(window.core.within(window.outer))
            out[_slices(window.core)] = self._styled(picture[part], whole[part])[core]
        return out

    def _styled(self, picture: Floats, ground: Floats) -> Floats:
        with torch.inference_mode():
            image = _tensor(picture, self.device)
            more = () if self.statistics is None else (self.statistics,)
            styled = self.window(image, *more)
            if not isinstance(styled, Tensor) or styled.shape != image.shape:
                raise PluginContractError(
                    f"the styler '{self.route.styler}' gave another size than the view's"
                )
            _finite(styled, f"the styler '{self.route.styler}'")
            styled = styled.float()
            below = _tensor(ground, self.device)
            if self.route.keep_color:
                light = kornia.color.rgb_to_ycbcr(styled)[:, :1]
                chroma = kornia.color.rgb_to_ycbcr(below)[:, 1:]
                styled = kornia.color.ycbcr_to_rgb(torch.cat([light, chroma], 1))
            styled = torch.lerp(below, styled, self.route.strength).clamp(0, 1)
            return np.asarray(styled[0].permute(1, 2, 0).cpu().numpy(), dtype=np.float32)


def _cells(shows: Mask) -> Mask:
    """Returns which cells of `CELL` pixels a side hold something."""
    below, beside = (-side % CELL for side in shows.shape)
    padded = np.pad(shows, ((0, below), (0, beside)))
    height, width = padded.shape
    return np.asarray(padded.reshape(height // CELL, CELL, width // CELL, CELL).any((1, 3)))


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)


def _tensor(picture: Floats, device: torch.device) -> Tensor:
    array = np.ascontiguousarray(picture, dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None].to(device)


def summary(workshop: Workshop) -> Mapping[str, object]:
    """Returns plugins and weights for the report."""
    return {
        "plugins": dict(sorted(workshop.plugins.items())),
        "weights": weights.facts(workshop.weights.values()),
    }
