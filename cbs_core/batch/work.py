"""A worker: its nets are built once, and it does one task after another."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from cbs_core.batch import restyling
from cbs_core.batch.items import Item
from cbs_core.batch.pictures import Pictures
from cbs_core.batch.pieces import Part
from cbs_core.batch.tasks import Bundle, Done, Hello, Join, Survey, Whole, Window
from cbs_core.choose import presets, streams, weights
from cbs_core.choose.sections import Choice, choice
from cbs_core.contract.engines import Task
from cbs_core.contract.errors import SinkError
from cbs_core.contract.windows import SegmentSink
from cbs_core.machine import device as devices
from cbs_core.run.job import Job
from cbs_core.run.report import VERSIONS
from cbs_core.run.settings import Settings, parse, source_of
from cbs_core.run.trials import unhurried
from cbs_core.run.workers import opened
from cbs_core.run.workshop import Workshop


class Workplace:
    """Does the tasks of a batch (`cbs_core.contract.engines.Worker`).

    Args:
        config: composed (``conf/batch.yaml``), as plain values.

    Raises:
        CbsError: the configuration is wrong, or the device cannot be had.
    """

    def __init__(self, config: Mapping[str, object]) -> None:
        run = {key: config[key] for key in config if key not in ("input", "output", "report")}
        self._base = parse(run)
        self._device = devices.choose(self._base.device)
        dtype = devices.dtype(self._base.precision, self._device.device)
        self._shop = Workshop(self._device.device, dtype)
        self._pictures = Pictures(self._shop, self._settings)
        self._sections: dict[tuple[str, str], tuple[Choice, Choice]] = {}
        self._shop.plan(unhurried(self._base.look))  # while other workers build theirs

    def do(self, task: Task, /) -> Any:
        """Does a task (`cbs_core.batch.tasks`).

        Raises:
            CbsError: whatever a user can mend.
        """
        what = task.what
        match what:
            case Hello():
                return self._hello()
            case Bundle():
                return self._pictures(what)
            case Survey():
                return restyling.survey(self._settings(what.item), self._shop, what)
            case Window():
                return restyling.window(self._settings(what.item), self._shop, what)
            case Join():
                return self._join(what)
            case Whole():
                return self._whole(what.item)
        raise TypeError(f"no task of a batch: {what!r}")

    def close(self) -> None:
        """Ends its threads."""
        self._shop.close()

    def _settings(self, item: Item) -> Settings:
        """Returns the settings of an item, those that a run of its own would have."""
        base = self._base
        kind = (PurePath(item.input).suffix, item.output.suffix)
        if kind not in self._sections:  # of ten thousand pictures it is the same
            source = streams.for_suffix("source", kind[0])
            sink = streams.for_suffix("sink", kind[1])
            self._sections[kind] = (
                _section("source", source, base.source),
                _section("sink", sink, base.sink),
            )
        source_choice, sink_choice = self._sections[kind]
        return replace(
            base,
            input=item.input,
            output=str(item.output),
            source=source_choice,
            sink=sink_choice,
            overwrite=item.over,
        )

    def _hello(self) -> dict[str, Any]:
        plan, device = self._shop.plan(unhurried(self._base.look)), self._device
        styles = ", ".join(f"{route.named()}: {route.label}" for route in plan.routes)
        licences = {one.licence for one in plan.facts.weights if "non-commercial" in one.licence}
        return {
            "depends": {
                "weights": [one.sha256 for one in plan.facts.weights],
                "plugins": dict(sorted(plan.facts.plugins.items())),
                "versions": {name: version(name) for name in VERSIONS},
                "device": f"{device.device.type} {devices.precision(self._shop.dtype)}",
            },
            "weights": weights.facts(plan.facts.weights),
            "precision": devices.precision(self._shop.dtype),
            "device": {"type": str(device.device), "name": device.name},
            "lines": [
                f"{device.device} ({device.name}) · {styles or 'no style'} · weights: "
                f"{weights.told(plan.facts.weights)}",
                *sorted(licences),
            ],
        }

    def _join(self, task: Join) -> Done:
        settings = self._settings(task.item)
        parts = [Part.read(*one) for one in zip(task.files, task.keys, strict=True)]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            raise SinkError(
                f"a part of '{task.item.output}' is gone from '{task.files[0].parent}': say the "
                "same again, and it is made anew"
            )
        sink = restyling.sink_of(settings)
        assert isinstance(sink, SegmentSink)
        source, _ = source_of(settings)
        with opened(source):
            info = replace(source.info, transparent=settings.cutout)
        sink.join([part.segment for part in found], info)
        notes = (*(note for part in found for note in part.notes), *getattr(sink, "notes", ()))
        frames = sum(len(part.times) for part in found)
        return Done(frames, tuple(dict.fromkeys(notes)))

    def _whole(self, item: Item) -> Done:
        settings = replace(self._settings(item), report=None, sheet=None, sheet_frames=0)
        job = Job(settings, run_folder=item.output.parent, workshop=self._shop)
        report = job.run()
        if report is None or report.interrupted:
            raise KeyboardInterrupt
        report.check()
        return Done(report.kept, report.notes)


def _section(kind: str, name: str, given: Choice) -> Choice:
    """Returns how a plugin is built: as the batch says where it speaks of that one."""
    found = given if given.name == name else choice(presets.section(kind, name), kind)
    return Choice(name, {key: value for key, value in found.params.items() if key != "path"})
