"""What a run says of itself: ``out.report.json``, ``out.sheet.png`` and a short table."""

import json
import platform
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cbs_core.choose import weights
from cbs_core.contract.errors import CbsError, SinkError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.pipeline import Result
from cbs_core.frame.plan import Plan
from cbs_core.machine import files
from cbs_core.machine.addresses import shown
from cbs_core.machine.device import Device, precision
from cbs_core.machine.meter import Meter
from cbs_core.run.sheet import Sheet
from cbs_core.temporal.state import State

VERSIONS = ("class-based-styling", "torch", "kornia", "av", "pillow", "numpy", "hydra-core")

VISIBLE = 0.01
"""An overlap below this part is not worth a line."""

ADVICE = ", but the output itself is done: mend that place, or say report=null sheet=null"


class Watch:
    """Sees every frame's result: counts in how many a route's classes were found.

    Args:
        sheet: given the same frames.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.presence: Counter[tuple[str, ...]] = Counter()

    def __call__(self, raw: RawFrame, result: Result) -> None:
        """Takes a frame and what the pipeline made of it."""
        for route, seen in zip(result.plan.routes, result.shown, strict=True):
            self.presence[route.classes] += seen
        self.sheet.add(raw, result)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    plan: Plan
    """The last one."""

    state: State
    """Where the stream stands after its last frame."""

    device: Device
    dtype: torch.dtype
    meter: Meter
    info: StreamInfo
    presence: Mapping[tuple[str, ...], int]
    """Frames in which a route's classes were found."""

    plugins: Mapping[str, str]
    """``kind/name`` -> distribution."""

    output: Path | None
    """None where the sink has none."""

    config: Mapping[str, object]
    choice: str | None = None
    """What a scheduler that chooses says of that."""

    damaged: int = 0
    interrupted: bool = False
    kept: int = 0
    """Frames in the closed output."""

    unfinished: Path | None = None
    """The folder of the parts of an output that is not whole (``resume=true``)."""

    cut: CbsError | None = None
    """What ended the run before its end; the output holds the frames so far."""

    input: str | None = None
    """As it was named."""

    sha256: str | None = None
    """Of the input, where that is a file."""

    notes: tuple[str, ...] = ()
    """What source and sink could not keep, a line each."""

    branches: tuple[Mapping[str, object], ...] = ()
    """What became of each of several outputs."""

    governor: Mapping[str, object] | None = None
    """What was chosen to hold ``target_fps``, and when."""

    files: tuple[Path, ...] = ()
    """The report and the sheet, once they are written."""

    @property
    def frames(self) -> str:
        """``3 frames``."""
        count = self.kept
        return f"{count} frame{'s' if count > 1 else ''}"

    def check(self) -> None:
        """Raises what ended the run early, or one of its outputs.

        Raises:
            CbsError: the source, the device or a plugin failed.
            SinkError: an output failed, though another is whole.
        """
        if self.cut is not None:
            raise type(self.cut)(f"{self.cut}; {self.closed}") from self.cut
        failed = [one for one in self.branches if one["failed"] is not None]
        if failed:
            names = ", ".join(f"{one['output']} ({one['failed']})" for one in failed)
            raise SinkError(f"{len(failed)} of {len(self.branches)} outputs ended early: {names}")

    @property
    def closed(self) -> str:
        """What there is of an output that was ended early, in words."""
        if self.unfinished is not None:
            return f"{self.frames} are in '{self.unfinished}': the same command goes on from there"
        return f"{self.output or 'the output'} is closed, with {self.frames}"

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values; times in milliseconds, rates in frames a second."""
        meter, overlap, selection = self.meter, self.meter.overlap, self.plan.selection
        followed, age = self.state.styling.followed, meter.age
        return {
            "program": f"{files.MARK.decode()} {version('class-based-styling')}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "input": {"path": shown(self.input or ""), "sha256": self.sha256},
            "output": str(self.output) if self.output else None,
            "outputs": [dict(one) for one in self.branches],
            "interrupted": self.interrupted or self.cut is not None,
            "frames": {
                "in": meter.frames_in,
                "out": self.kept or meter.frames_out,
                "dropped": meter.dropped,
                "damaged": self.damaged,
            },
            "size": {"width": self.info.width, "height": self.info.height},
            "seconds": round(meter.seconds, 3),
            "fps": round(meter.fps, 3),
            "stages_ms": {
                name: {key: round(value, 3) for key, value in asdict(latency).items()}
                for name, latency in meter.latencies().items()
            },
            "age_ms": None
            if age is None
            else {key: round(value, 3) for key, value in asdict(age).items()},
            "overlap": None
            if overlap is None
            else {
                "saved": round(overlap.saved, 3),
                "sequence_ms": round(overlap.sequence, 3),
                "wall_ms": round(overlap.wall, 3),
            },
            "scheduler": self.choice,
            "governor": None if self.governor is None else dict(self.governor),
            "routes": [
                {
                    "classes": list(route.classes),
                    "word": route.word or None,
                    "style": route.style,
                    "name": route.label,
                    "strength": route.strength,
                    "keep_color": route.keep_color,
                    "frames_present": self.presence.get(route.classes, 0),
                }
                for route in self.plan.routes
            ],
            "selection": None
            if selection is None
            else {
                "object": selection.wanted,
                "frames_without": followed.frames_without,
                "most_objects": followed.most,
            },
            "notes": list(self.notes),
            **self._made_with(),
            "config": _without_secrets(dict(self.config)),
        }

    def _made_with(self) -> dict[str, Any]:
        facts = self.plan.facts
        return {
            "device": {"type": str(self.device.device), "name": self.device.name},
            "dtype": precision(self.dtype),
            "accelerated": [
                {"plugin": words, "by": module.chosen} for words, module in facts.accelerated
            ],
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in VERSIONS},
            "plugins": dict(sorted({**self.plugins, **facts.plugins}.items())),
            "weights": weights.facts(facts.weights),
        }


def _without_secrets(value: Any) -> Any:
    """Returns a configuration whose addresses show no password and no broadcaster's key."""
    if isinstance(value, Mapping):
        return {key: _without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return shown(value) if isinstance(value, str) else value


def write(
    report: Report, picture: Sheet, places: Mapping[str, Path], *, over: bool = False
) -> Report:
    """Writes the report and the sheet, each under its name or not at all.

    Args:
        report: what is told.
        picture: what is drawn.
        places: of ``report`` and ``sheet``, where they are wanted.
        over: whether files of these names are replaced; they have other names where not.

    Returns:
        The report, with the files.

    Raises:
        SinkError: one cannot be written.
    """
    written = []
    put = partial(files.replace, advice=ADVICE, over=over)
    if path := places.get("report"):
        # ASCII, because a file name need not be valid Unicode.
        text = json.dumps(report.as_dict(), indent=2).encode()
        written.append(put(path, lambda file: file.write(text)))
    if (path := places.get("sheet")) and picture.rows:
        drawn, mark = picture.render(), files.marked()
        written.append(put(path, lambda file: drawn.save(file, format="png", pnginfo=mark)))
    return replace(report, files=tuple(written))


def print_table(report: Report, console: Console, told: Container[str] = ()) -> None:
    """Prints frames, FPS, milliseconds a stage and where everything is.

    Args:
        report: what is printed.
        console: where.
        told: lines of its notes that were printed already.
    """
    facts, meter = report.as_dict(), report.meter
    table = Table("stage", "p50 ms", "p95 ms", "max ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, times in facts["stages_ms"].items():
        table.add_row(name, *(f"{times[key]:.1f}" for key in ("p50", "p95", "max")))
    console.print(table)
    counts = [report.frames, f"{meter.fps:.1f} FPS"]
    counts += [
        f"{facts['frames'][key]} {key}" for key in ("dropped", "damaged") if facts["frames"][key]
    ]
    selection, overlap = facts["selection"], facts["overlap"]
    if selection and selection["frames_without"]:
        counts.append(f"{selection['frames_without']} without the object selected")
    console.print(" · ".join(counts))
    if overlap and overlap["saved"] >= VISIBLE:
        console.print(
            f"overlap: {overlap['saved']:.0%} (stages {overlap['sequence_ms']:.1f} ms a frame in "
            f"sequence, {overlap['wall_ms']:.1f} ms wall)"
        )
    if report.choice and meter.frames_out > 1:
        console.print(f"scheduler: {report.choice}", markup=False)
    if report.governor:
        console.print(_governed(report), markup=False)
    for line in (*_absent(facts), *(note for note in report.notes if note not in told)):
        console.print(line, markup=False)
    for branch in report.branches:
        late = f", {branch['dropped']} dropped" if branch["dropped"] else ""
        console.print(f"{branch['output']}: {branch['frames']} frames{late}", markup=False)
    for path in [*filter(None, [report.unfinished or report.output]), *report.files]:
        console.print(str(path), markup=False)


def _governed(report: Report) -> str:
    assert report.governor is not None
    changed = report.governor["changed"]
    assert isinstance(changed, int)
    goal = f"target_fps={report.governor['target_fps']:g}"
    if not changed:
        return f"{goal}: full quality throughout"
    times = f"{changed} change{'s' if changed > 1 else ''} of quality"
    if not report.meter.chosen:
        return f"{goal}: {times}, full quality at the end"
    return f"{goal}: {times}, at the end {report.meter.chosen}: mattes are coarser, or follow late"


def _absent(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for what was to be restyled and was in no frame."""
    routes, selection = facts["routes"], facts["selection"]
    if selection is not None:
        # Of these an object is chosen; `rest` has none.
        routes = [route for route in routes if not route["word"]] or routes
    absent = [
        route["word"] or " or ".join(route["classes"])
        for route in routes
        if not route["frames_present"]
    ]
    if selection is None:
        for words in absent:
            yield f"no {words} was found in any frame"
    elif len(absent) == len(routes):
        most, words = selection["most_objects"], " or ".join(absent)
        found = f"at most {most} of {words} in one" if most else f"no {words} was found"
        yield f"the object selected was in no frame ({found})"
