"""Registries: an installed entry point is the registration, for built-in plugins and strangers'.

Nothing is imported until it is chosen. Names come from distribution metadata, so that listing
plugins costs no import of torch and a broken package costs nothing until somebody asks for it.
"""

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from itertools import chain
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from cbs_core.contract.errors import (
    ConfigError,
    PluginConflictError,
    PluginError,
    PluginLoadError,
    PluginNotFoundError,
    closest,
    error_line,
    homeless,
)
from cbs_core.machine.dumps import calling
from cbs_core.machine.folder import staying

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cbs_core.contract.engines import Engine
    from cbs_core.contract.extensions import Distance, Finding, Losses
    from cbs_core.contract.interfaces import (
        Accelerator,
        Compositor,
        Scheduler,
        Segmenter,
        Sink,
        Source,
        Styler,
    )

T = TypeVar("T")

NOTEBOOK = "this process"
"""The origin of what `Registry.register` added."""


@cache
def installed() -> EntryPoints:
    """Returns every entry point of every group; read once, for it takes tens of milliseconds."""
    found = metadata.entry_points()
    # Python 3.11 has them in a dictionary by group, later ones do not.
    return EntryPoints(chain(*dict.values(found)) if isinstance(found, dict) else found)


def entry_points(group: str) -> EntryPoints:
    """Returns the entry points of a group."""
    return installed().select(group=group)


def distribution(entry: EntryPoint) -> str:
    """Returns the distribution that declares an entry point, as ``name version``."""
    return _told(entry.dist) if entry.dist else NOTEBOOK


@cache
def _told(dist: Distribution) -> str:
    # Each of the two reads and parses all of its metadata, some 2 ms.
    return f"{dist.name} {dist.version}"


