"""Which segmenter knows a word: of the weight files in reach, and of those one command away.

A weight file tells its plugin and its classes in its header. What packages of plugins can do
besides stands in their ``conf/words.yaml``; the project's own is the example. Nothing is imported.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cbs_core.choose import weights
from cbs_core.choose.presets import preset_dirs
from cbs_core.contract.errors import ConfigError, UnknownClassError
from cbs_core.words import vocabularies
from cbs_core.words.shares import shares
from cbs_core.words.vocabularies import VOCABULARIES

FILE = "words.yaml"

ANY = "any"

PREFERENCE = ("scene", "voc", "cityscapes", "camvid")
"""Which vocabulary's weights are taken where neither a file nor a vocabulary is named."""

FREE = ("Apache-2.0", "MIT", "BSD", "CC0", "CC BY 4", "CC-BY-4")
"""How licences begin that allow commercial use."""


@dataclass(frozen=True, slots=True)
class Net:
    """A segmenter's weight file that tells its classes."""

    plugin: str
    path: Path
    classes: tuple[str, ...]
    licence: str
    vocabulary: str | None

    @property
    def restricted(self) -> bool:
        """Whether its licence is not known to allow any use."""
        return not self.licence.startswith(FREE)

    @property
    def words(self) -> str:
        """What chooses it: ``segmenter=dabnet segmenter.vocabulary=camvid``."""
        by = (
            f"vocabulary={self.vocabulary}"
            if self.vocabulary == self.path.stem
            else f"weights={self.path}"
        )
        return f"segmenter={self.plugin} segmenter.{by}"


def nets() -> list[Net]:
    """Returns the segmenters' weight files in reach that tell their classes."""
    found = []
    for room in weights.rooms():
        for path in weights.available(room).values():
            said = weights.header(path)
            kind, _, plugin = said.get("plugin", "").partition("/")
            known = classes(said)
            if kind == "segmenter" and known:
                found.append(
                    Net(plugin, path, known, said.get("licence", ""), said.get("vocabulary"))
                )
    return found


def find_weights(room: str, vocabulary: str | None) -> Path:
    """Returns ``ROOM/VOCABULARY.*`` or ``ROOM/ROOM_VOCABULARY.*`` of the weight folders.

    Args:
        room: the folder, named as the plugin.
        vocabulary: None for the first of `PREFERENCE` in the first folder that has one of them.

    Raises:
        ConfigError: an unknown vocabulary.
        WeightsMissingError: there is no such file.
    """
    if vocabulary is not None:
        vocabularies.get(vocabulary)
    wanted = PREFERENCE if vocabulary is None else (vocabulary,)
    found = {
        path: wanted.index(name)
        for stem, path in weights.available(room).items()
        if (name := stem.removeprefix(f"{room}_")) in wanted
    }
    if not found:
        return weights.find(room, wanted[0], flag="segmenter.weights")
    folder = next(iter(found)).parent  # in the folders' order
    return min((path for path in found if path.parent == folder), key=found.__getitem__)


def classes(said: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the classes that a weight file's header tells; none where it tells none."""
    if "classes" not in said:
        return tuple(VOCABULARIES.get(said.get("vocabulary", ""), ()))
    try:
        listed = json.loads(said["classes"])
    except ValueError:
        return ()
    return tuple(map(str, listed)) if isinstance(listed, list) else ()


def knows(classes: Sequence[str], words: Sequence[str]) -> bool:
    """Tells whether each of several words means something to a segmenter."""
    try:
        shares(words, classes)
    except ConfigError:
        return False
    return True


def best(words: Sequence[str]) -> Net:
    """Returns the net of a package that knows several words together.

    Of several those go first that may be used commercially, then the one that tells the fewest
    classes apart, and then the larger one.

    Raises:
        UnknownClassError: a word that none knows, with what does.
        ConfigError: each word is known, and no net knows all.
    """
    brought = [net for net in nets() if weights.origin(net.path).startswith("package ")]
    if found := [net for net in brought if knows(net.classes, words)]:
        return min(found, key=_rank)
    every = tuple(dict.fromkeys(name for net in brought for name in net.classes))
    with told():
        for word in words:
            shares([word], every)
    lists = (
        (net.words, ", ".join(word for word in words if knows(net.classes, [word])))
        for net in brought
    )
    parts = "; ".join(f"{said} knows {listed}" for said, listed in lists if listed)
    raise ConfigError(
        f"no one net knows {', '.join(words)} together ({parts}): restyle them in two runs, the "
        "second on what the first one wrote, or say segmenter=prompted, which takes any word"
    )


def chooses(name: str) -> bool:
    """Tells whether a segmenter takes the `best` net of the words that it is asked for."""
    return any(entry.get("chooses") == name for entry in _entries())


def _rank(net: Net) -> tuple[bool, int, int, str]:
    return net.restricted, len(net.classes), -net.path.stat().st_size, net.words


def remedies(word: str, *, of_any: bool = True) -> list[str]:
    """Returns what to say for a word to be known, with the licence or the command that is due.

    Args:
        word: what somebody wrote.
        of_any: whether segmenters that take any word are named too.
    """
    told = [
        f"{net.words}{_in_brackets(net.licence)}"
        for net in sorted(nets(), key=_rank)
        if knows(net.classes, [word])
    ]
    for said in _said():
        listed = said["knows"]
        if listed == ANY and not of_any:
            continue
        if listed != ANY and not any(knows(tuple(VOCABULARIES[name]), [word]) for name in listed):
            continue
        lacking = said.get("needs") and find_spec(said["needs"]) is None
        told.append(said["say"] + _in_brackets(f"pip install {said['pip']}" if lacking else ""))
    return told


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _said() -> Iterator[Mapping[str, Any]]:
    """Yields what segmenters know that no weight file tells of."""
    for entry in _entries():
        if {"say", "knows"} <= entry.keys():
            known = entry["knows"]
            if known == ANY or (isinstance(known, list) and {*known} <= {*VOCABULARIES}):
                yield {**entry, "pip": entry.get("pip", "")}


def _entries() -> Iterator[Mapping[Any, Any]]:
    """Yields the entries of the packages' files; what is not of their form is left out."""
    from omegaconf import OmegaConf

    for folder in preset_dirs().values():
        try:
            entries = OmegaConf.to_container(OmegaConf.load(folder / FILE), resolve=False)
        except Exception:  # a stranger's file may be anything; without it a line is shorter
            continue
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                yield entry


@contextmanager
def told() -> Iterator[None]:
    """Adds to the error of an unknown word which segmenters know it.

    Raises:
        UnknownClassError: with that.
    """
    try:
        yield
    except UnknownClassError as error:
        known = remedies(error.word, of_any=not error.near)  # a slip is no new word
        if not known:
            raise
        listed = "; or ".join(known)
        raise UnknownClassError(f"{error}. What knows it: {listed}", error.word) from error
