"""Configuration files of a user's own: they set this program's keys, and run nothing.

People share looks as YAML, and Hydra's own keys can call any function (``_target_``, ``()``), write
anywhere and start processes. What is installed with a package is trusted, as its code is; all else
is read here first, before Hydra or OmegaConf sees it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cbs_core.contract.errors import ConfigError

SIZE, NODES, DEPTH = 65536, 10_000, 40
"""Bytes of a file; values in it, each alias counted as what it stands for; levels."""

HYDRA = ("run.dir", "sweep.dir", "sweep.subdir", "output_subdir", "verbose")
"""Hydra's keys that a file may set; folders lie below the working folder."""

TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
}

JOB_NUMBER = "${hydra.job.num}"
"""What ``hydra.sweep.subdir`` may hold beside plain names."""

ENDLESS = re.compile(r"[\d_]{1000}")
"""A number that Python does not even read (more than 4300 digits), and nothing is counted by."""

LONGEST = 1_000_000
"""Characters of a configuration, each interpolation counted as what it stands for."""

PLAIN = re.compile(r"\$\{\s*([\w.\[\]-]+)\s*\}")
"""An interpolation that names a key and calls no resolver."""


def check(file: Path, *, config_path: str = "", package: str | None = None) -> None:
    """Reads a file of a user's and refuses what is more than settings.

    Args:
        file: the file.
        config_path: its name as Hydra has it, which may begin with a group.
        package: of its ``# @package`` line.

    Raises:
        ConfigError: with the file, the line and the key.
    """
    if "hydra" in config_path.split("/") or "hydra" in (package or "").split("."):
        raise ConfigError(f"'{file}': a file may not set Hydra's own keys ({package or 'hydra/'})")
    root = _nodes(file)
    if root is None:
        return
    for path, node, key in _walk(root, (), file):
        if wrong := _wrong(path, node, key):
            dotted = ".".join(path) or "the file"
            line = node.start_mark.line + 1
            raise ConfigError(f"'{file}', line {line}: '{dotted}' {wrong}")


def check_length(config: Mapping[str, object]) -> None:
    """Refuses a configuration whose interpolations stand for more than anybody means.

    Ten that each name the next ten times are a bomb, which only OmegaConf would set off.

    Args:
        config: plain values, not resolved, of whichever files.

    Raises:
        ConfigError: it would be too long.
    """
    known: dict[tuple[str, ...], int] = {}

    def length(path: tuple[str, ...], value: object) -> int:
        if path in known:
            return known[path]
        known[path] = 0  # of what leads back to itself, which is told when it is resolved
        if isinstance(value, Mapping):
            found = sum(length((*path, str(key)), one) for key, one in value.items())
        elif isinstance(value, list):
            found = sum(length((*path, str(place)), one) for place, one in enumerate(value))
        else:
            text = str(value)
            found = len(text)
            for named in PLAIN.findall(text):
                target = _target(named, path)
                found += length(target, _at(config, target))
        known[path] = found + 1
        if found > LONGEST:
            raise ConfigError(
                f"'{'.'.join(path)}' stands for more than {LONGEST} characters, by values that "
                "take each other's (${...}): write it out"
            )
        return found + 1

    try:
        length((), config)
    except RecursionError as error:
        raise ConfigError(
            "values of the configuration take each other's (${...}) hundreds of times in a row: "
            "write them out"
        ) from error