class Registry(Generic[T]):
    """The plugins of one kind.

    Args:
        kind: the configuration group, such as ``styler``.
        group: the entry-point group, such as ``cbs.stylers``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._registered: dict[str, Callable[..., T]] = {}

    @cached_property
    def _entries(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        entries: defaultdict[str, dict[tuple[str, str], EntryPoint]] = defaultdict(dict)
        for entry in entry_points(group=self.group):
            # An editable install can show one distribution's metadata twice.
            entries[entry.name].setdefault((distribution(entry), entry.value), entry)
        return {name: tuple(found.values()) for name, found in sorted(entries.items())}

    def names(self) -> tuple[str, ...]:
        """Returns every declared name, sorted; imports nothing."""
        return tuple(sorted(self._entries.keys() | self._registered.keys()))

    def origin(self, name: str) -> str:
        """Returns the distribution (``name version``) that a name comes from.

        Raises:
            PluginNotFoundError: nobody declares the name.
            PluginConflictError: several distributions do.
        """
        return NOTEBOOK if name in self._registered else distribution(self._entry(name))

    def conflict(self, name: str) -> bool:
        """Tells whether several distributions claim a name."""
        return len(self._entries.get(name, ())) > 1

    def claimants(self, name: str) -> tuple[str, ...]:
        """Returns every distribution that declares a name; one, unless there is a conflict."""
        if name in self._registered:
            return (NOTEBOOK,)
        return tuple(distribution(entry) for entry in self._entries.get(name, ()))

    def target(self, name: str) -> str:
        """Returns the import string behind a name (``cbs_pastel:Pastel``); raises as `origin`."""
        if name in self._registered:
            return repr(self._registered[name])
        return self._entry(name).value

    def _entry(self, name: str) -> EntryPoint:
        found = self._entries.get(name, ())
        if not found:
            raise PluginNotFoundError(
                f"no {self.kind} named '{name}'{closest(name, self.names())} (installed: "
                f"{', '.join(self.names()) or 'none'}). A package adds one through the entry-point "
                f"group '{self.group}'; `cbs-plugins list` shows what is installed"
            )
        if len(found) > 1:
            owners = " and ".join(self.claimants(name))
            raise PluginConflictError(
                f"the {self.kind} '{name}' is claimed by {owners}: uninstall one of them"
            )
        return found[0]

    def load(self, name: str) -> Callable[..., T]:
        """Imports a plugin and returns its class or factory.

        Raises:
            PluginNotFoundError: nobody declares the name.
            PluginConflictError: several distributions do.
            PluginLoadError: importing it failed.
        """
        if name in self._registered:
            return self._registered[name]
        entry = self._entry(name)
        what = f"{self.kind} '{name}' of {distribution(entry)}"
        try:
            with staying():
                target: Callable[..., T] = calling(what, entry.load)
        except (PluginError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a stranger's import may raise anything
            raise PluginLoadError(
                f"the {what} cannot be imported ({error_line(error)}): mend or uninstall that "
                "package"
            ) from error
        if not callable(target):
            raise PluginLoadError(
                f"the {what} is no class or function but {type(target).__name__}: {entry.value} "
                "must name one"
            )
        return target

    def takes(self, name: str, parameter: str) -> bool:
        """Tells whether a plugin is built with such a parameter; raises as `load`."""
        try:
            known = inspect.signature(self.load(name)).parameters.values()
        except ValueError:  # some C callables tell no signature
            return False
        return any(p.name == parameter or p.kind is p.VAR_KEYWORD for p in known)

    def create(self, name: str, /, **params: object) -> T:
        """Builds a plugin.

        The parameters are bound to the signature before the call, so that an unknown one is told
        from an error inside the plugin.

        Raises:
            ConfigError: an unknown or missing parameter, with those accepted.
            PluginLoadError: the plugin raised while it was built.
            PluginError: as `load` raises.
        """
        target = self.load(name)
        params = checked_parameters(target, params, owner=f"{self.kind} '{name}'")
        return guarded(f"the {self.kind} '{name}' of {self.origin(name)}", target, **params)

    def register(self, name: str, target: Callable[..., T]) -> None:
        """Adds a plugin for this process only: for notebooks and tests.

        Raises:
            PluginConflictError: the name is taken.
        """
        if name in self.names():
            raise PluginConflictError(
                f"the {self.kind} '{name}' exists already ({self.origin(name)}): choose another "
                "name"
            )
        self._registered[name] = target


def guarded(what: str, call: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Calls into a plugin; what it raises, other than our own errors, becomes `PluginLoadError`.

    Raises:
        PluginLoadError: with ``what`` and the plugin's own words.
    """
    from cbs_core.contract.errors import CbsError

    try:
        with staying():
            return calling(what.removeprefix("the "), call, *args, **kwargs)
    except (CbsError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a stranger's code may raise anything
        if told := homeless(error):
            raise ConfigError(told) from error
        raise PluginLoadError(f"{what} failed ({error_line(error)})") from error


def checked_parameters(
    target: Callable[..., object], params: Mapping[str, object], *, owner: str
) -> dict[str, object]:
    """Checks keyword parameters against a signature: names, and values of plain types.

    Returns:
        The parameters, with a whole number made a text where one is due: YAML reads the style
        named 1984 as a number.

    Raises:
        ConfigError: an unknown or missing one, with those accepted, or one of another type.
    """
    try:
        signature = inspect.signature(target)
    except ValueError:  # some C callables tell no signature
        return dict(params)
    found = judged(signature, params, owner=owner)
    try:
        signature.bind(**params)
    except TypeError as error:
        raise ConfigError(f"the {owner}: {error} ({_listing(signature)})") from error
    return found


def judged(
    signature: inspect.Signature, params: Mapping[str, object], *, owner: str
) -> dict[str, object]:
    """Checks keyword parameters as `checked_parameters` does, whatever else is missing.

    Raises:
        ConfigError: an unknown one, with those accepted, or one of another type.
    """
    accepted = _accepted(signature)
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for key in params:
            if key not in accepted:
                raise ConfigError(
                    f"the {owner} has no parameter '{key}'{closest(key, accepted)} "
                    f"({_listing(signature)})"
                )
    return {
        key: _checked_value(key, value, signature.parameters.get(key), owner)
        for key, value in params.items()
    }


def _accepted(signature: inspect.Signature) -> list[str]:
    return [
        p.name
        for p in signature.parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _listing(signature: inspect.Signature) -> str:
    return f"it takes: {', '.join(_accepted(signature)) or 'none'}"


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _checked_value(
    key: str, value: object, parameter: inspect.Parameter | None, owner: str
) -> object:
    """Checks a value against an annotation made of `_WORDS` and None, or of a `Literal`'s words.

    Others are not judged.
    """
    annotation = parameter.annotation if parameter else None
    several = get_origin(annotation) in (UnionType, Union)
    options = get_args(annotation) if several else (annotation,)
    allowed = [option for option in options if option is not NoneType]
    if [get_origin(option) for option in allowed] == [Literal]:
        choices = get_args(allowed[0])
        if value not in choices and not (value is None and NoneType in options):
            raise ConfigError(
                f"the {owner} takes {' or '.join(map(str, choices))} as {key}, not '{value}'"
                f"{closest(str(value), map(str, choices))}"
            )
        return value
    if not all(option in _WORDS for option in allowed) or not allowed:
        return value
    if type(value) is int and str in allowed and not {int, float} & {*allowed}:
        return str(value)
    if value is None:
        fits = NoneType in options or (parameter is not None and parameter.default is None)
    elif isinstance(value, bool):
        fits = bool in allowed
    else:
        fits = isinstance(value, (*allowed, *((int,) if float in allowed else ())))
    if isinstance(value, float) and not math.isfinite(value):
        fits = False  # no size, share or weight is one, and what is made with it is black
    if not fits:
        words = " or ".join(_WORDS[option] for option in allowed)
        raise ConfigError(f"the {owner} takes {words} as {key}, not '{value}'")
    return value


def parameters(target: Callable[..., Any]) -> str:
    """Returns a signature as text for people, ``(style=None, weights=None)``."""
    try:
        return str(inspect.signature(target))
    except ValueError:
        return "(?)"


segmenters: "Registry[Segmenter]" = Registry("segmenter", "cbs.segmenters")
stylers: "Registry[Styler]" = Registry("styler", "cbs.stylers")
compositors: "Registry[Compositor]" = Registry("compositor", "cbs.compositors")
sources: "Registry[Source]" = Registry("source", "cbs.sources")
sinks: "Registry[Sink]" = Registry("sink", "cbs.sinks")
schedulers: "Registry[Scheduler]" = Registry("scheduler", "cbs.schedulers")
accelerators: "Registry[Accelerator]" = Registry("accelerator", "cbs.accelerators")
engines: "Registry[Engine]" = Registry("engine", "cbs.engines")
scenes: "Registry[Any]" = Registry("scene", "cbs.scenes")
"""Formats of 3D scenes by the suffix of their files; `cbs_core.scene.types` says what they give."""

REGISTRIES: Mapping[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (
        *(segmenters, stylers, compositors, sources, sinks, schedulers, accelerators, engines),
    )
}
"""Every registry by its configuration group."""

checks: "Registry[Iterable[Finding]]" = Registry("check", "cbs.checks")
losses: "Registry[Losses]" = Registry("losses", "cbs.losses")
distances: "Registry[Distance]" = Registry("distance", "cbs.distances")

EXTENSIONS: Mapping[str, Registry[Any]] = {
    registry.kind: registry for registry in (checks, distances, losses, scenes)
}
"""What a package adds beside plugins; no configuration group is made of these: a
scene is chosen by its file's suffix."""


def origins(*plugins: str) -> dict[str, str]:
    """Returns the distribution of each ``kind/name``."""
    return {
        plugin: REGISTRIES[kind].origin(name)
        for plugin in plugins
        for kind, _, name in [plugin.partition("/")]
    }
