"""What a visitor may change: a value, read from JSON with every choice and bound checked.

A wish names styles and compositors of the `Catalog`, which the owner of the server made; no path,
URL, key of the configuration or class path is ever taken from it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cbs_core.choose.presets import section
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.frame import routes
from cbs_core.frame.routes import NONE
from cbs_core.frame.sizes import Auto, Scale
from cbs_core.frame.wanted import MATTES
from cbs_core.run.settings import Look
from cbs_core.words.shares import BACKGROUND, REST

SIZES = (128, 2048)
"""Bounds of the picture's longest side, pixels."""

RADIUS = "radius"
"""The parameter of a compositor that a visitor may change, where it has one."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "strength": (0, 1),
    "only": (0, 1),
    "confidence": (0.05, 0.95),
    "radius": (0, 64),
    "segment_size": (0.1, 1),
    "style_size": (0.1, 1),
    "segment_every": (1, 30),
    "size": SIZES,
    "target_fps": (1, 120),
}

SHARES = frozenset({"confidence", "segment_size", "style_size", "strength"})
"""Those that are no whole numbers."""


def parsed(text: bytes | str) -> Any:
    """Returns what a visitor's JSON says.

    Raises:
        ConfigError: it is none, is nested too deep, or holds half of a character, which no answer
            could repeat.
    """
    try:
        said = json.loads(text)
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigError("the request is no JSON") from error
    return said


@dataclass(frozen=True, slots=True)
class Catalog:
    """What there is to choose from."""

    classes: tuple[str, ...]
    """The segmenter's, in channel order."""

    styles: Mapping[str, Mapping[str, object]]
    """By the name that visitors see: a route's value (`cbs_core.frame.routes.parse`)."""

    compositors: tuple[str, ...]
    """Plugins."""

    with_radius: frozenset[str] = frozenset()
    """Those compositors that take one."""


