"""Routes: which classes get which style. One class and one style is the case of one route."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cbs_core.errors import ConfigError, closest

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

    @property
    def style(self) -> str:
        """Names the styler with its parameters; routes of one style run it once a frame."""
        given = [f"{k}={v}" for k, v in sorted(self.params.items()) if v is not None]
        return f"{self.styler}({', '.join(given)})"

    @property
    def label(self) -> str:
        """Names the style for people: ``starry_night``, or the weight file's stem."""
        weights = self.params.get("weights")
        name = self.params.get("style") or (Path(str(weights)).stem if weights else None)
        return str(name or self.styler)


def parse(
    spec: object, *, classes: Sequence[str], styler: str, params: Mapping[str, object]
) -> tuple[Route, ...]:
    """Reads the ``routes`` value of the configuration.

    Args:
        spec: ``[car, person]`` (these classes by the chosen styler as configured) or a mapping of
            a class to a style's name, to ``none``, or to a mapping of ``style``, ``strength``,
            ``keep_color``, ``styler`` and further parameters of that styler. None is `DEFAULT`.
        classes: the segmenter's names.
        styler: the chosen styler.
        params: its configured parameters.

    Raises:
        ConfigError: an unknown class, or a value of another form.
    """
    if spec is None:
        spec = [name for name in DEFAULT if name in classes]
    if isinstance(spec, str):
        spec = [spec]
    if isinstance(spec, Mapping) and spec:
        routes = [
            route
            for name, value in spec.items()
            if (route := _route(match(str(name), classes), value, styler, params)) is not None
        ]
        seen = [name for route in routes for name in route.classes]
        if twice := {name for name in seen if seen.count(name) > 1}:
            raise ConfigError(f"routes name '{twice.pop()}' twice: give a class one style")
    elif isinstance(spec, Sequence) and spec:
        names = tuple(dict.fromkeys(match(str(name), classes) for name in spec))
        routes = [] if styler == NONE else [Route(names, styler, params)]
    else:
        raise ConfigError(
            f"routes={spec} names no class: give a list, routes=[{classes[-1]}], or a style a "
            f"class, 'routes={{{classes[-1]}: STYLE}}'. The segmenter knows: {', '.join(classes)}"
        )
    return tuple(routes)


def _route(name: str, value: object, styler: str, params: Mapping[str, object]) -> Route | None:
    if isinstance(value, str):
        value = {"style": value}
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
    return Route((name,), chosen, inherited | given, float(strength), keep_color)


def match(name: str, classes: Iterable[str]) -> str:
    """Returns the class meant by a name; case, spaces, ``_`` and ``-`` do not matter.

    Raises:
        ConfigError: no such class, with the closest and the list.

    Example:
        >>> match("Traffic_Light", ["road", "traffic light"])
        'traffic light'
    """
    known = {_plain(c): c for c in classes}
    if found := known.get(_plain(name)):
        return found
    raise ConfigError(
        f"no class '{name}'{closest(name, known.values())} (the segmenter knows: "
        f"{', '.join(known.values())})"
    )


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c not in " _-")
