"""Where Hydra finds configuration: our presets, each plugin package's ``conf``, entry points.

Order, first match first:

1. ``conf/`` of this project (a file is a preset: a plugin's name and its parameters);
2. ``conf/`` in the top-level package of every plugin distribution, found without importing it;
3. ``cbs://``, which answers ``styler/pastel`` with ``{name: pastel}`` from entry-point metadata, so
   that a plugin with no YAML can be chosen and is listed.

Files that a user brings (``--config-dir``, ``hydra.searchpath``) come last, and are checked first:
they set this program's keys, and run nothing (`cbs_core.choose.userfiles`).

The Hydra plugins are registered by `install` before Hydra starts, because a ``hydra_plugins``
namespace package fails under editable installs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import OmegaConf

from cbs_core.choose import userfiles
from cbs_core.choose.packages import folders
from cbs_core.choose.registry import REGISTRIES
from cbs_core.contract.errors import ConfigError

ENTRY_POINTS = "entry-points"
"""The one address of the scheme ``cbs``."""


def conf_dir() -> Path:
    """Returns the folder of our own presets: in the wheel, else in the checkout."""
    # From __file__ only: an editable install may leave a stale copy under site-packages.
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def preset_dirs() -> dict[str, Path]:
    """Returns every folder of presets in search order, by the top-level package it belongs to."""
    # Our own only from where the code is: beside an editable install a stale copy may be found.
    return {"cbs_core": conf_dir()} | {
        package: folder for package, folder in folders("conf").items() if package != "cbs_core"
    }


def presets(kind: str, name: str) -> list[Path]:
    """Returns the preset files of a plugin, the one in force first; the others are shadowed."""
    files = [folder / kind / f"{name}.yaml" for folder in preset_dirs().values()]
    return [file for file in files if file.is_file()]


def section(kind: str, name: str) -> dict[str, object]:
    """Returns a plugin's section without Hydra: its preset's, or its name alone.

    What a preset takes from elsewhere (``${input}``) is left out.
    """
    found = presets(kind, name)
    return {"name": name} if not found else _plain(found[0])


def defaults(config_name: str = "config") -> dict[str, object]:
    """Returns what ``conf/config.yaml`` says without Hydra, each kind's section by its default.

    Args:
        config_name: another file in ``conf``.
    """
    own = _plain(conf_dir() / f"{config_name}.yaml")
    listed = own.pop("defaults")
    assert isinstance(listed, list)
    chosen = {k: v for entry in listed if isinstance(entry, dict) for k, v in entry.items()}
    sections = {kind: section(kind, str(name)) for kind, name in chosen.items()}
    return {**own, **sections}


def grown(old: Any, now: Any, config_name: str = "config") -> Any:
    """Returns what an output was made by, with the keys that this program has new since then.

    A key that was not there, and is as it is where nobody says anything, was not said otherwise.
    What has a default now that it had not is told by the program's version, not by its keys.

    Args:
        old: an identity of then, with its ``config`` in it; of any other kind it comes back.
        now: that of now.
        config_name: of which file in ``conf`` the configuration is.
    """
    if not all(isinstance(one, Mapping) and "config" in one for one in (old, now)):
        return old
    usual, own = defaults(config_name), _plain(conf_dir() / f"{config_name}.yaml")
    config = {**old["config"]}
    for key, value in now["config"].items():
        if key not in config:
            config |= _usual({key: value}, usual)
        elif key in REGISTRIES and _names(config[key]) == _names(value) is not None:
            extra = own.get(key)
            known = section(key, value["name"]) | (extra if isinstance(extra, dict) else {})
            config[key] = _usual(value, known) | config[key]
    return {**old, "config": config}


def _usual(said: Mapping[str, Any], usual: Mapping[str, object]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key in usual and usual[key] == value}


def _names(section: object) -> object:
    return section.get("name") if isinstance(section, Mapping) else None


def keys(config_name: str) -> set[str]:
    """Returns the keys that a configuration of ours (``config``, ``train``) may have at its top."""
    own = loaded(conf_dir() / f"{config_name}.yaml")
    listed = [entry for entry in own.pop("defaults", []) if isinstance(entry, dict)]
    packages = {str(key).rpartition("@")[2] for entry in listed for key in entry}
    return own.keys() | {one for one in packages if "/" not in one}  # those are Hydra's own


def groups() -> set[str]:
    """Returns the groups of presets that are none of a kind's plugins: ``+method=castillo``."""
    folders = (one for folder in preset_dirs().values() for one in folder.glob("*/"))
    return {one.name for one in folders if one.is_dir()} - REGISTRIES.keys() - {"recipe"}