@dataclass(frozen=True, slots=True)
class Paint:
    """What becomes of a class."""

    style: str
    """Of the catalog; or ``none``, which leaves the class as it is where the rest is painted."""

    strength: float = 1.0
    keep_color: bool = False

    def route(self, catalog: Catalog, *, shown: bool = False) -> object:
        """Returns it as `cbs_core.frame.routes.parse` takes it.

        Args:
            catalog: what its style means.
            shown: whether for a visitor, who need not know where the owner's files are.
        """
        if self.style == NONE:
            return NONE
        style = catalog.styles[self.style]
        if shown:
            style = {key: value for key, value in style.items() if not _is_path(value)}
        return {**style, "strength": self.strength, "keep_color": self.keep_color}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the live picture is to look like."""

    routes: Mapping[str, Paint] = field(default_factory=dict)
    """By class; one that is not there stays as it is."""

    matte: str = "argmax"
    compositor: str = "hard"
    radius: int | None = None
    """Of compositors that take one, pixels; None is the preset's."""

    confidence: float = 0.5
    """How sure a pixel must be to be restyled."""

    segment_size: float = 1.0
    """Share of the picture's sides."""

    style_size: float = 1.0
    """Likewise, of what is painted; 1 is as the owner's look says, where that names no share."""

    segment_every: int = 1
    steady: bool = False
    """Whether mattes hold on to their object; and strokes too, where the owner's look says so."""

    target_fps: int | None = None
    """Frames a second that are held, by lower quality where needed."""

    size: int = 640
    """Longest side of the picture, pixels."""

    only: tuple[float, float] | None = None
    """A place of the object that alone is restyled, x and y as shares of the picture's sides."""

    def changed(self, change: object, catalog: Catalog) -> "Wish":
        """Returns it with a change, as JSON has it; ``routes`` are changed class by class.

        Args:
            change: some of the fields; in ``routes`` a class may be null, to be left as it is, and
                some of the fields of `Paint`.
            catalog: what there is.

        Raises:
            ConfigError: a name that is not there, or a value out of bounds.
        """
        given = _mapping(change, "a look")
        known = set(Wish.__dataclass_fields__)
        for key in given.keys() - known:
            raise ConfigError(f"unknown key '{key}'{closest(key, known)}")
        new: dict[str, Any] = {}
        for key, value in given.items():
            own = getattr(self, key)
            if key == "routes":
                new[key] = self._routes(value, catalog)
            elif key == "only":
                new[key] = None if value is None else _place(value)
            elif type(value) is type(own) and value == own:
                continue  # pages give whole looks back, and the owner's may be out of bounds
            elif key == "matte":
                new[key] = _one_of(value, MATTES, key)
            elif key == "compositor":
                new[key] = _one_of(value, catalog.compositors, key)
            elif key in SHARES:
                new[key] = _number(value, key)
            elif key == "steady":
                new[key] = _flag(value, key)
            elif key in ("radius", "target_fps") and value is None:
                new[key] = None
            else:
                new[key] = _whole(value, key)
        return replace(self, **new)

    def _routes(self, value: object, catalog: Catalog) -> dict[str, Paint]:
        found = dict(self.routes)
        for name, paint in _mapping(value, "routes").items():
            _one_of(name, catalog.classes, "class")
            if paint is None:
                found.pop(name, None)
            else:
                found[name] = _paint(paint, name, found.get(name), catalog)
        return found

    def look(self, base: Look, catalog: Catalog) -> Look:
        """Returns the owner's look with this wish."""
        made = {name: paint.route(catalog) for name, paint in self.routes.items()}
        parsed = routes.parse(
            made or {catalog.classes[0]: NONE},
            classes=catalog.classes,
            styler=base.styler.name,
            params=base.styler.params,
        )
        held = "full" if base.steady == "full" else "matte"
        return replace(
            base,
            routes=parsed,
            matte=self.matte,
            compositor=self._compositor(base, catalog),
            confidence=self.confidence,
            segment_size=None if self.segment_size == 1 else self.segment_size,
            segment_every=self.segment_every,
            style_size=self._style_size(base),
            steady=held if self.steady else "off",
        )

    def look_at(self, base: Look, catalog: Catalog, height: int, width: int) -> Look:
        """Returns the owner's look with this wish, for pictures of a size."""
        look = self.look(base, catalog)
        if self.only is None:
            return look
        x, y = int(self.only[0] * width), int(self.only[1] * height)
        return replace(look, select=(min(x, width - 1), min(y, height - 1)))

    def _compositor(self, base: Look, catalog: Catalog) -> Choice:
        own = self.compositor == base.compositor.name
        params = base.compositor.params if own else _preset(self.compositor)
        if self.radius is not None and self.compositor in catalog.with_radius:
            params = {**params, RADIUS: self.radius}
        return Choice(self.compositor, params)

    def _style_size(self, base: Look) -> Scale | Auto:
        if self.style_size != 1:
            return self.style_size
        return None if isinstance(base.style_size, float) else base.style_size

    def to_json(self) -> dict[str, object]:
        """Returns what `changed` takes."""
        plain: dict[str, object] = {key: getattr(self, key) for key in Wish.__dataclass_fields__}
        plain["only"] = None if self.only is None else [*self.only]
        plain["routes"] = {
            name: {
                "style": paint.style,
                "strength": paint.strength,
                "keep_color": paint.keep_color,
            }
            for name, paint in self.routes.items()
        }
        return plain


def first(
    base: Look, catalog: Catalog, size: int, *, usual: str, target_fps: int | None = None
) -> Wish:
    """Returns the wish that the owner's own look is; ``usual`` is the styler's own style."""
    parsed = routes.parse(
        base.routes, classes=catalog.classes, styler=base.styler.name, params=base.styler.params
    )
    known = {str(value.get("style")): name for name, value in catalog.styles.items()}
    paints: dict[str, Paint] = {}
    for route in parsed:
        style = known.get(str(route.params.get("style")), usual)
        rest = route.left == REST and BACKGROUND in catalog.classes
        for name in (BACKGROUND,) if rest else route.classes:
            paints[name] = Paint(style, route.strength, route.keep_color)
    share, painted = base.segment_size, base.style_size
    radius = base.compositor.params.get(RADIUS)
    return Wish(
        routes=paints,
        matte=base.matte,
        compositor=base.compositor.name,
        radius=radius if isinstance(radius, int) else None,
        confidence=base.confidence,
        segment_size=share if isinstance(share, float) else 1.0,
        style_size=painted if isinstance(painted, float) else 1.0,
        segment_every=base.segment_every,
        steady=base.steady in ("matte", "full"),
        target_fps=target_fps,
        size=size,
    )


