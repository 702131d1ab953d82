"""Which source reads what ``input=`` names, and which sink writes what ``output=`` names.

Each package of plugins may say so in ``conf/streams.yaml``; the project's own file is the example.
Nothing is imported, and a broken file of a stranger costs nothing: `problems` tells of it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cbs_core.choose.presets import preset_dirs
from cbs_core.choose.registry import sinks, sources
from cbs_core.contract.errors import ConfigError, SinkError, closest
from cbs_core.machine import stores

FILE = "streams.yaml"

KEYS = {
    "source": {
        **{"suffixes": list, "folders": bool, "nothing": bool, "others": bool, "sink": str},
        **{"bare": bool, "schemes": list, "still": bool, "stores": bool, "light": bool},
        **{"begins": list},
    },
    "sink": {
        **{"suffixes": list, "folders": bool, "others": bool, "unnamed": str, "writes": list},
        **{"bare": bool, "schemes": list, "unnamed_by": dict, "writes_by": dict, "values": dict},
        **{"light": bool, "transparent": list},
    },
}
"""What may be said of a plugin of each kind, and the type of it."""

_HEAD = 16
"""Bytes of a file that tell what it is."""

Said = Mapping[str, Any]
"""What a file says of one plugin: some of `KEYS`."""


def source_for(path: str | None) -> str:
    """Returns the source that reads what ``input=`` names; None or ``null`` is nothing.

    Raises:
        ConfigError: a URL that no source takes.
    """
    if path is None or path == "null":
        return that_takes("source", "nothing")
    scheme = path.partition(":")[0]
    if ":" in path and scheme in sources.names():
        return scheme
    if (found := _no_file("source", path)) is not None:
        return found
    if path.startswith(f"{scheme}://"):
        raise ConfigError(
            f"no source reads '{scheme}://': {_batch(path, *stores.EXTRAS)}name a file or a "
            "folder as input="
        )
    if os.path.isdir(os.path.expanduser(path)):
        return that_takes("source", "folders")
    suffix = Path(path).suffix
    return for_suffix("source", suffix) if suffix else _for_content(Path(os.path.expanduser(path)))


def _for_content(file: Path) -> str:
    """Returns the source of a file whose name tells none, by what it begins with."""
    head = b""
    with suppress(OSError):
        if file.is_file():  # a pipe is not read
            with file.open("rb") as opened:
                head = opened.read(_HEAD)
    for name, said in _declared("source"):
        for one in said.get("begins", ()):
            with suppress(TypeError, ValueError):  # a stranger's file may be anything
                if (begin := bytes.fromhex(one)) and head.startswith(begin):
                    return name
    return that_takes("source", "others")


def sink_for(path: str) -> str:
    """Returns the sink that writes what ``output=`` names: no suffix means a folder.

    Raises:
        ConfigError: a URL that no sink takes, or a suffix without a name.
    """
    scheme = path.partition(":")[0]
    if ":" in path and scheme in sinks.names():
        return scheme
    if (found := _no_file("sink", path)) is not None:
        return found
    if path.startswith(f"{scheme}://"):
        raise ConfigError(
            f"no sink writes to '{scheme}://': {_batch(path, *stores.WRITTEN)}name a file or a "
            "folder as output="
        )
    is_dir = path.endswith(("/", os.sep)) or os.path.isdir(os.path.expanduser(path))
    name = Path(path).name
    if not is_dir and name.lower() in writable_suffixes():
        raise ConfigError(f"'{path}' is a suffix alone: say output=NAME{name}")
    if is_dir or not Path(path).suffix:
        return that_takes("sink", "folders")
    return for_suffix("sink", Path(path).suffix)


def _batch(path: str, *schemes: str) -> str:
    return "cbs-batch does; or " if path.partition("://")[0].lower() in schemes else ""


def for_suffix(kind: str, suffix: str) -> str:
    """Returns the plugin of a kind for a file's suffix, else the one for all others.

    Args:
        kind: ``source`` or ``sink``.
        suffix: with its dot, in any case; may be empty.
    """
    for name, said in _declared(kind):
        if suffix.lower() in said.get("suffixes", ()):
            return name
    return that_takes(kind, "others")


def that_takes(kind: str, what: str) -> str:
    """Returns the plugin of a kind that takes ``folders``, ``nothing`` or ``others``.

    Raises:
        ConfigError: no package declares one.
    """
    for name, said in _declared(kind):
        if said.get(what):
            return name
    raise ConfigError(f"no {kind} is declared for {what}: say {kind}=NAME")


def sink_of(source: str) -> str:
    """Returns the sink of a source where ``output=`` is not given."""
    said = dict(reversed(_declared("source"))).get(source, {})
    return str(said.get("sink") or that_takes("sink", "others"))


def unnamed(sink: str, params: Mapping[str, object] | None = None) -> str:
    """Returns the suffix of an output that was not named; empty for a sink that writes a folder.

    Args:
        sink: its name.
        params: what it is given; a value of one may ask for a suffix of its own.
    """
    said = dict(reversed(_declared("sink"))).get(sink, {})
    for key, suffixes in said.get("unnamed_by", {}).items():
        suffix = suffixes.get(str((params or {}).get(key))) if isinstance(suffixes, dict) else None
        if suffix is not None:
            return str(suffix)
    return str(said.get("unnamed", ""))


def check_output(
    sink: str, path: str, params: Mapping[str, object], *, transparent: bool = False
) -> None:
    """Refuses what a sink says that it does not write.

    Args:
        sink: its name.
        path: of the output, or empty.
        params: what the sink is given.
        transparent: whether pictures are cut out.

    Raises:
        SinkError: with what it writes.
    """
    said = dict(reversed(_declared("sink"))).get(sink, {})
    for key, known in said.get("values", {}).items():
        value = params.get(key)
        if value is not None and str(value).lower() not in known:
            raise SinkError(
                f"sink.{key}={value} is unknown{closest(str(value), known) or ':'} choose one of "
                f"{', '.join(known)}"
            )
    suffix = Path(path).suffix
    if not path:
        return
    if suffix.lower() not in said.get("writes", [suffix.lower()]):
        known = writable_suffixes()
        near = (suffix.lower() not in known and closest(suffix, known)) or ":"
        ending = ", or end it with / for a folder" if said.get("others") else ""
        raise SinkError(
            f"'{path}' has the suffix '{suffix}', which sink={sink} does not write{near} choose "
            f"one of {', '.join(said['writes'])}{ending}"
        )
    if transparent and suffix.lower() not in said.get("transparent", [suffix.lower()]):
        raise SinkError(
            f"'{path}' holds no transparency, which cutout=true writes: choose one of "
            f"{', '.join(said['transparent'])}, or a folder of PNGs"
        )
    for key, by in said.get("writes_by", {}).items():
        known = by.get(str(params.get(key))) if isinstance(by, dict) else None
        if known is not None and suffix.lower() not in known:
            raise SinkError(
                f"'{path}' has the suffix '{suffix}', which cannot hold {params[key]}: choose one "
                f"of {', '.join(known)}, or another sink.{key}"
            )


def written(sink: str) -> list[str]:
    """Returns the suffixes of the files that a sink says it writes."""
    return [*dict(reversed(_declared("sink"))).get(sink, {}).get("writes", ())]


def writable_suffixes() -> list[str]:
    """Returns the suffixes of all files that sinks say they write."""
    return [suffix for _, said in _declared("sink") for suffix in said.get("writes", ())]


def suffixes(kind: str) -> frozenset[str]:
    """Returns every suffix that some plugin of a kind names."""
    return frozenset(one for _, said in _declared(kind) for one in said.get("suffixes", ()))


def is_still(source: str) -> bool:
    """Tells whether each file that a source reads is one picture."""
    return bool(dict(reversed(_declared("source"))).get(source, {}).get("still"))


def is_light(kind: str, name: str) -> bool:
    """Tells whether a plugin is imported without torch, and does nothing before it is opened."""
    return bool(dict(reversed(_declared(kind))).get(name, {}).get("light"))


def reads_stores(source: str) -> bool:
    """Tells whether a source takes a file's address in a store, and reads it by ranges."""
    return bool(dict(reversed(_declared("source"))).get(source, {}).get("stores"))


