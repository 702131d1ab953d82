"""One run of ``cbs-eval``: builds the plugin, scores it, writes table, JSON and chart."""

import dataclasses
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from cbs_core.choose import registry, weights
from cbs_core.choose.sections import flag, split
from cbs_core.contract.accelerated import Kind
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import InstanceSegmenter
from cbs_core.contract.tensors import to_image
from cbs_core.datasets import labelled
from cbs_core.datasets.photos import find_photos
from cbs_core.evaluation import cost
from cbs_core.evaluation import scores as evaluation
from cbs_core.evaluation.places import chosen, painting, places
from cbs_core.frame.stage import Stage
from cbs_core.machine import device
from cbs_core.machine.files import MARK, marked, replace
from cbs_core.machine.terminal import PlainConsole
from cbs_core.run import settings
from cbs_core.run.accelerate import words_of

VERSIONS = ("class-based-styling", "torch", "numpy")

MOST = {"limit": 10**9, "calls": 10**6, "size": 4096}
"""Pictures, calls that are timed, pixels a side."""

BAR, LABEL, ROW = 420, 150, 20
"""Pixels of a chart: a full bar, the names beside it, a line."""


def evaluate_session(config: Mapping[str, object]) -> int:
    """Evaluates the one plugin that a composed configuration (``conf/eval.yaml``) chooses.

    Returns:
        The exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    for key in ("limit", "calls", "size"):
        _count(config, key)
    kind = chosen(config)
    output, chart = places(config)
    console = PlainConsole(quiet=config.get("quiet") is True)
    place = device.choose(str(config.get("device")))
    dtype = device.dtype(str(config.get("precision")), place.device)
    name, params = split(config[kind], kind)
    plugin = registry.REGISTRIES[kind].create(name, **params)
    files = weights.of(plugin)
    console.print(f"{kind} {name} · weights: {weights.told(files)}", markup=False)
    call = _callable(plugin, f"{kind} '{name}'", kind, config, place.device, dtype)

    def progress(items: Iterable[object]) -> Iterable[object]:
        return track(items, "", console=console, disable=console.quiet, transient=True)

    score = _segmenter if kind == "segmenter" else _styler
    stage = Stage(call, words_of(registry.REGISTRIES[kind], name))
    checked = stage.picture if kind == "styler" else lambda image: stage.scores(stage(image))
    scores, picture = score(plugin, checked, config, place.device, progress)
    costs = cost.measure(plugin, call, picture, calls=_count(config, "calls") or 1)
    facts: dict[str, Any] = {
        "program": f"{MARK.decode()} {version('class-based-styling')}",
        "plugin": f"{kind}/{name}",
        "weights": weights.facts(files),
        "data": {"data": config.get("data"), "split": config.get("split")},
        "scores": scores,
        "cost": dataclasses.asdict(costs),
        "device": {"type": str(place.device), "name": place.name},
        "dtype": device.precision(dtype),
        "versions": {"python": platform.python_version()} | {v: version(v) for v in VERSIONS},
        "config": dict(config),
    }
    text = json.dumps(facts, indent=2).encode()
    over = flag(config, "overwrite", default=False)
    output = replace(output, lambda file: file.write(text), over=over)
    drawn, mark = draw(f"{kind} {name}", scores), marked()
    chart = replace(chart, lambda file: drawn.save(file, format="png", pnginfo=mark), over=over)
    _print(console, scores, costs)
    console.print(f"{output}\n{chart}", markup=False)
    return 0


def _callable(
    plugin: object,
    what: str,
    kind: Kind,
    config: Mapping[str, object],
    place: torch.device,
    dtype: torch.dtype,
) -> Callable[[Tensor], Tensor]:
    """Returns a plugin as `cbs_core.run.workshop` runs it: moved, accelerated, in the precision."""
    if isinstance(plugin, nn.Module):
        plugin.eval().requires_grad_(False).to(place)
    if not callable(plugin):
        raise ConfigError(f"the {what} cannot be called: it needs a __call__(image)")
    if isinstance(plugin, nn.Module) and not isinstance(plugin, InstanceSegmenter):
        fast = settings.accelerator(config)
        accelerator = registry.accelerators.create(fast.name, **fast.params)
        return accelerator(plugin, device=place, dtype=dtype, kind=kind)
    call: Callable[[Tensor], Tensor] = plugin
    return call


def _segmenter(
    plugin: Any,
    call: Callable[[Tensor], Tensor],
    config: Mapping[str, object],
    place: torch.device,
    progress: Callable[[Iterable[object]], Iterable[object]],
) -> tuple[dict[str, Any], Tensor]:
    vocabulary = _text(config, "vocabulary")
    data = labelled.find(str(config["data"]), _text(config, "split"), vocabulary)
    if limit := _count(config, "limit"):
        data = dataclasses.replace(data, pairs=_spread(data.pairs, limit))
    scores = evaluation.score_segmenter(
        call,
        plugin.classes,
        data,
        device=place,
        boundaries=config.get("boundaries") is True,
        progress=progress,
    )
    first = torch.from_numpy(labelled.read_rgb(data.pairs[0].picture))
    return dataclasses.asdict(scores), to_image(first.to(place))


def _styler(
    plugin: Any,
    call: Callable[[Tensor], Tensor],
    config: Mapping[str, object],
    place: torch.device,
    progress: Callable[[Iterable[object]], Iterable[object]],
) -> tuple[dict[str, Any], Tensor]:
    file = painting(config)
    side = _count(config, "size") or 256
    found: Sequence[Path] = find_photos(str(config["data"]), split=_text(config, "split"))
    if limit := _count(config, "limit"):
        found = _spread(found, limit)
    photos = [evaluation.squared(labelled.read_rgb(path), side) for path in found]
    style = evaluation.of_area(labelled.read_rgb(file), side**2)
    losses = registry.losses.create(_text(config, "losses") or "")
    if isinstance(losses, nn.Module):
        losses.eval().to(place)
    scores = evaluation.score_styler(call, losses, style, photos, device=place, progress=progress)
    picture = to_image(torch.from_numpy(photos[0]).to(place))
    return scores.as_dict(), picture


def _spread(items: Sequence[Any], limit: int) -> tuple[Any, ...]:
    """Returns at most ``limit`` items, evenly spread: neighbours are often alike."""
    count = min(limit, len(items))
    return tuple(items[index * len(items) // count] for index in range(count))


def _text(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    return None if value is None else str(value)


def _count(config: Mapping[str, object], key: str) -> int | None:
    value = config.get(key)
    most = MOST[key]
    if value is None or (type(value) is int and 0 < value <= most):
        return value
    raise ConfigError(f"{key}={value} is no whole number in 1..{most}")


def _print(console: Console, scores: Mapping[str, Any], costs: cost.Cost) -> None:
    if "iou" in scores:
        columns = ("iou", "boundary_f", "boundary_iou")
        table = Table("class", "IoU", "boundary F", "boundary IoU", box=None, pad_edge=False)
        for name in scores["iou"]:
            row = (scores[column].get(name) for column in columns)
            table.add_row(name, *("" if value is None else f"{value:.3f}" for value in row))
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
    for name, value in scores.items():
        if isinstance(value, int | float):
            console.print(f"{name.replace('_', ' ')}: {value:.4g}")
    count = "" if costs.parameters is None else f"{costs.parameters:,} parameters · "
    console.print(
        f"{count}{costs.gmac:.2f} GMAC · {costs.fps:.1f} FPS at {costs.width}x{costs.height}"
    )


def draw(title: str, scores: Mapping[str, Any]) -> Image.Image:
    """Returns a bar chart: IoU by class, or a styler's total loss by photograph."""
    bars: Mapping[str, float] = scores.get("iou") or {
        f"photo {index + 1}": total for index, total in enumerate(scores["totals"])
    }
    full = 1.0 if "iou" in scores else max(bars.values()) or 1.0
    what = "IoU" if "iou" in scores else "total loss"
    picture = Image.new("RGB", (LABEL + BAR + 90, ROW * (len(bars) + 2)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    pen.text((8, 6), f"{title}: {what}", (40, 40, 40), font)
    for line, (name, value) in enumerate(bars.items(), 1):
        top = ROW * line + 8
        pen.text((LABEL - 8, top), name, (40, 40, 40), font, anchor="ra")
        pen.rectangle((LABEL, top, LABEL + BAR * value / full, top + ROW - 6), (24, 90, 160))
        pen.text((LABEL + BAR * value / full + 6, top), f"{value:.4g}", (40, 40, 40), font)
    return picture
