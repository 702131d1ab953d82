"""One run: builds what the settings name, drives it, reports on it, and prints nothing.

The command line, a live server, workers on other machines and notebooks run it alike.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypedDict

from cbs_core.choose import registry
from cbs_core.contract.errors import CbsError, ConfigError, SinkError
from cbs_core.contract.interfaces import Choosing, CountsDamage, Scheduler, Sink, Source
from cbs_core.contract.live import Controlling, HasSound
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.cutout import Exports
from cbs_core.frame.pipeline import Result
from cbs_core.frame.plan import Plan
from cbs_core.machine import device as devices
from cbs_core.machine.device import Device
from cbs_core.machine.memory import MemoryLimitError
from cbs_core.machine.meter import Meter
from cbs_core.run import destinations, exports, preview, report, sinks
from cbs_core.run.ahead import Ahead
from cbs_core.run.controls import Controls
from cbs_core.run.destinations import Places
from cbs_core.run.fingerprint import Fingerprint
from cbs_core.run.governed import Governed
from cbs_core.run.hearing import Hearing
from cbs_core.run.outputs import Outputs, beside
from cbs_core.run.report import Report
from cbs_core.run.resuming import Resumed, checked, identity
from cbs_core.run.runner import Runner
from cbs_core.run.settings import Look, Settings, source_of
from cbs_core.run.sheet import Sheet
from cbs_core.run.stream import Stream
from cbs_core.run.trials import counted, unhurried, worth_trials
from cbs_core.run.workers import opened
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import State
from cbs_core.temporal.wanted import check_inside

FRESHEST = "freshest"


@dataclass(frozen=True, slots=True)
class Begun:
    """A run whose nets are there, just before its first frame."""

    device: Device
    plan: Plan
    info: StreamInfo
    meter: Meter
    """Its figures, which grow."""

    notes: Callable[[], tuple[str, ...]] = tuple
    """What source and sink say, so far, that they cannot keep."""


Tick: TypeAlias = Callable[[], None]

Show: TypeAlias = Callable[[Begun], AbstractContextManager[Tick]]
"""Given a run that begins, returns a context around it; what that yields is called after each
frame, from any thread."""


def unseen(begun: Begun) -> AbstractContextManager[Tick]:
    """Shows nothing."""
    return nullcontext(lambda: None)


class Job:
    """A run of `Settings`.

    Args:
        settings: what to do.
        run_folder: where an output goes that they do not name.
        workshop: where nets are built, to share them with other runs; None is one of its own.
        state: where the stream stands, to go on with it; None is its start.

    Raises:
        CbsError: the device or the precision cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        run_folder: Path,
        workshop: Workshop | None = None,
        state: State | None = None,
    ) -> None:
        self.settings = settings
        self.run_folder = run_folder
        self.meter = Meter()
        self._state = state
        self._device = devices.choose(settings.device)
        dtype = devices.dtype(settings.precision, self._device.device)
        self._own = workshop is None
        self._workshop = workshop or Workshop(self._device.device, dtype)

    def run(self, show: Show = unseen) -> Report | None:
        """Runs to the end of the source.

        Args:
            show: shows how far it is.

        Returns:
            The report, whose ``interrupted`` and ``cut`` tell of an early end; None where Ctrl-C
            came before a frame, or with ``resume`` a part, was whole: there is no output.

        Raises:
            CbsError: whatever a user can mend; no output is left then.
        """
        source, source_id = self._source()
        own = closing(self._workshop) if self._own else nullcontext()
        with own, Fingerprint(self.settings.input_file) as fingerprint, opened(source):
            info = _info(source, source_id)
            sink, sink_ids, there = self._sinks(info)
            stream = self._stream(info, look := shown_by(self.settings.look, info))
            _give_controls(sink, controls := Controls(stream, self._workshop, look))
            sink = self._with_mattes(sink, stream.plan, info, str(there.output))
            watch = report.Watch(Sheet(stream.plan, info, rows=self.settings.sheet_frames))
            governed = self._governed(stream, info, controls)
            scheduler, scheduler_id = self._scheduler(stream, info, watch, governed)
            parts = (source, stream, scheduler, sink)
            source, scheduler, sink, resumed = self._in_windows(*parts, there.output)
            begun = Begun(self._device, stream.plan, info, self.meter, lambda: _notes(source, sink))
            with show(begun) as tick:
                runner = self._runner(source, scheduler, sink, stream, tick)
                interrupted, cut = _run(runner, resumed)
            sha256 = fingerprint.result(wait=not interrupted and cut is None)
        kept = runner.kept if resumed is None else resumed.kept(runner.kept)
        if not kept and cut is not None:
            raise cut
        if not kept:
            return None
        told = Report(
            plan=stream.plan,
            state=stream.state,
            device=self._device,
            dtype=self._workshop.dtype,
            meter=self.meter,
            info=info,
            presence=watch.presence,
            plugins=registry.origins(source_id, *sink_ids, scheduler_id),
            output=there.output,
            config=self.settings.config,
            choice=scheduler.choice if isinstance(scheduler, Choosing) else None,
            damaged=source.damaged if isinstance(source, CountsDamage) else 0,
            input=self.settings.input,
            sha256=sha256,
            notes=(*_notes(source, sink), *self._unlike(stream.plan)),
            branches=sink.branches if isinstance(sink, Outputs) else (),
            governor=None if governed is None else governed.report(),
            interrupted=interrupted,
            kept=kept,
            cut=cut,
            unfinished=None if resumed is None else resumed.unfinished,
        )
        return self._written(told, watch.sheet, there)

    def _written(self, told: Report, sheet: Sheet, there: Places) -> Report:
        places = {} if told.unfinished else there.beside  # what is whole is reported on
        try:
            return report.write(told, sheet, places, over=self.settings.overwrite)
        except SinkError as error:
            if told.cut is None:
                raise
            return replace(told, notes=(*told.notes, str(error)))  # it is what ended the run first

    def _source(self) -> tuple[Source, str]:
        source, name = source_of(self.settings)
        place = self.settings.preview
        return (source if place is None else preview.Preview(source, place)), name

    def _runner(
        self, source: Source, scheduler: Scheduler, sink: Sink, stream: Stream, tick: Tick
    ) -> Runner:
        if stream.plan.lookahead:
            scheduler = Ahead(scheduler, stream.plan.lookahead)
        info, hearing = source.info, Hearing()
        if sounds := info.live and isinstance(source, HasSound) and source.sounds:
            source.hear(hearing.put)
        return Runner(
            source,
            scheduler,
            sink,
            meter=self.meter,
            progress=tick,
            info=replace(
                info, transparent=self.settings.cutout, sound=hearing if sounds else info.sound
            ),
            writes=lambda frame: hearing.at(frame.captured or 0.0, frame.pts),
            **_pace(self.settings, info),
        )

    def _stream(self, info: StreamInfo, look: Look) -> Stream:
        self._check_lookahead(info, look)
        check_inside(look.select, info.height, info.width)
        long = worth_trials(info)
        if self._own:  # else nets of other lengths would be others, and none shared
            look = counted(look, info)
        plan = self._workshop.plan(look if long else unhurried(look))
        exports = Exports(self.settings.output_matte is not None, self.settings.cutout)
        stream = Stream(plan, self._state, ahead=long and info.sizes == 1, exports=exports)
        width, height, name = info.largest or (info.width, info.height, "")
        try:
            stream.check(height, width)
        except MemoryLimitError as error:
            raise MemoryLimitError(f"'{name}': {error}" if name else str(error)) from error
        if self.settings.preview is not None and preview.keeps_first(plan, look):
            with opened(source_of(self.settings)[0]) as again:
                stream(stream.upload(preview.first_frame(again)))
        return stream

    def _check_lookahead(self, info: StreamInfo, look: Look) -> None:
        waits = f"lookahead={look.lookahead} waits for frames that are yet to come"
        if look.lookahead and info.live:
            raise ConfigError(f"{waits}, and '{info.name}' is live: leave it out")
        by_clock = self.settings.target_fps is not None or self.settings.policy == FRESHEST
        if look.lookahead and by_clock:
            key = "policy=freshest" if self.settings.target_fps is None else "target_fps"
            raise ConfigError(f"{waits}, and {key} goes by the clock: say one")

    def _sinks(self, info: StreamInfo) -> tuple[Sink, list[str], Places]:
        """Builds the sinks; also returns the run's files."""
        if self.settings.preview is None:
            return sinks.built(self.settings, info, self.run_folder)
        path = preview.path(self.settings.output, info, self.run_folder)
        sheet = {"sheet": path.with_name(preview.sheet(path))} if self.settings.sheet else {}
        sink = registry.sinks.create(name := preview.sink(), path=str(path))
        return sink, [f"sink/{name}"], Places(path, sheet)

    def _with_mattes(self, sink: Sink, plan: Plan, info: StreamInfo, name: str) -> Sink:
        """Returns the sink with one for each matte beside it, where they are wanted."""
        wanted = self.settings.output_matte
        if wanted is None or self.settings.preview is not None:
            return sink
        mattes = exports.matte_sinks(wanted, plan.routes, self.settings.sink)
        for matte in mattes:
            destinations.check(
                Places(matte.path, {}),
                source=self.settings.input_file,
                taken=matte.taken(info),
                overwrite=self.settings.overwrite,
            )
        return beside(sink, name, mattes, [str(matte.path) for matte in mattes])

    def _unlike(self, plan: Plan) -> tuple[str, ...]:
        return preview.unlike(self.settings.look, plan) if self.settings.preview else ()

    def _in_windows(
        self,
        source: Source,
        stream: Stream,
        scheduler: Scheduler,
        sink: Sink,
        output: Path | None,
    ) -> tuple[Source, Scheduler, Sink, Resumed | None]:
        """Returns what takes their places where the run can be gone on with; else themselves."""
        settings = self.settings
        if not settings.resume or settings.preview is not None:
            return source, scheduler, sink, None
        if settings.target_fps is not None or settings.policy == FRESHEST:
            key = "policy=freshest" if settings.target_fps is None else "target_fps"
            raise ConfigError(f"{key} goes by the clock, which resume=true cannot: say one")
        dtype = devices.precision(self._workshop.dtype)
        depends = identity(settings.config, stream.plan, dtype, settings.input_file)
        named = output if settings.output else None  # a run folder is another each time
        resumed = Resumed(source, stream, scheduler, checked(sink, named, source.info), depends)
        return resumed.source, resumed.windows, resumed.sink, resumed

    def _governed(self, stream: Stream, info: StreamInfo, controls: Controls) -> Governed | None:
        fps = self.settings.target_fps
        if fps is None:
            return None
        governed = Governed(
            stream,
            self._workshop,
            lambda: controls.look,
            meter=self.meter,
            target_fps=min(fps, float(info.rate)) if info.live else fps,
            size=(info.height, info.width),
        )
        controls.lowered = governed.lowered
        return governed

    def _scheduler(
        self, stream: Stream, info: StreamInfo, watch: report.Watch, governed: Governed | None
    ) -> tuple[Scheduler, str]:
        chosen = self.settings.scheduler
        params = dict(chosen.params)
        if info.live and registry.schedulers.takes(chosen.name, "rate"):
            params.setdefault("rate", min(self.settings.target_fps or math.inf, float(info.rate)))

        def observe(raw: RawFrame, result: Result) -> None:
            watch(raw, result)
            if governed is not None:
                governed(raw.pixels)

        scheduler = registry.schedulers.create(
            chosen.name, stream=stream, meter=self.meter, observe=observe, **params
        )
        return scheduler, f"scheduler/{chosen.name}"


