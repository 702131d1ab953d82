"""The sinks of a run, built where nothing of anybody's is in their way."""

from dataclasses import replace
from pathlib import Path

from cbs_core.choose import registry, streams
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import Sink
from cbs_core.contract.several import WritesSeveral
from cbs_core.contract.types import StreamInfo
from cbs_core.machine.addresses import shown
from cbs_core.run import destinations
from cbs_core.run.destinations import Places
from cbs_core.run.outputs import Outputs
from cbs_core.run.settings import Settings


def built(settings: Settings, info: StreamInfo, run_folder: Path) -> tuple[Sink, list[str], Places]:
    """Builds the sink, or one over several.

    Returns:
        It, ``sink/NAME`` of each, and the run's files: of several outputs, report and sheet are
        named after the first file.

    Raises:
        CbsError: a sink cannot be had, or would write over something.
    """
    if not settings.outputs:
        sink, name, there = _sink(settings, info, run_folder)
        return sink, [name], there
    each: list[tuple[Sink, str, Places]] = []
    rest = settings
    for one in settings.outputs:
        named = replace(rest, sink=one, output=str(one.params.get("path", "")))
        each.append(_sink(named, info, run_folder))
        if each[-1][2].output is not None:
            rest = replace(settings, report=None, sheet=None)
    files = [there for _, _, there in each if there.output is not None]
    names = [shown(str(one.params.get("path") or one.name)) for one in settings.outputs]
    first = files[0] if files else each[0][2]
    for there in files[1:]:
        for key, path in first.beside.items():
            if path == there.output:
                raise ConfigError(f"output and {key} are both named '{path.name}': say {key}=OTHER")
    return Outputs([sink for sink, _, _ in each], names), [name for _, name, _ in each], first


def _sink(settings: Settings, info: StreamInfo, run_folder: Path) -> tuple[Sink, str, Places]:
    name, params = settings.sink.name, dict(settings.sink.params)
    path = params.get("path", settings.output)
    wanted = {
        "report": settings.report,
        "sheet": settings.sheet if settings.sheet_frames else None,
    }
    suffix: str | None = None
    by_name = isinstance(path, str) and path.startswith(f"{name}:")
    if by_name:
        path = str(path).removeprefix(f"{name}:")
    if by_name and streams.by_path("sink", name) is None:
        params["path"] = path  # what a stranger's plugin makes of it is its own
    elif not streams.is_for_files("sink", name):
        params["path"] = "" if path is None or path == name else path
    elif name != "null" and registry.sinks.takes(name, "path"):
        suffix = streams.unnamed(name, params)
    if suffix is not None and path:
        output = Path(str(path)).expanduser()
        whole = streams.writes_folder(name)
        there = Places(output, destinations.beside(output, wanted, whole=whole))
    else:
        there = destinations.fresh(run_folder, info.name, suffix, wanted)
    if there.output is not None:
        params["path"] = str(there.output)
    sink = registry.sinks.create(name, **params)
    destinations.check(
        there,
        source=settings.input_file,
        taken=sink.taken(info) if isinstance(sink, WritesSeveral) else None,
        overwrite=settings.overwrite,
    )
    return sink, f"sink/{name}", there
