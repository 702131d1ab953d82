"""What a person types, made into what Hydra's grammar takes.

Hydra rejects ordinary file names (``clip (1).mp4``, ``it's.mp4``, ``a,b.mp4``), so values that
name files are quoted before it sees them; and ``input=`` and ``output=`` choose the source and the
sink by what they name.
"""

import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cbs_core.errors import ConfigError
from cbs_core.registry import sinks, sources

PATH_KEYS = ("input", "output")
PATH_ENDINGS = (".weights", ".path", ".file")

DEFAULT_SINKS = {"image": "image", "sample": "image", "folder": "folder"}
"""The sink where ``output=`` is not given, by source; ``video`` for every other source."""


def normalise(argv: Sequence[str]) -> list[str]:
    """Returns the command line with file names quoted and source and sink chosen.

    Raises:
        ConfigError: a sweep (``-m``) over inputs of several kinds.
    """
    sweep = any(arg in ("-m", "--multirun") for arg in argv)
    given = dict(arg.split("=", 1) for arg in argv if "=" in arg and not arg.startswith("-"))
    out = [_quoted(arg, sweep=sweep) for arg in argv]
    chosen = []
    source = given.get("source")
    if source is None and "input" in given:
        source = _chosen(given["input"], source_for, sweep=sweep)
        chosen.append(f"source={source}")
    if "sink" not in given:
        if _is_null(given.get("output")):
            chosen.append(f"sink={DEFAULT_SINKS.get(source or 'sample', 'video')}")
        else:
            chosen.append(f"sink={_chosen(given['output'], sink_for, sweep=sweep)}")
    # Hydra's parser takes overrides in one run only, and `--info` takes the word that follows it.
    first = next((i for i, arg in enumerate(argv, 1) if "=" in arg and arg[0] != "-"), 0)
    return [*out[:first], *chosen, *out[first:]]


def source_for(path: str) -> str:
    """Returns the source that reads what ``input=`` names."""
    scheme = path.partition(":")[0]
    if _is_null(path):
        return "sample"
    if ":" in path and scheme in sources.names():
        return scheme
    if os.path.isdir(path):
        return "folder"
    return "image" if _is_picture(path) else "video"


def sink_for(path: str) -> str:
    """Returns the sink that writes what ``output=`` names: no suffix means a folder."""
    scheme = path.partition(":")[0]
    if ":" in path and scheme in sinks.names():
        return scheme
    if path.endswith(("/", os.sep)) or os.path.isdir(path) or not Path(path).suffix:
        return "folder"
    return "image" if _is_picture(path) else "video"


def quote(value: str) -> str:
    """Quotes a value for Hydra's grammar and for OmegaConf, which would read ``${...}``."""
    value = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
    return f"'{value}'"


def _is_null(value: str | None) -> bool:
    return value is None or value in ("", "null")


def _is_picture(path: str) -> bool:
    kind = mimetypes.guess_type(path, strict=False)[0] or ""
    # A GIF may move, and the video source reads one that does not as well.
    return kind.startswith("image/") and kind != "image/gif"


def _quoted(arg: str, *, sweep: bool) -> str:
    key, equals, value = arg.partition("=")
    plain_key = key.lstrip("+")
    if not equals or arg.startswith("-") or _is_null(value):
        return arg
    if plain_key not in PATH_KEYS and not plain_key.endswith(PATH_ENDINGS):
        return arg
    if not os.path.exists(value):
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            return arg  # quoted for Hydra already
        if sweep and "," in value:
            return arg
    return f"{key}={quote(value)}"


def _chosen(value: str, choose: Callable[[str], str], *, sweep: bool) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not os.path.exists(value):
        value = value[1:-1]
    values = value.split(",") if sweep and not os.path.exists(value) else [value]
    kinds = {choose(one) for one in values}
    if len(kinds) > 1:
        raise ConfigError(
            f"a sweep over {' and '.join(sorted(kinds))} at once: sweep over one kind at a time"
        )
    return kinds.pop()
