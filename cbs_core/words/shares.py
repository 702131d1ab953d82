"""Which classes each of several words gets: a class, a group, ``not X``, and all that is left.

``{person: wave, rest: udnie}``: whoever writes ``rest``, ``everything`` or ``background`` means all
of the picture that no other word names, whatever a net takes it for.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cbs_core.contract.errors import ConfigError, UnknownClassError
from cbs_core.words.names import LEFT, groups_of, plain, resolve, synonyms_of

CLASS, GROUP, NOT, REST = range(4)
"""In what order words take their classes: a group gives way to a class, the rest to all."""

BACKGROUND = "background"

SUBJECTS = ("vehicles", "animals")
"""Groups that are no background where no other word tells what the picture is of."""

PEOPLE = ("person", "rider")
"""Likewise, with their other names."""

_OTHERWISE = re.compile(
    r"\s*(?:[-!~^]+|(?:(?:all|everything|anything) )?(?:but|except|excluding|without|non?)[ _-])"
    r"\s*(.+)",
    re.IGNORECASE,
)
"""How else people write ``not person``; taken for a name, ``-person`` would be ``person``."""


class Share(NamedTuple):
    """What a word gets."""

    classes: tuple[str, ...]
    """As the segmenter spells them, in its order; empty where other words took all of them."""

    rank: int
    """`CLASS`, `GROUP`, `NOT` or `REST`."""

    word: str
    """As it was written."""


def shares(words: Sequence[str], classes: Sequence[str]) -> list[Share]:
    """Returns the classes of each word; a class that two words of one rank name is in both.

    - A class, by its name or an alias, is what it says.
    - A group (``vehicles``) is its classes that no word names itself.
    - ``not person``, or ``not vehicles``, is all others that no such word names; ``not background``
      is people, animals and vehicles.
    - ``rest`` and ``everything`` are all that is left.
    - ``background`` is that too: what the net takes for a chair is background beside a person. Next
      to ``rest`` it is the net's own class of that name, and alone all but people, animals and
      vehicles.

    Args:
        words: what somebody wrote.
        classes: the segmenter's names.

    Raises:
        ConfigError: an unknown word, or nothing is left for one.

    Example:
        >>> net = ["background", "chair", "dog", "person"]
        >>> [share.classes for share in shares(["person", "background"], net)]
        [('person',), ('background', 'chair', 'dog')]
        >>> [share.classes for share in shares(["background"], net)]
        [('background', 'chair')]
        >>> [share.classes for share in shares(["not person", "dog"], net)]
        [('background', 'chair'), ('dog',)]
    """
    found = [_share(word, words, classes) for word in words]
    settled = []
    for word, share in zip(words, found, strict=True):
        before = {name for one in found if one.rank < share.rank for name in one.classes}
        left = tuple(name for name in share.classes if name not in before)
        if not left and share.rank >= NOT:
            raise ConfigError(f"routes: no class is left for '{word}': leave it out")
        settled.append(share._replace(classes=left))
    return settled


def together(words: Sequence[str], classes: Sequence[str]) -> Share:
    """Returns what several words of one route get, each with all that it means.

    Raises:
        ConfigError: an unknown word.
    """
    found = [_share(word, words, classes) for word in words]
    names = dict.fromkeys(name for share in found for name in share.classes)
    return Share(tuple(names), max(share.rank for share in found), " and ".join(words))


def is_left(word: str) -> bool:
    """Tells whether a word means what others leave (`REST`)."""
    return plain(word) in (*LEFT, BACKGROUND)


def negation(word: str) -> str | None:
    """Returns ``person`` of ``not person`` or ``not_person``, and None of other words."""
    found = re.fullmatch(r"\s*not[\s_-]+(.*\S)\s*", word, re.IGNORECASE)
    return found[1] if found else None


def _share(word: str, words: Sequence[str], classes: Sequence[str]) -> Share:
    own = {plain(name): name for name in classes}
    if plain(word) == BACKGROUND:
        others = [plain(one) for one in words if plain(one) != BACKGROUND]
        if BACKGROUND in own and {*others} & {*LEFT}:
            return Share((own[BACKGROUND],), CLASS, word)
        return Share(tuple(classes) if others else _without_subjects(classes), REST, word)
    if word not in classes:
        _refuse_otherwise(word, classes)
    if plain(word) in own:
        return Share((own[plain(word)],), CLASS, word)
    if plain(word) in LEFT:
        return Share(tuple(classes), REST, word)
    if (name := negation(word)) is not None:
        return Share(_but(name, word, classes), NOT, word)
    meaning = resolve(word, classes)
    return Share(meaning.classes, GROUP if meaning.is_group else CLASS, word)


def _but(name: str, word: str, classes: Sequence[str]) -> tuple[str, ...]:
    if plain(name) in LEFT:
        raise ConfigError(f"routes: '{word}' names nothing: name the classes that are to be styled")
    others = plain(name) == BACKGROUND
    named = _without_subjects(classes) if others else resolve(name, classes).classes
    return tuple(one for one in classes if one not in named)


def _refuse_otherwise(word: str, classes: Sequence[str]) -> None:
    """Refuses all but a class said in other words than ``not``.

    Raises:
        ConfigError: with those.
    """
    if (found := _OTHERWISE.fullmatch(word)) is None:
        return
    try:
        _share(f"not {found[1]}", (), classes)
    except UnknownClassError:
        return  # it is about something else
    raise ConfigError(f"routes: '{word}' is no class; all but {found[1]} is 'not {found[1]}'")


def _without_subjects(classes: Sequence[str]) -> tuple[str, ...]:
    groups = groups_of(classes)
    subjects = {name for group in SUBJECTS for name in groups.get(group, ())}
    people = {plain(name) for word in PEOPLE for name in (word, *synonyms_of(word))}
    return tuple(name for name in classes if name not in subjects and plain(name) not in people)