def _info(source: Source, plugin: str) -> StreamInfo:
    kind, _, name = plugin.partition("/")
    info: StreamInfo = registry.guarded(f"the {kind} '{name}'", getattr, source, "info")
    return info


def _notes(source: Source, sink: Sink) -> tuple[str, ...]:
    """Returns what source and sink say that they could not keep."""
    said = [getattr(one, "notes", ()) for one in (source.info, source, sink)]
    # A plugin of a stranger's may call something else so.
    lines = [line for notes in said if isinstance(notes, tuple | list) for line in notes]
    return tuple(dict.fromkeys(lines))


def _give_controls(sink: Sink, controls: Controls) -> None:
    for one in sink.sinks if isinstance(sink, Outputs) else [sink]:
        if isinstance(one, Controlling):
            one.control(controls)


def _run(runner: Runner, resumed: Resumed | None) -> tuple[bool, CbsError | None]:
    """Tells whether Ctrl-C ended the run, and what failed in the middle of it."""
    try:
        return runner.run().interrupted, None
    except CbsError as error:
        return False, error
    finally:
        if resumed is not None:
            resumed.parts.close()


def shown_by(look: Look, info: StreamInfo) -> Look:
    """Returns what a run shows: of frames that follow each other, mattes that do too."""
    if not info.moving or info.frames == 1:
        return replace(look, lookahead=0)
    return replace(look, steady=look.steady or "matte")


class _Pace(TypedDict):
    """What `Runner` is told of late frames."""

    policy: str
    timeout_s: float | None
    max_age_ms: float | None


def _pace(settings: Settings, info: StreamInfo) -> _Pace:
    policy = settings.policy
    if policy == "auto":
        policy = FRESHEST if info.live else "every_frame"
    if settings.max_age_ms is not None and policy == "every_frame":
        raise ConfigError(
            f"max_age_ms drops frames that are late, and '{info.name}' is no live source: leave it "
            "out"
        )
    return _Pace(policy=policy, timeout_s=settings.timeout_s, max_age_ms=settings.max_age_ms)
