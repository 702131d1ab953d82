"""Routes: which classes get which style. One class and one style is the case of one route."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from cbs_core.contract.errors import ConfigError
from cbs_core.words.names import aliases_of, resolve

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

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(
                f"strength {self.strength} of {', '.join(self.classes)} is outside 0..1"
            )

    def without(self, names: Set[str]) -> "Route | None":
        """Returns it without some classes; None where it has no others."""
        left = tuple(name for name in self.classes if name not in names)
        return replace(self, classes=left) if left else None

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


def parse(
    spec: object, *, classes: Sequence[str], styler: str, params: Mapping[str, object]
) -> tuple[Route, ...]:
    """Reads the ``routes`` value of the configuration.

    A class may be named by an alias (``people``), and a group (``vehicles``) stands for all its
    classes except those that the mapping names themselves, whatever the order.

    Args:
        spec: ``[car, person]`` (these classes by the chosen styler as configured) or a mapping of
            a class or group to a style's name, to ``none``, or to a mapping of ``style``,
            ``strength``, ``keep_color``, ``styler`` and further parameters of that styler. None
            is `DEFAULT`.
        classes: the segmenter's names.
        styler: the chosen styler.
        params: its configured parameters.

    Raises:
        ConfigError: an unknown class, or a value of another form.
    """
    if spec is None:
        spec = _default(classes)
    if isinstance(spec, str):
        spec = [spec]
    if isinstance(spec, Mapping) and spec:
        routes = [
            route
            for names, value in _claims(list(map(str, spec)), list(spec.values()), classes)
            if (route := _route(names, value, styler, params)) is not None
        ]
    elif isinstance(spec, Sequence) and spec:
        found = (name for word in spec for name in resolve(str(word), classes).classes)
        names = tuple(dict.fromkeys(found))
        routes = [] if styler == NONE else [Route(names, styler, params)]
    else:
        raise ConfigError(
            f"routes={spec} names no class: give a list, routes=[{classes[-1]}], or a style a "
            f"class, 'routes={{{classes[-1]}: STYLE}}'. The segmenter knows: {', '.join(classes)}"
        )
    return tuple(routes)


def _default(classes: Sequence[str]) -> list[str]:
    aliases = aliases_of(classes)
    meant = ((word,) if word in classes else aliases.get(word, ()) for word in DEFAULT)
    return [name for names in meant for name in names]


def _claims(
    words: Sequence[str], values: Sequence[object], classes: Sequence[str]
) -> list[tuple[tuple[str, ...], object]]:
    """Returns the classes of each value: a group's are those that no other word names."""
    meanings = [resolve(word, classes) for word in words]
    named = {name for meaning in meanings if not meaning.is_group for name in meaning.classes}
    claims = [
        tuple(name for name in meaning.classes if not meaning.is_group or name not in named)
        for meaning in meanings
    ]
    seen = [name for names in claims for name in names]
    if twice := {name for name in seen if seen.count(name) > 1}:
        raise ConfigError(f"routes name '{twice.pop()}' twice: give a class one style")
    return [(names, value) for names, value in zip(claims, values, strict=True) if names]


def _route(
    names: tuple[str, ...], value: object, styler: str, params: Mapping[str, object]
) -> Route | None:
    name = ", ".join(names)
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
    return Route(names, chosen, inherited | given, float(strength), keep_color)
