"""Class names, synonyms and display colours of the data sets that segmenters are trained on.

Each data set is a table beside this file, ``NAME.txt``, which names its source: a line a class in
channel order, ``R G B  name; synonym; ...``. Tables are read when they are first asked for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cbs_core.contract.errors import ConfigError, WeightsKeysError, closest

Colour: TypeAlias = tuple[int, int, int]
"""RGB, 0..255."""

NAMES = ("cityscapes", "camvid", "voc", "ade20k", "coco", "coco_panoptic", "coco_stuff", "scene")


class Entry(NamedTuple):
    """What a vocabulary says of one class."""

    colour: Colour
    synonyms: tuple[str, ...]
    """Other names of the class within the data set."""


Vocabulary: TypeAlias = Mapping[str, Entry]
"""Class name -> entry, in channel order."""


def read_lines(name: str) -> Iterator[str]:
    """Yields the lines of a table beside this file, without comments."""
    text = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8")
    return (line for line in text.splitlines() if not line.startswith("#"))


def words(line: str) -> tuple[str, ...]:
    """Returns the names of a line, which ``;`` separates."""
    return tuple(word.strip() for word in line.split(";"))


@cache
def _read(name: str) -> Vocabulary:
    vocabulary = {}
    for index, line in enumerate(read_lines(name)):
        match = re.fullmatch(r"(?: *(\d+) +(\d+) +(\d+) )?(.+)", line)
        assert match, f"{name}.txt: {line}"
        *rgb, names = match.groups()
        colour = (int(rgb[0]), int(rgb[1]), int(rgb[2])) if rgb[0] else generated_colour(index + 1)
        first, *synonyms = words(names)
        vocabulary[first] = Entry(colour, tuple(synonyms))
    return vocabulary


class _Vocabularies(Mapping[str, Vocabulary]):
    """Name -> vocabulary, read on first use."""

    def __getitem__(self, name: str) -> Vocabulary:
        if name not in NAMES:
            raise KeyError(name)
        return _read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


VOCABULARIES = _Vocabularies()


OURS = ("scene",)
"""Vocabularies of this project, whose files always name them: a file that does not is no such."""


def by_class_count(count: int) -> str | None:
    """Returns the one vocabulary with this many classes (19, 11, 21, ...), or None."""
    known = ((name, entries) for name, entries in VOCABULARIES.items() if name not in OURS)
    found = [name for name, entries in known if len(entries) == count]
    return found[0] if len(found) == 1 else None


def of_classes(classes: Iterable[str]) -> Vocabulary | None:
    """Returns the vocabulary whose names these are, in this order, or None."""
    names = list(classes)
    return next((v for v in VOCABULARIES.values() if list(v) == names), None)


def get(name: str) -> Vocabulary:
    """Returns a vocabulary by its name.

    Raises:
        ConfigError: no such vocabulary.
    """
    if name not in VOCABULARIES:
        raise ConfigError(
            f"unknown vocabulary '{name}'{closest(name, VOCABULARIES)} "
            f"(there are: {', '.join(VOCABULARIES)})"
        )
    return VOCABULARIES[name]


def of_weights(file: Path, count: int, name: str | None) -> str:
    """Returns the name of the vocabulary that the classes of a weight file belong to.

    Args:
        file: the weight file, for the message.
        count: how many classes its tensors have.
        name: the vocabulary that the user or the file names; None is told by the count.

    Raises:
        ConfigError: no such vocabulary.
        WeightsKeysError: its number of classes is not the file's.
    """
    if name is None:
        name = by_class_count(count)
    elif len(get(name)) != count:
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, the vocabulary '{name}' "
            f"has {len(get(name))}. Give another segmenter.weights or segmenter.vocabulary"
        )
    if name is None:
        counts = ", ".join(f"{known} {len(classes)}" for known, classes in VOCABULARIES.items())
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, which no vocabulary has "
            f"({counts}). Give other weights"
        )
    return name


def names_of_weights(
    file: Path, count: int, *, vocabulary: str | None, classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the class names of a weight file, in channel order.

    Args:
        file: the weight file, for the message.
        count: how many classes its tensors have.
        vocabulary: as in `of_weights`.
        classes: the names, instead of a vocabulary.

    Raises:
        ConfigError: no such vocabulary, none of so many classes, or a name that is given twice.
        WeightsKeysError: another number of classes than the file's.
    """
    if classes is None and vocabulary is None and by_class_count(count) is None:
        raise ConfigError(
            f"nothing names the classes of '{file}', and no vocabulary has {count}: give "
            "segmenter.classes=[NAME, ...]"
        )
    if classes is None:
        return tuple(get(of_weights(file, count, vocabulary)))
    names = tuple(map(str, classes))
    if len(names) != count:
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, segmenter.classes has "
            f"{len(names)}"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"segmenter.classes names '{twice[0]}' twice: each class needs its own")
    return names


def colours(classes: Sequence[str]) -> list[Colour]:
    """Returns a display colour a class: the data set's own where the names are its, else VOC's."""
    if vocabulary := of_classes(classes):
        return [entry.colour for entry in vocabulary.values()]
    return [generated_colour(index + 1) for index in range(len(classes))]


def generated_colour(index: int) -> Colour:
    """Returns VOC's colour of an index in 0..255, each of them another (VOClabelcolormap).

    Each bit triple of the index sets the next lower bit of R, G and B.
    """
    channels = [0, 0, 0]
    for shift in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * shift + channel) & 1) << (7 - shift)
    return channels[0], channels[1], channels[2]
