"""One run of ``cbs-run``: builds what the configuration names, drives it, reports on it."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError, LostError
from cbs_core.contract.interfaces import Choice, Sink, Source
from cbs_core.contract.types import StreamInfo
from cbs_core.machine import device
from cbs_core.machine.meter import Meter
from cbs_core.run import build, report
from cbs_core.run.progress import progress
from cbs_core.run.runner import Runner
from cbs_core.run.sheet import Sheet

INTERRUPTED = 130

WORTH_TRIALS = 10
"""Frames from which on ``accelerator=auto`` tries what is fastest, and all nets are built at first,
those too whose classes may come later or never."""

SUFFIXES = {"image": ".png", "video": ".mp4"}
"""Of an output that was not named, by sink; other sinks get a folder."""


def run_session(config: Mapping[str, object], *, run_folder: Path) -> int:
    """Runs a composed configuration (``conf/config.yaml``).

    Args:
        config: the configuration, resolved to plain values.
        run_folder: where an output goes that ``output`` does not name.

    Returns:
        The exit code: 0, or 130 where Ctrl-C ended the run and the output holds a part.

    Raises:
        LostError: the source or the device was lost; the output holds the frames so far.
        CbsError: whatever else a user can mend; no output is left then.
    """
    quiet = config.get("quiet")
    if not isinstance(quiet, bool):
        raise ConfigError(f"quiet={quiet} is neither true nor false")
    # stdout, so that stderr holds problems only.
    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    chosen = device.choose(str(config.get("device")))
    dtype = device.dtype(str(config.get("precision")), chosen.device)
    sheet_rows = _count(config, "sheet_frames") if config.get("sheet") else 0

    source, source_id = _source(config)
    with source:
        stream = source.info.frames is None or source.info.frames >= WORTH_TRIALS
        built = build.pipeline(
            config if stream else _unhurried(config), device=chosen.device, dtype=dtype
        )
        built.pipeline.ahead = stream
        built.pipeline.check_memory(source.info.height, source.info.width)
        sink, sink_id, output = _sink(config, source.info, run_folder)
        scheduler_name, params = build.split(config.get("scheduler"), "scheduler")
        meter = Meter()
        watch = report.Watch(built, Sheet(built, source.info, rows=sheet_rows))
        scheduler = registry.schedulers.create(
            scheduler_name, pipeline=built.pipeline, meter=meter, observe=watch, **params
        )
        scheduler_id = f"scheduler/{scheduler_name}"
        styles = ", ".join(f"{'+'.join(r.classes)}: {r.label}" for r in built.routes)
        console.print(f"{chosen.device} ({chosen.name}) · {styles or 'no style'}", markup=False)
        for file in built.weights:
            if "non-commercial" in file.licence:
                console.print(f"{file.path.parent.name}/{file.path.stem}: {file.licence}")
        with progress(console, meter, source.info.frames) as tick:
            runner = Runner(
                source,
                scheduler,
                sink,
                meter=meter,
                policy="freshest" if source.info.live else "every_frame",
                progress=tick,
            )
            interrupted, lost = _run(runner)
    if not meter.frames_out:
        if lost is not None:
            raise lost
        print("interrupted before the first frame: there is no output", file=sys.stderr)
        return INTERRUPTED

    folder = output.parent if output else run_folder
    facts = report.compose(
        config=config,
        built=built,
        plugins=registry.origins(source_id, sink_id, scheduler_id) | built.plugins,
        device=chosen,
        dtype=dtype,
        meter=meter,
        choice=scheduler.choice if isinstance(scheduler, Choice) else None,
        info=source.info,
        damaged=int(getattr(source, "damaged", 0)),
        presence=watch.presence,
        output=output,
        interrupted=interrupted or lost is not None,
    )
    files = report.write(
        facts, watch.sheet, folder, report=_name(config, "report"), sheet=_name(config, "sheet")
    )
    if not quiet:
        report.print_table(facts, output, files)
    count = f"{meter.frames_out} frame{'s' if meter.frames_out > 1 else ''}"
    closed = f"{output or 'the output'} is closed, with {count}"
    if lost is not None:
        raise LostError(f"{lost}; {closed}") from lost
    if interrupted:
        print(f"interrupted: {closed}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(runner: Runner) -> tuple[bool, LostError | None]:
    """Tells whether Ctrl-C ended the run, and what was lost in the middle of it."""
    try:
        return runner.run().interrupted, None
    except LostError as error:
        return False, error


def _unhurried(config: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the configuration without trials of accelerators.

    A trial takes longer than some frames do by plain torch; what an earlier run found is used.
    """
    section = config.get("accelerator")
    if not isinstance(section, Mapping) or section.get("name") != "auto":
        return config
    return {**config, "accelerator": {**section, "budget": 0}}


def _source(config: Mapping[str, object]) -> tuple[Source, str]:
    name, params = build.split(config.get("source"), "source")
    if config.get("input") and registry.sources.takes(name, "path"):
        params.setdefault("path", config["input"])  # a plugin without a preset of its own
    if isinstance(params.get("path"), str):
        params["path"] = str(params["path"]).removeprefix(f"{name}:")
    return registry.sources.create(name, **params), f"source/{name}"


def _sink(
    config: Mapping[str, object], info: StreamInfo, run_folder: Path
) -> tuple[Sink, str, Path | None]:
    """Builds the sink; also returns the path of the output where there is one."""
    # Hydra reads `sink=null` as "no sink", which is what the sink of that name is.
    section = config.get("sink") or {"name": "null"}
    name, params = build.split(section, "sink")
    path = params.get("path", config.get("output"))
    output: Path | None = None
    if isinstance(path, str) and path.startswith(f"{name}:"):
        params["path"] = path.removeprefix(f"{name}:")
    elif name != "null" and registry.sinks.takes(name, "path"):
        default = run_folder / f"{info.name}{SUFFIXES.get(name, '')}"
        output = Path(str(path)).expanduser() if path else default
        params["path"] = str(output)
        _check_names(config, output, str(params.get("suffix", "")))
    return registry.sinks.create(name, **params), f"sink/{name}", output


def _check_names(config: Mapping[str, object], output: Path, suffix: str) -> None:
    """Refuses to write over the input, or two files under one name.

    Raises:
        ConfigError: with the key to change.
    """
    given = config.get("input")
    source = Path(str(given)).expanduser() if given else None
    if source and (_same(source, output) or _same(source, output / f"{source.stem}{suffix}")):
        raise ConfigError(f"'{source}' would be written over by the output: choose another output=")
    taken = {output.name: "output"}
    for key in ("report", "sheet"):
        name = _name(config, key)
        if name is None:
            continue
        if Path(name).name != name:
            raise ConfigError(f"{key}={name} is no plain file name: it lies beside the output")
        if name in taken:
            raise ConfigError(f"{taken[name]} and {key} are both named '{name}': say {key}=OTHER")
        if source and _same(source, output.parent / name):
            raise ConfigError(f"'{source}' would be written over by the {key}: say {key}=OTHER")
        taken[name] = key


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # one of them is not there yet
        return False


def _count(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{key}={value} is no whole number of 0 or more")
    return value


def _name(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    return str(value) if value else None
