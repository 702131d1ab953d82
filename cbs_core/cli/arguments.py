"""What a person types, made into what Hydra's grammar takes.

Hydra rejects ordinary file names (``clip (1).mp4``, ``it's.mp4``, ``a,b.mp4``), so values that
name files are quoted before it sees them; and ``input=`` and ``output=`` choose the source and the
sink by what they name.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path

from cbs_core.choose import streams, userfiles
from cbs_core.choose.presets import conf_dir
from cbs_core.choose.registry import REGISTRIES
from cbs_core.cli.sweeps import MULTIRUN
from cbs_core.contract.errors import ConfigError, closest

FLAGS = {
    **dict.fromkeys(
        ["--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"], False
    ),
    **dict.fromkeys(["--multirun", "-m", "--shell-completion", "-sc", "--info", "-i"], False),
    **dict.fromkeys(["--cfg", "-c", "--package", "-p", "--config-path", "-cp"], True),
    **dict.fromkeys(["--config-name", "-cn", "--config-dir", "-cd"], True),
}
"""Hydra's flags, and whether the next word is their value. Not ``--experimental-rerun``, which
unpickles a file: that runs whatever code is in it."""

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""The words that may follow ``--info``."""

ENTRY = re.compile(r"""(?:'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|\{[^}]*\}|[^,'"{])+""")
"""One entry of a list of outputs: what stands between commas, but in quotes or braces."""

QUOTED_KEY = re.compile(r"""^\{.*?("[^"]*"|'[^']*')\s*:""")
"""A mapping with a quoted name, ``{"the dog's ball": wave}``, which Hydra's grammar has not."""

PATH_KEYS = ("input", "output", "output_matte", "data", "init", "painting", "remake")
PATH_ENDINGS = (".weights", ".path", ".file", ".spec", ".preview", ".unlabelled")

STYLE_ENDING = ".style"
"""A style is a file or else a name, a number or a list of files, which stay as they are."""

FILE_OR_WORD = ("style", "resume", "teacher", "routes", "cameras")
"""Likewise."""


MOST_LEVELS = 40
"""Of brackets in a value: Hydra's parser calls itself for each."""


def _levels(text: str) -> int:
    """Returns how deep brackets lie in each other, those in quotes too."""
    deepest = level = 0
    for sign in text:
        level = max(level + (sign in "[{(") - (sign in ")}]"), 0)
        deepest = max(deepest, level)
    return deepest


def normalise(argv: Sequence[str], *, streamed: bool = True) -> list[str]:
    """Returns the command line with file names quoted and source and sink chosen.

    Args:
        argv: the arguments as typed.
        streamed: whether the command has a source and a sink.

    Raises:
        ConfigError: an unknown flag, an empty file name, or a sweep (``-m``) over inputs of
            several kinds or into a folder that has one.
    """
    flags, overrides = _separated(argv)
    sweep = "-m" in flags or "--multirun" in flags
    given = dict(arg.lstrip("+").split("=", 1) for arg in overrides if "=" in arg)
    for key in PATH_KEYS:
        if given.get(key) in ("", "''", '""'):
            raise ConfigError(f"{key}= names nothing: name a file or a folder, or leave it out")
    for arg in overrides:
        if userfiles.ENDLESS.search(arg):
            raise ConfigError(f"{arg[:40]}... is a number of a thousand digits and more")
        if (deep := _levels(arg)) > MOST_LEVELS:
            raise ConfigError(
                f"{arg[:40]}... has brackets of {deep} levels: a value has {MOST_LEVELS} at most"
            )
    for kind in REGISTRIES.keys() & {key for key, value in given.items() if value == "null"}:
        if kind != "sink":
            raise ConfigError(f"{kind}=null chooses no plugin: say {kind}=NAME, or leave it out")
    lists = ("output",) if streamed else ("input", "output")
    quoted = [_quoted(arg, sweep=sweep, lists=lists) for arg in overrides]
    named = {**_job_file(flags), **given}
    chosen = _chosen_plugins(named, sweep=sweep) if streamed else []
    if sweep:
        _check_sweep_folder(given.get("hydra.sweep.dir"))
    if sweep and given.get("quiet", "").lower() == "true":
        chosen.append("hydra.hydra_logging.root.level=WARNING")
    # Hydra's parser takes overrides in one run only, and `--info` takes the word that follows it.
    return [*quoted, *chosen, *flags]


def _check_sweep_folder(folder: str | None) -> None:
    """Refuses a folder in which Hydra would write over the list of a sweep, or a user's file."""
    if folder and (Path(folder.strip("'\"")).expanduser() / MULTIRUN).exists():
        raise ConfigError(
            f"'{folder}' has a {MULTIRUN} already: name another folder by hydra.sweep.dir="
        )


