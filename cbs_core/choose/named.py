"""What a plugin's parameters name, and how large they may be: told before it is imported.

Each package of plugins may say so in ``conf/named.yaml``; the project's own file is the example.
Nothing is imported, and a broken file of a stranger costs nothing: whoever loads the plugin tells.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from cbs_core.choose import knowing, presets, weights
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.machine.inputs import input_file
from cbs_core.words import vocabularies

FILE = "named.yaml"

RANGE = re.compile(r"(above )?(-?[\d.e-]+?)(?:\.\.([\d.e]+)?)?")
"""Of a number: ``1..256``, ``0.001..`` or ``above 0``."""

DUE, USUAL, WORDS, EITHER = "due ", " or ", "|", "_or_"
"""``due picture``: one must be given; ``weights or wave``: this where none is; ``v1|v2``: one of
these words; ``0..25_or_picture``: a number, which may be a text, or else a picture."""


def check(kind: str, name: str, params: Mapping[str, object], *, whole: bool = False) -> None:
    """Refuses what is not there and what is too large or small, as far as that is declared.

    Args:
        kind: ``styler``, ``segmenter``, ...
        name: of the plugin.
        params: what it is given; what is of another type is left to the plugin.
        whole: whether that is all that it is given, so that what is missing is told too.

    Raises:
        WeightsMissingError: no such weights, with the closest name.
        SourceError: no such picture.
        ConfigError: a number out of range, a word that is none, or nothing where something is due.
    """
    for key, said in declared(kind, name):
        what, _, usual = said.removeprefix(DUE).partition(USUAL)
        value = params.get(key)
        if whole and (value is None or value == []):
            if said.startswith(DUE):
                example = "NAME" if what == "text" else what.rpartition("_")[2].upper()
                raise ConfigError(
                    f"{kind}={name} has no {key} of its own: give {kind}.{key}={example}"
                )
            if what == "net":
                vocabulary = params.get("vocabulary")
                knowing.find_weights(name, None if vocabulary is None else str(vocabulary))
            elif usual:
                _weights(kind, name, params, usual)
        number, _, other = what.partition(EITHER)
        for one in value if isinstance(value, list) else [value]:
            if other and str(one).lstrip("-").isdecimal():
                _number(f"{kind}.{key}", int(str(one)), RANGE.fullmatch(number))
            elif isinstance(one, str) and one and WORDS in what:
                _word(f"{kind}.{key}", one, what.split(WORDS))
            elif isinstance(one, str) and one and (other or what) in _CHECKS:
                _CHECKS[other or what](kind, name, params, one)
            elif isinstance(one, int | float) and (found := RANGE.fullmatch(what)):
                _number(f"{kind}.{key}", one, found)


def _word(key: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise ConfigError(
            f"{key}={word} is unknown{closest(word, known)} (there are: {', '.join(known)})"
        )


def _number(key: str, value: float, given: re.Match[str] | None) -> None:
    if given is None:
        return  # a stranger's file may be anything
    least, most = float(given[2]), float(given[3] or math.inf)
    if value <= least if given[1] else not least <= value <= most:
        within = f"above {given[2]}" if given[1] else f"at least {given[2]}"
        within = f"{given[2]} to {given[3]}" if given[3] else within
        raise ConfigError(f"{key} must be {within}, not {value}")


def _weights(kind: str, name: str, params: Mapping[str, object], style: str) -> None:
    if not params.get("weights"):
        weights.find(name, style, flag=f"{kind}.weights")


def _file(_kind: str, _name: str, _params: Mapping[str, object], path: str) -> None:
    weights.there(path)


def _picture(_kind: str, _name: str, _params: Mapping[str, object], path: str) -> None:
    input_file(path)


def _vocabulary(_kind: str, _name: str, _params: Mapping[str, object], name: str) -> None:
    vocabularies.get(name)


_CHECKS: Mapping[str, Callable[[str, str, Mapping[str, object], str], None]] = {
    "weights": _weights,
    "file": _file,
    "net": _file,
    "vocabulary": _vocabulary,
    "picture": _picture,
}


def declared(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """Yields the parameters of a plugin that name something, and what.

    Args:
        kind: ``styler``, ``segmenter``, ...; or ``train``, for what a plugin is trained with.
        name: of the plugin.
    """
    for folder in presets.preset_dirs().values():
        file = folder / FILE
        try:
            said = presets.loaded(file)[kind][name] if file.is_file() else {}
        except Exception:  # a stranger's file may be anything
            continue
        for key, what in said.items() if isinstance(said, Mapping) else ():
            yield str(key), str(what)
