"""What Hydra does around a run: sweeps (``-m``) with one output, and run folders left empty."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.choose import streams
from cbs_core.machine.addresses import masked
from cbs_core.machine.files import replace

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

MULTIRUN = "multirun.yaml"
"""What Hydra writes into a sweep's folder: all that was typed."""

BEGUN = time.time()
"""When this module was imported: before Hydra makes a folder."""


def tell_apart(config: "DictConfig", argv: Sequence[str]) -> None:
    """Names the output of each run of a sweep by what is its own: ``out.png``, ``out.wave.png``.

    A folder has a folder for each. An output that is itself swept over stays as it is.

    Args:
        config: of one run; changed.
        argv: the arguments of the sweep.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    _mask(Path(hydra.sweep.dir) / MULTIRUN)
    if not config.get("output"):
        return
    words = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    swept = {
        override.get_key_element().lstrip("+"): _labels(override)
        for override in OverridesParser.create().parse_overrides(words)
        if override.is_sweep_override() and override.is_discrete_sweep()
    }
    if "output" in swept:
        return
    own = dict(text.lstrip("+").split("=", 1) for text in hydra.overrides.task)
    labels = [swept[key].get(own[key], own[key]) for key in swept if key in own]
    label = ".".join(labels) or str(hydra.job.num)
    if isinstance(config.output, str):
        sink = config.get("sink")
        config.output = _own(config.output, label, str(sink.name) if sink else None)
        return
    config.output = [
        {**one, "path": _own(str(one["path"]), label, str(one.get("name")))}
        if isinstance(one, Mapping) and one.get("path")
        else _own(str(one), label, streams.sink_for(str(one)))
        for one in config.output
    ]


def _mask(file: Path) -> None:
    """Takes passwords and keys of addresses out of what Hydra keeps of a sweep."""
    with suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8")
        if (plain := masked(text)) != text:
            replace(file, lambda opened: opened.write(plain.encode()))


def _own(output: str, label: str, sink: str | None) -> str:
    """Returns an output's name with a label in it, where its sink writes a file or a folder.

    Args:
        output: what ``output=`` names.
        label: of one run.
        sink: its plugin; None of a command without sinks.
    """
    if "://" in output:
        return output
    prefix = f"{sink}:" if sink is not None and output.startswith(f"{sink}:") else ""
    path = Path(output.removeprefix(prefix))
    if sink is None:
        return str(_inserted(path, label))
    if not streams.is_for_files("sink", sink):
        return output
    return prefix + str(path / label if streams.writes_folder(sink) else _inserted(path, label))


def _labels(override: "Override") -> dict[str, str]:
    """Returns a short name, different from the others', for each value of a sweep."""
    values = list(override.sweep_string_iterator())
    plain = [value.strip("'\"") for value in values]
    for short in (lambda text: Path(text).stem if "/" in text or _is_file(text) else text, str):
        names = [re.sub(r"[^\w.=+-]+", "-", short(text)).strip(".-") for text in plain]
        if all(names) and len(set(names)) == len(names):
            return dict(zip(values, names, strict=True))
    return {value: str(place) for place, value in enumerate(values)}


def _is_file(text: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(text).expanduser().is_file()
    return False


def _inserted(output: Path, label: str) -> Path:
    return output.with_name(f"{output.stem}.{label}{output.suffix}")


def make_no_folder_yet() -> None:
    """Removes the folder that Hydra made for a run, until something is written into it.

    A process that is killed leaves none that is empty. In a sweep Hydra keeps a file in it.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode != RunMode.MULTIRUN:
        leave_no_empty_folder()


def leave_no_empty_folder() -> None:
    """Removes the folder that Hydra made for a run, where nothing was written into it."""
    from hydra.core.hydra_config import HydraConfig

    hydra, here = HydraConfig.get(), Path.cwd()
    folder = Path(hydra.runtime.output_dir)
    if folder == here or not folder.is_relative_to(here):
        return
    with suppress(OSError):  # one that holds other things
        if folder.stat().st_mtime < int(BEGUN):
            return  # it was there before
        folder.rmdir()
        for above in folder.parents:
            if above == here:
                return
            sweep = above / MULTIRUN
            if [*above.iterdir()] == [sweep] and sweep.stat().st_mtime >= int(BEGUN):
                sweep.unlink()
            above.rmdir()
