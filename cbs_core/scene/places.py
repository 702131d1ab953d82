"""Which scene is read and where what is made of it goes: told without torch."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cbs_core.choose import registry
from cbs_core.choose.sections import flag
from cbs_core.contract.errors import ConfigError, SourceError, closest
from cbs_core.machine.files import is_marked
from cbs_core.machine.inputs import missing
from cbs_core.run.destinations import ENDINGS, Places, beside, check, fresh


def known_format(source: Path) -> str:
    """Returns the name of the plugin that reads a scene, by its suffix.

    Raises:
        SourceError: it is not there.
        ConfigError: no plugin reads such files.
    """
    if not source.exists():
        raise SourceError(missing(source))
    if not source.is_file():
        raise SourceError(f"'{source}' is no file: name the scene's file with input=")
    name = source.suffix.lower().removeprefix(".")
    known = registry.scenes.names()
    if name not in known:
        raise ConfigError(
            f"input={source}: no scene's format '{source.suffix}'{closest(name, known)} (there "
            f"are: {', '.join(known)})"
        )
    return name


def places(config: Mapping[str, object], source: Path, run_folder: Path) -> Places:
    """Returns the files of a run, where nothing of anybody's is in their way."""
    given = config["output"]
    wanted = {key: None if config[key] is None else str(config[key]) for key in ENDINGS}
    if given is None:
        there = fresh(run_folder, source.stem, source.suffix, wanted)
    else:
        named = Path(str(given)).expanduser()
        there = Places(named, beside(named, wanted))
    for key, name in wanted.items():
        if name and Path(name).name != name:
            raise ConfigError(f"{key}={name} is no plain file name: it lies beside the output")
    output = there.output or run_folder
    if output.suffix.lower() != source.suffix.lower():
        raise ConfigError(
            f"output={output}: a scene keeps its format: say output={output.with_suffix('')}"
            f"{source.suffix}"
        )
    told = _told_pictures(there.beside.get("report"))
    ours = {path for path in there.beside.values() if path.name in told}
    check(there, source=source, overwrite=flag(config, "overwrite", default=False), ours=ours)
    return there


def _told_pictures(report: Path | None) -> list[str]:
    """Returns the names of the pictures that an earlier run of ours says that it wrote there."""
    if report is None or not is_marked(report):
        return []
    with suppress(OSError, ValueError):
        told = json.loads(report.read_bytes()).get("pictures")
        return [str(name) for name in told] if isinstance(told, list) else []
    return []