def _separated(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags with their values, and the overrides.

    Raises:
        ConfigError: an unknown flag.
    """
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            is_value = bool(flags) and flags[-1] in ("--info", "-i") and word in INFO
            (flags if is_value else overrides).append(word)
            continue
        name, equals, _ = word.partition("=")
        flag = name if name in FLAGS else next((f for f in FLAGS if f.startswith(name)), None)
        if flag is None:
            raise ConfigError(
                f"no flag '{word}'{closest(name, FLAGS)}: options are given as KEY=VALUE without "
                "dashes, such as input=photo.jpg; --help lists them"
            )
        if flag in ("--config-path", "-cp"):
            # Hydra would put that folder in the place of ours, and read it from beside our code.
            word = f"--config-dir{equals}{word.partition('=')[2]}"
        flags.append(word)
        if FLAGS[flag] and not equals:
            flags.extend(islice(words, 1))
    return flags, overrides


def _job_file(flags: Sequence[str]) -> dict[str, str]:
    """Returns what a file of the user's says of the streams: its input, output, source and sink.

    Raises:
        ConfigError: the file cannot be used, or has the name of one of ours, which goes first.
    """
    words = [part for flag in flags for part in flag.split("=", 1)]
    values = dict(pairwise(words))
    folder = next((values[key] for key in ("--config-dir", "-cd") if key in values), None)
    name = next((values[key] for key in ("--config-name", "-cn") if key in values), None)
    if folder is None or name is None:
        return {}
    file = Path(folder).expanduser() / f"{name.removesuffix('.yaml')}.yaml"
    if not file.is_file():
        return {}  # Hydra says so
    if (conf_dir() / file.name).is_file():
        raise ConfigError(f"'{file}' has the name of one of this program's own: rename it")
    content = userfiles.read(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("defaults"), list):
        raise ConfigError(f"'{file}' must begin with 'defaults: [config, _self_]'")
    said = {
        str(key).removeprefix("override ").lstrip("/"): value
        for entry in content["defaults"]
        if isinstance(entry, Mapping)
        for key, value in entry.items()
    }
    named = {key: content[key] for key in ("input", "output") if content.get(key)}
    chosen = {key: said[key] for key in ("source", "sink") if said.get(key)}
    return {key: str(value) for key, value in {**named, **chosen}.items() if "${" not in str(value)}


def _chosen_plugins(given: Mapping[str, str], *, sweep: bool) -> list[str]:
    if not given.keys() & {"input", "output", "source"}:
        return []  # whatever the configuration says
    chosen = []
    source = given.get("source")
    if source is None and "input" in given:
        source = _chosen(given["input"], streams.source_for, sweep=sweep)
        chosen.append(f"source={source}")
    if "sink" not in given:
        if _is_null(given.get("output")):
            source = source or streams.that_takes("source", "nothing")
            chosen.append(f"sink={streams.sink_of(source)}")
        elif (several := _entries(given["output"])) is not None:
            # `sink.KEY=` is for the first of them, unless `sink=` says another.
            first = next((one for one in several if not one.startswith("{")), None)
            chosen += (
                [] if first is None else [f"sink={_chosen(first, streams.sink_for, sweep=False)}"]
            )
        else:
            chosen.append(f"sink={_chosen(given['output'], streams.sink_for, sweep=sweep)}")
    return chosen


def quote(value: str) -> str:
    """Quotes a value for Hydra's grammar and for OmegaConf, which would read ``${...}``."""
    value = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
    return f"'{value}'"


def _entries(value: str) -> list[str] | None:
    """Returns the entries of ``[window, out.mp4]``; None where it is no list."""
    if not (value.startswith("[") and value.endswith("]")) or _exists(value):
        return None
    return [entry.strip() for entry in ENTRY.findall(value[1:-1]) if entry.strip()]


def _is_null(value: str | None) -> bool:
    return value is None or value == "null"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _exists(value: str) -> bool:
    return os.path.exists(os.path.expanduser(value))


def _quoted(arg: str, *, sweep: bool, lists: Sequence[str]) -> str:
    key, equals, value = arg.partition("=")
    plain_key = key.lstrip("+")
    if arg == "sink=null":
        return "sink='null'"  # unquoted, Hydra takes it for no value
    if not equals or arg.startswith("-") or _is_null(value) or value == "???":
        return arg
    if plain_key == "select" and not sweep and re.fullmatch(r"\s*-?\d+\s*,\s*-?\d+\s*", value):
        return f"{key}='{value}'"  # a point; unquoted, Hydra takes it for a sweep
    if plain_key == "routes" and QUOTED_KEY.search(value):
        return f"{key}={quote(value)}"  # `cbs_core.cli.keys` reads it
    may_be_file = plain_key.endswith(STYLE_ENDING) or plain_key in FILE_OR_WORD
    style_file = may_be_file and _exists(value)
    if plain_key not in PATH_KEYS and not plain_key.endswith(PATH_ENDINGS) and not style_file:
        return arg
    if not _exists(value):
        several = _entries(value) if plain_key in lists else None
        if several is not None:
            kept = (one if one[0] in "'\"{" else quote(one) for one in several)
            return f"{key}=[{','.join(kept)}]"
        if _is_quoted(value):
            return arg  # for Hydra already
        if sweep and "," in value:
            parts = value.split(",")
            return f"{key}={','.join(map(quote, parts))}" if all(map(_exists, parts)) else arg
    return f"{key}={quote(value)}"


def _chosen(value: str, choose: Callable[[str], str], *, sweep: bool) -> str:
    if _is_quoted(value) and not _exists(value):
        value = value[1:-1]
    values = value.split(",") if sweep and not _exists(value) else [value]
    kinds = {choose(one) for one in values}
    if len(kinds) > 1:
        raise ConfigError(
            f"a sweep over {' and '.join(sorted(kinds))} at once: sweep over one kind at a time"
        )
    return kinds.pop()
