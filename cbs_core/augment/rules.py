"""What may become of each class, and what becomes of it in one variant of one picture.

A rule leaves a choice: some styles, a probability, a range of strengths. A draw is what chance made
of all rules, and a function of the seed, the picture's name and the variant's number alone, so that
neither the number of workers nor their order matters.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cbs_core.choose import presets, weights
from cbs_core.choose.registry import compositors, stylers
from cbs_core.choose.sections import Choice, choice
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.datasets.chance import mixed
from cbs_core.frame import routes
from cbs_core.frame.routes import NONE, Route
from cbs_core.words.shares import NOT, shares

KEYS = ("styles", "probability", "strength", "keep_color", "edges")
"""Of a rule."""

NUMBERS = 4
"""Drawn for each rule, whatever it uses, so that a change of one rule leaves the others' draws."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may become of some classes."""

    pool: tuple[Route, ...]
    """The classes with each style that may be drawn."""

    probability: float
    """That a style is drawn at all."""

    strength: tuple[float, float]
    """Least and greatest, in [0,1]; drawn evenly."""

    keep_color: float
    """The probability that colours stay the picture's."""

    edges: Choice
    """The compositor."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What becomes of some classes in one variant."""

    route: Route
    edges: Choice


def check(spec: object) -> None:
    """Refuses what can be told of ``routes`` without the set: a rule of another form.

    Args:
        spec: as `parse` takes it.

    Raises:
        ConfigError: an unknown key, or a number outside of its range.
    """
    for word, given in spec.items() if isinstance(spec, Mapping) else ():
        rule = _Told(str(word), given)
        rule.number("probability", 1.0)
        rule.span("strength")
        rule.number("keep_color", 0.0)
        rule.edges(Choice(""))


def parse(
    spec: object, *, classes: Sequence[str], styler: Choice, edges: Choice
) -> tuple[Rule, ...]:
    """Reads the ``routes`` of ``cbs-augment``.

    Args:
        spec: a mapping of a class, an alias, a group, ``rest`` or ``everything`` to a style, to a
            list of styles, or to a mapping of `KEYS`; or a list of classes. ``styles`` are as in
            ``routes`` of ``cbs-run``: names, files, or mappings with ``styler`` and its parameters.
            None is ``everything``.
        classes: names by id.
        styler: the chosen one; rules without ``styles`` draw from all styles that it has.
        edges: the compositor of rules that name none.

    Raises:
        ConfigError: an unknown class, style, compositor or key, or a number outside of its range.
    """
    if spec is None:
        spec = ["everything"]
    if isinstance(spec, str):
        spec = [spec]
    if isinstance(spec, Sequence) and spec:
        spec = {str(word): {} for word in spec}
    if not isinstance(spec, Mapping) or not spec:
        raise ConfigError(
            f"routes={spec} names no class: give a rule a class, as in 'routes={{road: [wave, "
            "udnie], rest: {probability: 0.3}}'"
        )
    words = [str(word) for word in spec]
    rules, taken = [], set[str]()
    for share, given in zip(shares(words, classes), spec.values(), strict=True):
        if twice := taken & {*share.classes}:
            raise ConfigError(f"routes name '{min(twice)}' twice: give a class one rule")
        if not share.classes:
            continue  # others have named all of a group
        taken |= {*share.classes}
        rule = _Told(share.word, given)
        left = share.rank >= NOT
        pool = [
            replace(
                one,
                classes=share.classes,
                left=share.rank if left else 0,
                word=share.word if left else "",
            )
            for one in _pool(rule, classes[0], styler)
        ]
        rules.append(
            Rule(
                tuple(pool),
                rule.number("probability", 1.0),
                rule.span("strength"),
                rule.number("keep_color", 0.0),
                rule.edges(edges),
            )
        )
    return tuple(rules)


