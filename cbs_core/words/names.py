"""What people call the classes of a segmenter: its own names, synonyms, plurals and groups.

``aliases.txt`` and ``groups.txt`` hold in every vocabulary; a data set's own synonyms hold for a
segmenter with exactly its classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from cbs_core.contract.errors import ConfigError, UnknownClassError, closest
from cbs_core.words.vocabularies import VOCABULARIES, of_classes, read_lines, words

LEFT = ("rest", "everything")
"""Words for what no other word names; see `cbs_core.words.shares`."""

SUBJECTS = "not background"
"""People, animals and vehicles, likewise."""


class Meaning(NamedTuple):
    """The classes that a name stands for."""

    classes: tuple[str, ...]
    """As the segmenter spells them, in its order; several only for a group."""

    is_group: bool


def resolve(name: str, classes: Sequence[str]) -> Meaning:
    """Returns the classes meant by a name; case, spaces, ``_`` and ``-`` do not matter.

    A class's own name comes first, then a group's, then an alias or a plural.

    Args:
        name: what somebody wrote.
        classes: the segmenter's names.

    Raises:
        UnknownClassError: no such class or group, or a group without any.
        ConfigError: an alias of several classes.

    Example:
        >>> resolve("Traffic_Light", ["road", "traffic light"]).classes
        ('traffic light',)
        >>> resolve("people", ["sky", "pedestrian"]).classes
        ('pedestrian',)
        >>> resolve("vehicles", ["sky", "bus", "car"]).classes
        ('bus', 'car')
    """
    own = {plain(known): known for known in classes}
    if plain(name) in own:
        return Meaning((own[plain(name)],), is_group=False)
    groups = groups_of(classes)
    for group in _groups():
        if plain(group) == plain(name):
            if not groups.get(group):
                raise UnknownClassError(
                    f"the segmenter has no class of the group '{group}' (it knows: "
                    f"{', '.join(classes)})",
                    name,
                )
            return Meaning(groups[group], is_group=True)
    known = aliases_of(classes)
    found = _lookup(name, classes, known)
    if len(found) > 1:
        raise ConfigError(
            f"'{name}' could mean {' or '.join(found)}: name the one, or all as "
            f"[{', '.join(found)}]"
        )
    if not found:
        listed = f"; groups: {', '.join(groups)}" if groups else ""
        kin = _kin(name, classes, known)
        # What is spelt alike was meant by a slip, and a word of the world is none.
        slip = not kin and not _is_word(name)
        near = closest(name, [*classes, *groups, *known, *LEFT]) if slip else ""
        told = f"; the nearest in meaning is '{kin}'" if kin else near
        raise UnknownClassError(
            f"no class '{name}'{told} (the segmenter knows: {', '.join(classes)}{listed})",
            name,
            near=bool(near),
        )
    return Meaning(found, is_group=False)


def groups_of(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the groups that the segmenter has classes of, and those classes."""
    known = aliases_of(classes)
    groups = {}
    for group, members in _groups().items():
        within = {name for member in members for name in _lookup(member, classes, known)}
        if within:
            groups[group] = tuple(name for name in classes if name in within)
    return groups


def aliases_of(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the other names of a segmenter's classes, each with the classes it could mean."""
    vocabulary = of_classes(classes)
    aliases: dict[str, tuple[str, ...]] = {}
    for name in classes:
        names = {name, *(vocabulary[name].synonyms if vocabulary else ())}
        spelt = set(map(plain, names))
        names.update(*(line for line in _synonyms() if spelt & set(map(plain, line))))
        for alias in sorted(names - {name}):
            aliases[alias] = (*aliases.get(alias, ()), name)
    return aliases


@lru_cache(4096)  # an unknown word compares it 100,000 times
def plain(name: str) -> str:
    """Returns a name as names are compared: ``Traffic_Light`` is ``trafficlight``."""
    return "".join(c for c in name.lower() if c not in " _-")


def _lookup(
    name: str, classes: Iterable[str], aliases: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Returns the class of this name, else those it could mean, else those of its singular."""
    wanted = plain(name)
    for singular in _singulars(wanted):
        if own := tuple(known for known in classes if plain(known) == singular):
            return own
        meant = [aliases[alias] for alias in aliases if plain(alias) == singular]
        if meant:
            return tuple(dict.fromkeys(known for several in meant for known in several))
    return ()


def _singulars(name: str) -> tuple[str, ...]:
    """Returns what a name could be the plural of, itself first."""
    y = f"{name.removesuffix('ies')}y" if name.endswith("ies") else name
    return tuple(dict.fromkeys((name, name.removesuffix("s"), name.removesuffix("es"), y)))


def _kin(name: str, classes: Sequence[str], aliases: Mapping[str, tuple[str, ...]]) -> str | None:
    """Returns the class, or word for others, nearest in meaning to a word, where one is near."""
    wanted = _singulars(plain(name))
    for near, others in _near():
        if not {*wanted}.isdisjoint(map(plain, others)):
            if near in (*LEFT, SUBJECTS):
                return near
            for known in _lookup(near, classes, aliases):
                return known
    return None


def _is_word(name: str) -> bool:
    """Tells whether a name, or its singular, means something somewhere."""
    return not {*_singulars(plain(name))}.isdisjoint(_world())


@cache
def _world() -> frozenset[str]:
    tables = [entry for table in VOCABULARIES.values() for entry in table.items()]
    found = {name for first, entry in tables for name in (first, *entry.synonyms)}
    found.update(*_synonyms(), *(others for _, others in _near()))
    return frozenset(map(plain, found))


def synonyms_of(name: str) -> tuple[str, ...]:
    """Returns the other names that something has in any vocabulary (``aliases.txt``)."""
    lines = (line for line in _synonyms() if plain(name) in map(plain, line))
    return tuple(other for line in lines for other in line if plain(other) != plain(name))


@cache
def _synonyms() -> tuple[tuple[str, ...], ...]:
    return tuple(words(line) for line in read_lines("aliases"))


@cache
def _near() -> tuple[tuple[str, tuple[str, ...]], ...]:
    split = (line.partition(":") for line in read_lines("near"))
    return tuple((near, words(others)) for near, _, others in split)


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    split = (line.partition(":") for line in read_lines("groups"))
    return {group: words(members) for group, _, members in split}
