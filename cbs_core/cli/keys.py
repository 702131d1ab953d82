"""Keys of a configuration: those that there are, and what is meant by one that is not.

Hydra refuses an unknown ``KEY=VALUE``, but not ``+KEY=VALUE`` nor what a file says.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from cbs_core.choose import signatures, userfiles
from cbs_core.choose.presets import groups, keys, loaded, presets
from cbs_core.choose.registry import REGISTRIES
from cbs_core.contract.errors import ConfigError, closest, nearest

OF_ANY = {"name", "where", "statistics"}
"""Keys of a plugin's section that are there without a preset (``conf/config.yaml``)."""

OF_A_ROUTE = ("style", "strength", "keep_color", "styler")
"""What a route takes beside its styler's own parameters."""

ROUTES_FILES = (".yaml", ".yml")


def finished(config: Mapping[str, object], config_name: str) -> Mapping[str, object]:
    """Returns a composed configuration with its routes read, where they are in a file.

    Args:
        config: plain values.
        config_name: the file in ``conf`` that holds every key.

    Raises:
        ConfigError: an unknown key, or routes that cannot be read.
    """
    refuse_unknown(config, config_name)
    for key, value in config.items():
        if key in REGISTRIES and isinstance(value, str):
            raise ConfigError(
                f"a file chooses a plugin in its defaults, as '- override {key}: {value}': "
                f"'{key}: {value}' says nothing to it"
            )
    _check_styler(config.get("styler"))
    routes = config.get("routes")
    if isinstance(routes, str) and Path(routes).suffix.lower() in ROUTES_FILES:
        routes = userfiles.read(Path(routes).expanduser())
    elif isinstance(routes, str) and routes.startswith("{"):
        routes = userfiles.inline("routes", routes)
    if isinstance(routes, Mapping) and config_name != "augment":  # whose rules are others
        styler = config.get("styler")
        _check_routes(routes, styler.keys() if isinstance(styler, Mapping) else ())
    return {**config, "routes": routes} if "routes" in config else config


def refuse_unknown(config: Mapping[str, object], config_name: str) -> None:
    """Refuses a key that a command does not have.

    Args:
        config: plain values, which may be missing.
        config_name: the file in ``conf`` that holds every key.

    Raises:
        ConfigError: with the word that is meant.
    """
    known = keys(config_name)
    for key in config:
        if key not in known:
            raise ConfigError(_told(key, sorted(known | groups()), config))


def check_plugins(config: Mapping[str, object]) -> None:
    """Refuses a slip in what a plugin is given, as far as that can be told without it.

    Args:
        config: plain values, which may be missing.

    Raises:
        CbsError: with the word that is meant.
    """
    _check_styler(config.get("styler"))
    signatures.check_all(config)


def _check_styler(section: object) -> None:
    """Refuses a slip in what all stylers share, which a styler itself does not know.

    Raises:
        ConfigError: with the word that is meant.
    """
    if not isinstance(section, Mapping):
        return
    for key in section.keys() - OF_ANY:
        near = nearest(str(key), sorted(OF_ANY - {"name"}), cutoff=0.75)
        if near and str(key) not in _own_keys(section):
            raise ConfigError(f"styler: unknown key '{key}'; did you mean '{near}'?")


def _own_keys(section: Mapping[str, object]) -> set[str]:
    """Returns the keys of a styler's presets."""
    return {key for file in presets("styler", str(section.get("name"))) for key in loaded(file)}


def refuse_unknown_of_hydra(words: Iterable[str]) -> None:
    """Refuses ``+hydra.run.dr=x``, which Hydra adds to its own keys and never reads.

    Args:
        words: of the command line.

    Raises:
        ConfigError: with the word that is meant.
    """
    from hydra.conf import HydraConf
    from omegaconf import DictConfig, OmegaConf

    for word in words:
        if not (found := re.match(r"\++hydra\.([\w.]+)=", word)):
            continue
        node: object = OmegaConf.structured(HydraConf)
        for part in found[1].split("."):
            if not isinstance(node, DictConfig) or OmegaConf.get_type(node) is dict:
                break  # whose keys are free
            if part not in node and not OmegaConf.is_missing(node, part):
                known = [str(one) for one in node]
                raise ConfigError(
                    f"unknown key 'hydra.{found[1]}'{closest(part, known)} (there are: "
                    f"{', '.join(known)})"
                )
            node = None if OmegaConf.is_missing(node, part) else node[part]


def unknown_key(
    key: str, parent: object, config_name: str | None = None, *, part: str | None = None
) -> str:
    """Returns the line for ``KEY=VALUE`` of a key that is not there.

    Args:
        key: as typed, with dots.
        parent: the section in which it was looked for.
        config_name: the file in ``conf`` of the command; it may have kinds of plugins of which none
            is chosen yet.
        part: of the key, what was looked for there; None: what is behind its last dot.
    """
    from omegaconf import OmegaConf

    # Unresolved, because another key's value may not be there.
    plain = OmegaConf.to_container(parent) if OmegaConf.is_dict(parent) else parent
    section = plain if isinstance(plain, Mapping) else {}
    known = [str(one) for one in section if one != "hydra"]
    if config_name is not None and "." not in key:
        known += sorted((keys(config_name) | groups()) - section.keys() - {"hydra"})
    if not known:
        return f"unknown key '{key}': `{sys.argv[0]} --cfg job` shows those that there are"
    return _told(key, known, section, part)


def _told(
    key: str, known: list[str], section: Mapping[str, object], part: str | None = None
) -> str:
    head, _, last = key.rpartition(".")
    last = part or last
    # `style=7` is meant for the styler's section.
    inside = [
        f"{name}.{last}"
        for name in known
        if isinstance(below := section.get(name), Mapping) and last in below
    ]
    near = f"; say {' or '.join(inside)}=VALUE" if inside and not head else closest(last, known)
    more = ""
    if head and not set(known) - OF_ANY:
        more = f"; if the plugin takes it, without a preset that says so, say +{key}=VALUE"
    return f"unknown key '{key}'{near} (there are: {', '.join(known)}){more}"


def _check_routes(routes: Mapping[object, object], params: Iterable[str]) -> None:
    """Refuses a slip in a route's own words, which would else be taken for a styler's parameter.

    Raises:
        ConfigError: with the word that is meant.
    """
    known = {*OF_A_ROUTE, *params}
    for name, route in routes.items():
        for key in map(str, route) if isinstance(route, Mapping) else ():
            near = nearest(key, OF_A_ROUTE, cutoff=0.75)
            if key not in known and near:
                raise ConfigError(f"routes: '{name}' has '{key}'; did you mean '{near}'?")
