"""What a run says of itself: ``report.json``, ``sheet.png`` and a short table."""

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.pipeline import Result
from cbs_core.machine.device import Device, precision
from cbs_core.machine.files import replace
from cbs_core.machine.meter import Meter
from cbs_core.run.build import Built
from cbs_core.run.sheet import Sheet

VERSIONS = ("class-based-styling", "torch", "kornia", "av", "pillow", "numpy", "hydra-core")

VISIBLE = 0.01
"""An overlap below this part is not worth a line."""

ADVICE = ", but the output itself is done: mend that place, or say report=null sheet=null"


class Watch:
    """Sees every frame's result: counts in how many a route's classes were found.

    Args:
        built: whose routes are counted.
        sheet: given the same frames.
    """

    def __init__(self, built: Built, sheet: Sheet) -> None:
        self.sheet = sheet
        self.presence = {"+".join(route.classes): 0 for route in built.routes}

    def __call__(self, raw: RawFrame, result: Result) -> None:
        """Takes a frame and what the pipeline made of it."""
        for name, shown in zip(self.presence, result.shown, strict=True):
            self.presence[name] += shown
        self.sheet.add(raw, result)


def compose(
    *,
    config: Mapping[str, object],
    built: Built,
    plugins: Mapping[str, str],
    device: Device,
    dtype: torch.dtype,
    meter: Meter,
    choice: str | None,
    info: StreamInfo,
    damaged: int,
    presence: Mapping[str, int],
    output: Path | None,
    interrupted: bool,
) -> dict[str, object]:
    """Returns the report as plain values; times in milliseconds, rates in frames a second.

    ``choice`` is what a scheduler that chooses says of that.
    """
    selection = built.pipeline.selection
    overlap = meter.overlap
    return {
        "output": str(output) if output else None,
        "interrupted": interrupted,
        "frames": {
            "in": meter.frames_in,
            "out": meter.frames_out,
            "dropped": meter.dropped,
            "damaged": damaged,
        },
        "size": {"width": info.width, "height": info.height},
        "seconds": round(meter.seconds, 3),
        "fps": round(meter.fps, 3),
        "stages_ms": {
            name: {key: round(value, 3) for key, value in asdict(latency).items()}
            for name, latency in meter.latencies().items()
        },
        "overlap": None
        if overlap is None
        else {
            "saved": round(overlap.saved, 3),
            "sequence_ms": round(overlap.sequence, 3),
            "wall_ms": round(overlap.wall, 3),
        },
        "scheduler": choice,
        "routes": [
            {
                "classes": list(route.classes),
                "style": route.style,
                "strength": route.strength,
                "keep_color": route.keep_color,
                "frames_present": presence["+".join(route.classes)],
            }
            for route in built.routes
        ],
        "selection": None
        if selection is None
        else {
            "object": selection.wanted,
            "frames_without": selection.frames_without,
            "most_objects": selection.most,
        },
        "device": {"type": str(device.device), "name": device.name},
        "dtype": precision(dtype),
        "accelerated": [
            {"plugin": words, "by": module.chosen} for words, module in built.accelerated
        ],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in VERSIONS},
        "plugins": dict(sorted(plugins.items())),
        "weights": [
            {"file": str(w.path), "sha256": w.sha256, "licence": w.licence or None}
            for w in built.weights
        ],
        "config": dict(config),
    }


def write(
    facts: Mapping[str, object],
    picture: Sheet,
    folder: Path,
    *,
    report: str | None,
    sheet: str | None,
) -> list[Path]:
    """Writes the report and the sheet into ``folder``, each under its name or not at all.

    Returns:
        The files.

    Raises:
        SinkError: one cannot be written.
    """
    written = []
    if report:
        # ASCII, because a file name need not be valid Unicode.
        text = json.dumps(facts, indent=2).encode()
        replace(folder / report, lambda file: file.write(text), advice=ADVICE)
        written.append(folder / report)
    if sheet and picture.rows:
        drawn = picture.render()
        replace(folder / sheet, lambda file: drawn.save(file, format="png"), advice=ADVICE)
        written.append(folder / sheet)
    return written


def print_table(facts: Mapping[str, object], output: Path | None, files: list[Path]) -> None:
    """Prints frames, FPS, milliseconds a stage and where everything is."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("stage", "p50 ms", "p95 ms", "max ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    stages = facts["stages_ms"]
    assert isinstance(stages, dict)
    for name, times in stages.items():
        table.add_row(name, *(f"{times[key]:.1f}" for key in ("p50", "p95", "max")))
    console.print(table)
    frames = facts["frames"]
    assert isinstance(frames, dict)
    counts = [f"{frames['out']} frame{'s' if frames['out'] > 1 else ''}", f"{facts['fps']:.1f} FPS"]
    counts += [f"{frames[key]} {key}" for key in ("dropped", "damaged") if frames[key]]
    selection = facts["selection"]
    if isinstance(selection, Mapping) and selection["frames_without"]:
        counts.append(f"{selection['frames_without']} without the object selected")
    console.print(" · ".join(counts))
    overlap = facts["overlap"]
    if isinstance(overlap, Mapping) and overlap["saved"] >= VISIBLE:
        console.print(
            f"overlap: {overlap['saved']:.0%} (stages {overlap['sequence_ms']:.1f} ms a frame in "
            f"sequence, {overlap['wall_ms']:.1f} ms wall)"
        )
    if facts["scheduler"] and frames["out"] > 1:
        console.print(f"scheduler: {facts['scheduler']}", markup=False)
    for line in _absent(facts):
        console.print(line)
    for path in [*([output] if output else []), *files]:
        console.print(str(path), markup=False)


def _absent(facts: Mapping[str, object]) -> Iterator[str]:
    """Yields a line for what was to be restyled and was in no frame."""
    routes, selection = facts["routes"], facts["selection"]
    assert isinstance(routes, list)
    absent = [" or ".join(route["classes"]) for route in routes if not route["frames_present"]]
    if selection is None:
        for words in absent:
            yield f"no {words} was found in any frame"
    elif len(absent) == len(routes):
        assert isinstance(selection, Mapping)
        most, words = selection["most_objects"], " or ".join(absent)
        found = f"at most {most} of {words} in one" if most else f"no {words} was found"
        yield f"the object selected was in no frame ({found})"