def _pool(rule: "_Told", any_class: str, styler: Choice) -> list[Route]:
    """Returns a route of any class for each style of a rule."""
    made = []
    for style in rule.styles(styler):
        (*found,) = routes.parse(
            {any_class: style}, classes=[any_class], styler=styler.name, params=styler.params
        )
        if not found:
            raise ConfigError(
                f"routes: a style of '{rule.word}' is {NONE}: say how often there is none by "
                "probability"
            )
        made += found
    return made


@dataclass(frozen=True, slots=True)
class _Told:
    """A rule as it was written, with errors that name it."""

    word: str
    given: Any

    def __post_init__(self) -> None:
        if isinstance(self.given, Mapping):
            for key in map(str, self.given.keys() - {*KEYS}):
                raise ConfigError(
                    f"routes: '{self.word}' has '{key}'{closest(key, KEYS)} (there are: "
                    f"{', '.join(KEYS)})"
                )

    def _get(self, key: str, default: object) -> Any:
        value = self.given.get(key) if isinstance(self.given, Mapping) else None
        return default if value is None else value

    def styles(self, styler: Choice) -> Sequence[object]:
        """Returns the styles as they were written, or the names of all that the styler has."""
        given = self._get("styles", None) if isinstance(self.given, Mapping) else self.given
        if given is None or given == []:
            known = weights.names(styler.name) if stylers.origin(styler.name) else []
            if not known:
                raise ConfigError(
                    f"routes: the styler '{styler.name}' has no styles of its own: say "
                    f"'routes={{{self.word}: {{styles: [FILE, ...]}}}}'"
                )
            return known
        return given if isinstance(given, list | tuple) else [given]

    def number(self, key: str, default: float) -> float:
        """Returns a number in [0,1]; true is 1, false is 0."""
        return self._share(key, self._get(key, default))

    def span(self, key: str) -> tuple[float, float]:
        """Returns the least and the greatest of a range in [0,1]."""
        given = self._get(key, 1.0)
        low, high = given if isinstance(given, list) and len(given) == 2 else (given, given)
        span = self._share(key, low), self._share(key, high)
        if span[0] > span[1]:
            raise ConfigError(f"routes: {key} {given} of '{self.word}': the least comes first")
        return span

    def _share(self, key: str, value: object) -> float:
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"routes: {key} '{value}' of '{self.word}' is no number in 0..1")
        return float(value)

    def edges(self, default: Choice) -> Choice:
        """Returns the compositor."""
        given = self._get("edges", None)
        if given is None:
            return default
        if isinstance(given, Mapping):
            name = choice(given, f"edges of '{self.word}'").name
            return choice({**presets.section("compositor", name), **given}, "edges")
        compositors.origin(str(given))
        return choice(presets.section("compositor", str(given)), "edges")


def chance(seed: int, picture: str, variant: int) -> np.random.Generator:
    """Returns the source of chance of one variant of one picture, by nothing else.

    Args:
        seed: of the whole.
        picture: its name in the set.
        variant: from 1 on.
    """
    named = int.from_bytes(hashlib.sha256(picture.encode("utf-8", "surrogateescape")).digest()[:8])
    return np.random.default_rng(mixed(seed, named, variant))


def draw(rules: Sequence[Rule], by: np.random.Generator) -> tuple[Drawn, ...]:
    """Draws what becomes of the classes of each rule.

    Args:
        rules: in order.
        by: `NUMBERS` are taken of it for each.
    """
    found = []
    for rule in rules:
        due, style, strength, colour = by.random(NUMBERS).tolist()
        if due >= rule.probability:
            continue
        low, high = rule.strength
        # Of four digits, so that a manifest tells the number itself.
        drawn = round(low + (high - low) * strength, 4)
        route = replace(
            rule.pool[int(style * len(rule.pool))],
            strength=drawn,
            keep_color=colour < rule.keep_color,
        )
        found.append(Drawn(route, rule.edges))
    return tuple(found)
