"""Routes: which classes get which style. One class and one style is the case of one route."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from cbs_core.choose import knowing
from cbs_core.contract.errors import ConfigError
from cbs_core.words.names import aliases_of, plain
from cbs_core.words.shares import (
    BACKGROUND,
    CLASS,
    NOT,
    REST,
    Share,
    is_left,
    negation,
    shares,
    together,
)

DEFAULT = ("person", "car")
"""The classes restyled where ``routes`` is null: those of these that the segmenter knows."""

NONE = "none"
"""The styler that leaves a class as it is."""


@dataclass(frozen=True, slots=True)
class Route:
    """Classes of the scene and the style they get.

    Raises:
        ConfigError: a strength outside [0, 1].
    """

    classes: tuple[str, ...]
    """Class names, as the segmenter spells them."""

    styler: str
    """The styler's registry name."""

    params: Mapping[str, object] = field(default_factory=dict)
    """Its constructor's parameters."""

    strength: float = 1.0
    """Weight of the style in the matte, in [0, 1]."""

    keep_color: bool = False
    """Whether only lightness is taken from the style, and colours stay the picture's."""

    left: int = 0
    """`NOT` or `REST` (`cbs_core.words.shares`) where its classes are those that other words left;
    such a route has no objects that could be selected."""

    word: str = ""
    """What such classes were called: ``rest``, ``not person``."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(
                f"strength {self.strength} of {', '.join(self.classes)} is outside 0..1"
            )

    def without(self, names: Set[str]) -> "Route | None":
        """Returns it without some classes; None where it has no others."""
        left = tuple(name for name in self.classes if name not in names)
        return replace(self, classes=left) if left else None

    def named(self, between: str = "+") -> str:
        """Names its classes, for people."""
        return self.word or between.join(self.classes)

    @property
    def style(self) -> str:
        """Names the styler with its parameters; routes of one style run it once a frame."""
        given = [f"{k}={v}" for k, v in sorted(self.params.items()) if v is not None]
        return f"{self.styler}({', '.join(given)})"

    @property
    def label(self) -> str:
        """Names the style for people: ``starry_night``; of files, the stems."""
        if style := self.params.get("style"):
            paths = [Path(str(one)) for one in (style if isinstance(style, list) else [style])]
            return " + ".join(path.stem if path.is_file() else str(path) for path in paths)
        weights = self.params.get("weights")
        return Path(str(weights)).stem if weights else self.styler


@knowing.told()
def parse(
    spec: object, *, classes: Sequence[str], styler: str, params: Mapping[str, object]
) -> tuple[Route, ...]:
    """Reads the ``routes`` value of the configuration.

    A class may be named by an alias (``people``), a group (``vehicles``) stands for all its classes
    except those that the mapping names themselves, whatever the order, and ``rest``,
    ``background``, ``everything`` and ``not person`` for what is left (`cbs_core.words.shares`).

    Args:
        spec: ``[car, person]`` (these classes by the chosen styler as configured) or a mapping of
            a class or group to a style's name, to ``none``, or to a mapping of ``style``,
            ``strength``, ``keep_color``, ``styler`` and further parameters of that styler. None
            is `DEFAULT`.
        classes: the segmenter's names.
        styler: the chosen styler.
        params: its configured parameters.

    Raises:
        ConfigError: an unknown class, with the segmenters that know it, or a value of another form.
    """
    if spec is None:
        spec = _default(classes)
    if isinstance(spec, str):
        spec = [spec]
    if isinstance(spec, Mapping) and spec:
        routes = [
            route
            for share, value in _claims(list(map(str, spec)), list(spec.values()), classes)
            if (route := _route(share, value, styler, params)) is not None
        ]
    elif isinstance(spec, Sequence) and spec:
        share = together([str(word) for word in spec], classes)
        route = None if styler == NONE else _route(share, {}, styler, params)
        routes = [] if route is None else [route]
    else:
        raise ConfigError(
            f"routes={spec} names no class: give a list, routes=[{classes[-1]}], or a style a "
            f"class, 'routes={{{classes[-1]}: STYLE}}'. The segmenter knows: {', '.join(classes)}"
        )
    return tuple(routes)


def _default(classes: Sequence[str]) -> list[str]:
    aliases = aliases_of(classes)
    meant = ((word,) if word in classes else aliases.get(word, ()) for word in DEFAULT)
    found = [name for names in meant for name in names]
    if not found and len(classes) == 2 and classes[0] == BACKGROUND:
        return [classes[1]]  # a segmenter of one thing is chosen for that
    return found


def words_of(spec: object) -> tuple[str, ...]:
    """Returns the words that a ``routes`` value names classes by, each once.

    ``rest`` and its like name none, ``not person`` names ``person``.

    Args:
        spec: as `parse` takes it, or routes that were read.

    Raises:
        ConfigError: it names none.
    """
    if isinstance(spec, tuple) and all(isinstance(one, Route) for one in spec):
        named = [name for route in spec for name in route.classes]
    elif isinstance(spec, Mapping | Sequence) and not isinstance(spec, str):
        named = [str(word) for word in spec]
    else:
        named = [*DEFAULT] if spec is None else [str(spec)]
    found = {plain(word): word for one in reversed(named) if (word := negation(one) or one)}
    words = tuple(word for word in reversed(found.values()) if not is_left(word))
    if not words:
        raise ConfigError(
            f"routes={spec} names nothing to look for: name it, as in 'routes={{red car: wave}}'"
        )
    return words


def rerouted(
    routes: Sequence[Route],
    word: str,
    value: object,
    *,
    classes: Sequence[str],
    styler: str,
    params: Mapping[str, object],
) -> tuple[Route, ...]:
    """Returns routes in which a word's classes have another style, or ``none``.

    ``rest``, ``background`` and ``everything`` mean the route that has what is left, or all that no
    route has where there is none such.

    Args:
        routes: those so far; a class of theirs that the word names leaves them.
        word: as a key of the mapping that `parse` takes.
        value: as a value of it.
        classes: the segmenter's names.
        styler: the chosen styler.
        params: its configured parameters.

    Raises:
        ConfigError: as `parse` raises.
    """
    if is_left(word):
        had = [route for route in routes if route.left == REST]
        kept = [route for route in routes if route.left != REST]
        taken = {name for route in kept for name in route.classes}
        own = [name for route in had for name in route.classes]
        if not own and taken:
            own = [name for name in classes if name not in taken]
        share = Share(tuple(own), REST, word) if own else shares([word], classes)[0]
    else:
        (share,) = shares([word], classes)
        kept = [route for one in routes if (route := one.without({*share.classes}))]
    new = _route(share, value, styler, params)
    return (*kept, *([] if new is None else [new]))


def _claims(
    words: Sequence[str], values: Sequence[object], classes: Sequence[str]
) -> list[tuple[Share, object]]:
    """Returns the classes of each value.

    Raises:
        ConfigError: a class would have two styles.
    """
    found = shares(words, classes)
    seen = [name for share in found for name in share.classes]
    if twice := [name for name in dict.fromkeys(seen) if seen.count(name) > 1]:
        by = [word for word, share in zip(words, found, strict=True) if twice[0] in share.classes]
        raise ConfigError(
            f"routes name '{twice[0]}' twice ({' and '.join(by)}): give a class one style"
        )
    return [(share, value) for share, value in zip(found, values, strict=True) if share.classes]


def styled(word: str, value: object, styler: str, params: Mapping[str, object]) -> Route | None:
    """Returns the route of a word, whatever it means; None where it is left as it is.

    Args:
        word: as a key of the mapping that `parse` takes.
        value: as a value of it.
        styler: the chosen styler.
        params: its configured parameters.

    Raises:
        ConfigError: the value is of another form.
    """
    return _route(Share((word,), CLASS, word), value, styler, params)


def _route(share: Share, value: object, styler: str, params: Mapping[str, object]) -> Route | None:
    left, name = share.rank >= NOT, ", ".join(share.classes)
    if isinstance(value, str | int) and not isinstance(value, bool):
        value = {"style": str(value)}  # a style may be named by a number
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"routes: '{name}: {value}' is neither a style's name nor a mapping such as "
            "{style: NAME, strength: 0.6, keep_color: true}"
        )
    given = {str(key): entry for key, entry in value.items()}
    if given.get("style") == NONE or given.get("styler") == NONE:
        return None
    chosen = str(given.pop("styler", styler))
    strength = given.pop("strength", 1.0)
    keep_color = given.pop("keep_color", False)
    if not isinstance(strength, int | float) or isinstance(strength, bool):
        raise ConfigError(f"routes: strength '{strength}' of '{name}' is no number in 0..1")
    if not isinstance(keep_color, bool):
        raise ConfigError(f"routes: keep_color '{keep_color}' of '{name}' is not true or false")
    inherited = dict(params) if chosen == styler else {}
    if "style" in given:
        # A file given for the styler as a whole would win over every route's own style.
        inherited.pop("weights", None)
    return Route(
        share.classes,
        chosen,
        inherited | given,
        float(strength),
        keep_color,
        left=share.rank if left else 0,
        word=share.word if left else "",
    )