def _target(named: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """Returns where an interpolation leads: ``a.b``, ``a[0]``, or from a place, ``.b``, ``..b``."""
    up = len(named) - len(named.lstrip("."))
    parts = tuple(filter(None, re.split(r"[.\[\]]+", named)))
    return (*path[: len(path) - up], *parts) if up else parts


def _at(value: object, path: tuple[str, ...]) -> object:
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None  # OmegaConf tells that it is not there
    return value


def read(file: Path) -> object:
    """Returns a file's content as plain values, checked; nothing in it is interpolated.

    Raises:
        ConfigError: it is not there, is no YAML, or holds more than settings.
    """
    from omegaconf import OmegaConf

    if not file.is_file():
        raise ConfigError(f"there is no file '{file}': check its path")
    check(file)
    try:
        return OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except OSError as error:  # OmegaConf's word for a file that holds one value
        raise ConfigError(f"'{file}' holds no mapping and no list") from error


def values(file: Path) -> object:
    """Returns the plain values of a YAML that comes with weights or pictures, in `check`'s bounds.

    Raises:
        ConfigError: it is no YAML, larger than any such file, or holds more than plain values.
        FileNotFoundError: it is not there.
    """
    import yaml  # type: ignore[import-untyped]

    if file.exists() and not file.is_file():  # a pipe would never be read to its end
        raise ConfigError(f"'{file}' is no file: check its path")
    if not file.exists():
        raise FileNotFoundError(file)
    root = _nodes(file)
    try:
        return None if root is None else yaml.constructor.SafeConstructor().construct_document(root)
    except (yaml.YAMLError, ValueError) as error:  # of a date, a long number
        raise ConfigError(f"'{file}' is no YAML ({' '.join(str(error).split())})") from error


def inline(key: str, text: str) -> object:
    """Returns the plain values of a text in YAML's short form, ``{"the dog's ball": wave}``.

    Raises:
        ConfigError: it is none.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"{key}={text} cannot be read: check its brackets and quotes, and put all of it in "
            f"quotes, as in '{key}={{\"red car\": wave}}'"
        ) from error


def _nodes(file: Path) -> Any:
    """Returns the YAML graph of a file, bounded; None where it is empty."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with file.open("rb") as opened:
            data = opened.read(SIZE + 1)
        if len(data) > SIZE:
            raise ConfigError(f"'{file}' has more than {SIZE} bytes: it is no configuration file")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{file}' cannot be read ({error}): check it") from error
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            # Before the graph is built, which goes as deep as the file does.
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise ConfigError(f"'{file}' is nested more than {DEPTH} levels deep: flatten it")
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        told = f"'{file}', line {line}, is no YAML ({error.problem}): mend that line"
        raise ConfigError(told) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{file}' is no YAML ({error}): mend it") from error
    if root is not None:
        _measure(root, file, {})
    return root


def _children(node: Any) -> list[Any]:
    """Returns the nodes right below one; a scalar has none."""
    if isinstance(node.value, str):
        return []
    return [one for entry in node.value for one in (entry if isinstance(entry, tuple) else [entry])]


def _measure(node: Any, file: Path, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Returns how many nodes there are, and how deep, where every alias is what it stands for."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise ConfigError(f"'{file}' holds an alias of what it lies in: write it out")
        return found
    known[id(node)] = None
    below = [_measure(child, file, known) for child in _children(node)]
    count = 1 + sum(number for number, _ in below)
    depth = 1 + max((levels for _, levels in below), default=0)
    if count > NODES or depth > DEPTH + 1:
        raise ConfigError(
            f"'{file}' stands for more than {NODES} values or {DEPTH} levels: it is no "
            "configuration file"
        )
    known[id(node)] = count, depth
    return count, depth


def _walk(
    node: Any, path: tuple[str, ...], file: Path
) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Yields every node with its path, and whether it is a key."""
    from yaml import MappingNode

    yield path, node, False
    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = key.value if isinstance(key.value, str) else "?"
            below = (*path, name)
            if name in seen and name != "<<":
                line = key.start_mark.line + 1
                raise ConfigError(f"'{file}', line {line}: '{name}' is said twice: keep one")
            seen.add(name)
            yield below, key, True
            yield from _walk(value, path if name == "<<" else below, file)
    else:
        for place, child in enumerate(_children(node)):
            yield from _walk(child, (*path, str(place)), file)


def _wrong(path: tuple[str, ...], node: Any, key: bool) -> str:
    """Returns what is wrong with a node, if anything is."""
    text = node.value if isinstance(node.value, str) else ""
    if node.tag not in TAGS:
        return f"has the tag {node.tag}: a file holds plain values only"
    if key and (re.fullmatch(r"_\w*_", text) or text == "()" or "$" in text):
        return "may not come from a file: it could run code"
    if "${" in PLAIN.sub("", text):
        return "may take another key's value, as ${input} does, and nothing else"
    if "\0" in text:
        return "holds a null byte, which no name does"
    if ENDLESS.search(text):
        return "is a number of a thousand digits and more"
    if path[:1] == ("defaults",):
        return _wrong_default(text) or _no_default(path, node)
    if re.match(r"hydra\b", path[0] if path else ""):
        return _wrong_hydra(".".join(path), text, key or not isinstance(node.value, str))
    return ""


def _wrong_default(text: str) -> str:
    words = re.split(r"[/@.:\s]+", text)
    if "hydra" in words or ".." in text.split("/"):
        return f"may not choose '{text}': a file's defaults are this program's plugins and files"
    return ""


def _no_default(path: tuple[str, ...], node: Any) -> str:
    """Returns what is wrong with the form of an entry, of which Hydra makes an error of its own."""
    from yaml import MappingNode, SequenceNode

    if len(path) != 2 or isinstance(node.value, str):
        return ""
    if isinstance(node, MappingNode) and len(node.value) == 1:
        ((_, chosen),) = node.value
        names = chosen.value if isinstance(chosen, SequenceNode) else [chosen]
        if all(isinstance(name.value, str) for name in names):
            return ""
    return "is no choice: write 'config', or 'override KIND: NAME'"


def _wrong_hydra(dotted: str, text: str, is_section: bool) -> str:
    name = dotted.removeprefix("hydra").removeprefix(".")
    allowed = any(f"{one}.".startswith(f"{name}.") or not name for one in HYDRA)
    inside = name in HYDRA or name.startswith("verbose.")
    if not (allowed or inside):
        may = ", ".join(f"hydra.{one}" for one in HYDRA)
        return f"may not come from a file; of Hydra's own keys these may: {may}"
    if is_section or name.startswith("verbose") or not inside:
        return "" if is_section or inside else "must be a section of keys"
    value = text.replace(JOB_NUMBER, "0")
    # Below the working folder; a link that leads out of it was put there by its owner.
    if "$" in value or "~" in value or os.path.isabs(value) or ".." in value.split("/"):
        return f"must lie below the working folder, and '{text}' may not"
    return ""