def paced(wish: Wish) -> tuple[object, ...]:
    """Returns what a frame rate that is held depends on, beside the frames' size."""
    return wish.target_fps, wish.segment_size, wish.segment_every, wish.style_size


def preset(wish: Wish, base: Look, catalog: Catalog) -> str:
    """Returns a job file for ``cbs-run --config-dir FOLDER --config-name NAME``.

    A file's path of the owner's is left out: visitors may have this text. So is the object that
    alone is restyled: in another clip it lies elsewhere.
    """
    import yaml  # type: ignore[import-untyped]

    look = wish.look(base, catalog)
    chosen = {"segmenter": look.segmenter, "styler": look.styler, "compositor": look.compositor}
    head = [{f"override {kind}": choice.name} for kind, choice in chosen.items()]
    body: dict[str, object] = {"defaults": ["config", *head, "_self_"]}
    for kind, choice in chosen.items():
        usual = _preset_of(kind, choice.name)
        params = {
            key: value
            for key, value in choice.params.items()
            if value is not None and value != usual.get(key) and not _is_path(value)
        }
        if params:
            body[kind] = params
    body["matte"] = wish.matte
    if look.confidence != 0.5:
        body["confidence"] = look.confidence
    # What the studio shows, and not what these keys are by themselves in a run.
    body["segment_size"] = wish.segment_size
    if look.style_size != "auto":
        size = look.style_size
        body["style_size"] = list(size) if isinstance(size, tuple) else size
    body["steady"] = look.steady
    if wish.segment_every != 1:
        body["segment_every"] = wish.segment_every
    if wish.target_fps is not None:
        body["target_fps"] = wish.target_fps
    body["routes"] = {
        name: paint.route(catalog, shown=True) for name, paint in wish.routes.items()
    } or {catalog.classes[0]: NONE}
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    return f"# cbs-run --config-dir . --config-name {PRESET} input=clip.mp4 output=out.mp4\n{text}"


PRESET = "studio"
"""Stem of the file that a preset is downloaded as."""


def _preset(compositor: str) -> Mapping[str, object]:
    return _preset_of("compositor", compositor)


def _preset_of(kind: str, name: str) -> Mapping[str, object]:
    return {key: value for key, value in section(kind, name).items() if key != "name"}


def _is_path(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_path, value))
    return isinstance(value, str) and Path(value).expanduser().exists()


def _paint(value: object, name: str, old: Paint | None, catalog: Catalog) -> Paint:
    given = _mapping({"style": value} if isinstance(value, str) else value, f"'{name}'")
    known = set(Paint.__dataclass_fields__)
    for key in given.keys() - known:
        raise ConfigError(f"routes: '{name}' has '{key}'{closest(key, known)}")
    style = given.get("style", old.style if old else None)
    if style is None:
        raise ConfigError(f"routes: '{name}' has no style")
    strength = given.get("strength", old.strength if old else 1.0)
    keep = given.get("keep_color", old.keep_color if old else False)
    return Paint(
        _one_of(style, (*catalog.styles, NONE), "style"),
        _number(strength, "strength"),
        _flag(keep, "keep_color"),
    )


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is a mapping, not {type(value).__name__}")
    return value


def _one_of(value: object, known: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str) or value not in known:
        shown = str(value)[:40]
        raise ConfigError(f"no {what} '{shown}'{closest(shown, known)}")
    return value


def _place(value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError("only is [x, y], shares of the picture's sides, or null")
    x, y = (_number(one, "only") for one in value)
    return x, y


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} '{str(value)[:40]}' is not true or false")
    return value


def _number(value: object, what: str) -> float:
    low, high = BOUNDS[what]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{what} '{str(value)[:40]}' is no number in {low:g}..{high:g}")
    return float(value)


def _whole(value: object, what: str) -> int:
    if not isinstance(value, int):
        raise ConfigError(f"{what} '{str(value)[:40]}' is no whole number")
    return int(_number(value, what))