def is_for_files(kind: str, name: str) -> bool:
    """Whether what a plugin is given is a file or a folder, and no device and no address."""
    said = dict(reversed(_declared(kind))).get(name, {})
    return not (said.get("bare") or said.get("schemes"))


def _no_file(kind: str, path: str) -> str | None:
    """Returns the plugin that is chosen by its bare name, or by a URL's scheme."""
    if os.path.exists(os.path.expanduser(path)):
        return None
    scheme = path.partition("://")[0].lower() if "://" in path else ""
    for name, said in _declared(kind):
        if (said.get("bare") and path == name) or scheme in said.get("schemes", ()):
            return name
    return None


def by_path(kind: str, name: str) -> Said | None:
    """Returns what is said of a plugin that is chosen by a file's name; None of any other."""
    said = dict(reversed(_declared(kind))).get(name, {})
    return said if said.keys() & {"suffixes", "folders", "others"} else None


def writes_folder(sink: str) -> bool:
    """Tells whether a sink's output is a folder."""
    return bool(dict(reversed(_declared("sink"))).get(sink, {}).get("folders"))


def problems() -> Iterator[str]:
    """Yields what is wrong with strangers' files, a line each."""
    for folder in preset_dirs().values():
        try:
            _read(folder / FILE)
        except ConfigError as error:
            yield str(error)


def _declared(kind: str) -> list[tuple[str, Said]]:
    found: list[tuple[str, Said]] = []
    for folder in preset_dirs().values():
        try:
            found += _read(folder / FILE).get(kind, {}).items()
        except ConfigError:  # told by `problems`; a package that nobody chose may not end a run
            continue
    return found


@cache
def _read(file: Path) -> Mapping[str, Mapping[str, Said]]:
    """Returns what a file says, checked; nothing where there is none.

    Raises:
        ConfigError: it is no YAML, or says what is not known.
    """
    import yaml  # type: ignore[import-untyped]

    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigError(f"'{file}' cannot be read: {' '.join(str(error).split())}") from error
    shown = f"'{file}' must say {' and '.join(KEYS)}, each with plugins and {{suffixes: [.abc]}}"
    if not isinstance(content, dict) or not content.keys() <= KEYS.keys():
        raise ConfigError(shown)
    for kind, plugins in content.items():
        if not isinstance(plugins, dict):
            raise ConfigError(shown)
        for name, said in plugins.items():
            if not isinstance(said, dict):
                raise ConfigError(shown)
            for key, value in said.items():
                if key not in KEYS[kind] or not isinstance(value, KEYS[kind][key]):
                    raise ConfigError(f"'{file}': {kind} {name}: '{key}: {value}' is not known")
    return content