def _plain(file: Path) -> dict[str, object]:
    return {key: value for key, value in loaded(file).items() if not str(value).startswith("${")}


def loaded(file: Path) -> dict[str, Any]:
    """Returns what a file of a package's says, nothing interpolated."""
    found = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


class CbsSearchPath(SearchPathPlugin):
    """Appends the folders of strangers' presets, then the entry points themselves."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra."""
        for package, folder in preset_dirs().items():
            if package != "cbs_core":
                search_path.append(provider=package, path=f"file://{folder}")
        search_path.append(provider="entry-points", path=f"cbs://{ENTRY_POINTS}")


class EntryPointSource(ConfigSource):
    """Shows every registered plugin as a preset that holds its name."""

    @staticmethod
    def scheme() -> str:
        """Returns ``cbs``."""
        return "cbs"

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns ``{name: NAME}`` for ``KIND/NAME``."""
        path = config_path.removesuffix(".yaml")
        if not self.is_config(path):
            raise ConfigLoadError(f"no plugin '{path}'")
        kind, _, name = path.partition("/")
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"name": name}),
            header={"package": kind},
        )

    def available(self) -> bool:
        """Tells whether the address is the one that there is; metadata is always there."""
        return self.path == ENTRY_POINTS

    def is_group(self, config_path: str) -> bool:
        """Tells whether the path is a kind."""
        return config_path in ("", *REGISTRIES)

    def is_config(self, config_path: str) -> bool:
        """Tells whether the path is ``KIND/NAME`` of a declared plugin."""
        kind, _, name = config_path.removesuffix(".yaml").partition("/")
        return kind in REGISTRIES and name in REGISTRIES[kind].names()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Lists kinds, or the plugins of one."""
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else sorted(REGISTRIES)
        if config_path in REGISTRIES and results_filter != ObjectType.GROUP:
            return list(REGISTRIES[config_path].names())
        return []


def _is_installed(file: str) -> bool:
    if file.startswith(f"{conf_dir()}{os.sep}"):
        return True
    return any(file.startswith(f"{folder}{os.sep}") for folder in preset_dirs().values())


class CheckedFiles(FileConfigSource):
    """Reads files for Hydra: those of packages as they are, a user's own only if they are safe."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a file's content.

        Raises:
            ConfigError: a user's file says more than it may (`cbs_core.choose.userfiles`).
        """
        file = os.path.normpath(os.path.join(self.path, self._normalize_file_name(config_path)))
        if os.path.isfile(file) and not _is_installed(file):
            with open(file, encoding="utf-8", errors="replace") as opened:
                header = self._get_header_dict(opened.read(512))
            userfiles.check(
                Path(os.path.relpath(file)),
                config_path=config_path,
                package=header.get("package"),
            )
        return super().load_config(config_path)


def _each_key_once(visitor: HydraOverrideVisitor, tree: Any) -> dict[str, Any]:
    """Reads ``{KEY: VALUE}`` of the command line; of two equal keys Hydra keeps the last.

    Raises:
        ConfigError: a key is there twice.
    """
    found: dict[str, Any] = {}
    for place in range(1, tree.getChildCount() - 1, 2):
        key, value = visitor.visitDictKeyValuePair(tree.getChild(place))
        if key in found:
            raise ConfigError(f"'{key}' is said twice in {tree.getText()}: keep one")
        found[key] = value
    return found


def _mode_said(_: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Returns the mode that ``hydra.mode=`` says; None leaves it to ``-m``.

    Hydra composes the whole configuration a second time for it, a quarter of what a refusal takes.
    No file may say it: ours do not, and a user's are refused.
    """
    said = [one.partition("=")[2] for one in overrides if one.startswith("hydra.mode=")]
    return next((mode for mode in RunMode if mode.name in said[-1:]), None)


def install() -> None:
    """Registers all with Hydra; safe to call again."""
    Hydra.get_mode = _mode_said  # type: ignore[method-assign,assignment]
    # Hydra copies its store of structured configurations for each group that a help text lists, to
    # keep its own lists of sources apart: a third of that text's time. Nobody writes to the store.
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
    HydraOverrideVisitor.visitDictContainer = _each_key_once  # type: ignore[assignment,method-assign]
    plugins = Plugins.instance()
    plugins.register(CbsSearchPath)
    plugins.register(EntryPointSource)
    # In the place of Hydra's own reader of files, which `register` would keep.
    SourcesRegistry.instance().types["file"] = CheckedFiles
