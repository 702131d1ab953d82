"""Every plugin can be chosen, with or without a preset; strangers' presets are found."""

import sys
from importlib.metadata import EntryPoint

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import MissingConfigException
from hydra.test_utils.config_source_common_tests import ConfigSourceTestSuite
from omegaconf import OmegaConf

from cbs_core.choose import packages
from cbs_core.choose import presets as presets_module
from cbs_core.choose.presets import EntryPointSource, conf_dir, install, preset_dirs, presets
from cbs_core.choose.registry import REGISTRIES, Registry

PLUGINS = [
    (kind, name)
    for kind, registry in REGISTRIES.items()
    for name in registry.names()
    if registry.origin(name).startswith("class-based-styling ")
]


@pytest.fixture(scope="module", autouse=True)
def installed():
    install()
    install()


def composed(*overrides, of="config"):
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return OmegaConf.to_container(compose(of, list(overrides)))


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A package, never imported, with a preset of its own and one that ours shadows."""
    package = tmp_path / "cbs_stranger"
    (package / "conf" / "styler").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "conf" / "styler" / "chalk.yaml").write_text("name: chalk\nlevels: 4\n")
    (package / "conf" / "styler" / "chalk_soft.yaml").write_text("name: chalk\nlevels: 9\n")
    (package / "conf" / "styler" / "none.yaml").write_text("name: johnson\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = REGISTRIES["styler"]
    entries = {
        name: (EntryPoint(name, f"cbs_stranger.sub:{name}", registry.group),)
        for name in ("chalk", "bare")
    }
    monkeypatch.setitem(registry.__dict__, "_entries", registry._entries | entries)
    yield package
    assert "cbs_stranger" not in sys.modules


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_plugin_can_be_chosen(kind, name):
    chosen = f"'{name}'" if name == "null" else name
    of = "batch" if kind == "engine" else "config"
    assert composed(f"{kind}={chosen}", of=of)[kind]["name"] == name


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_built_in_preset_says_what_its_plugin_takes(kind, name):
    files = presets(kind, name)
    if files:
        params = OmegaConf.to_container(OmegaConf.load(files[0]), resolve=False)
        assert params.pop("name") == name
        for key in params:
            assert REGISTRIES[kind].takes(name, key), key


def test_presets_name_plugins_never_classes():
    for file in conf_dir().rglob("*.yaml"):
        assert "_target_" not in file.read_text(), file


OF_ANY_STYLER = {"where": "frame", "statistics": None}


def test_a_strangers_preset_is_found(stranger):
    assert composed("styler=chalk")["styler"] == {"name": "chalk", "levels": 4} | OF_ANY_STYLER
    assert composed("styler=chalk_soft")["styler"]["levels"] == 9
    assert composed("styler=chalk", "styler.levels=2")["styler"]["levels"] == 2


def test_a_plugin_without_a_preset_is_its_name(stranger):
    assert (
        composed("styler=bare", "+styler.x=1")["styler"] == {"name": "bare", "x": 1} | OF_ANY_STYLER
    )


def test_our_presets_shadow_a_strangers(stranger):
    assert composed("styler=none")["styler"] == {"name": "none"} | OF_ANY_STYLER
    ours, theirs = presets("styler", "none")
    assert ours == conf_dir() / "styler" / "none.yaml"
    assert theirs == stranger / "conf" / "styler" / "none.yaml"
    assert next(iter(preset_dirs())) == "cbs_core"


def test_an_unknown_plugin_is_hydras_error():
    with pytest.raises(MissingConfigException):
        composed("styler=chalkk")


def test_a_package_that_cannot_be_looked_for_costs_nothing(monkeypatch):
    def fail(name):
        raise ValueError("__spec__ is None")

    monkeypatch.setattr(packages, "find_spec", fail)
    assert list(preset_dirs()) == ["cbs_core"]


def test_what_a_notebook_registers_can_be_chosen(monkeypatch):
    monkeypatch.setitem(REGISTRIES["styler"]._registered, "mine", dict)
    assert composed("styler=mine")["styler"] == {"name": "mine"} | OF_ANY_STYLER


SUITES_WORDS = {
    "dataset": ("imagenet", "cifar10"),
    "optimizer": ("adam", "nesterov"),
    "configs_with_defaults_list": ("global_package", "group_package"),
}
"""Hydra's suite asks for these groups and names, so the source is shown registries of them."""

NOT_OURS = "the scheme cbs:// makes {name: NAME} of a plugin's metadata, and lacks "


class TestEntryPointSource(ConfigSourceTestSuite):
    """Hydra's own suite for sources of configuration; what it lacks stands at the end."""

    @pytest.fixture(autouse=True)
    def _registries(self, monkeypatch, request):
        if not request.function.__name__.startswith("test_of_ours"):
            registries = {kind: Registry(kind, f"suite.{kind}") for kind in SUITES_WORDS}
            for kind, names in SUITES_WORDS.items():
                registries[kind]._registered.update(dict.fromkeys(names, dict))
            monkeypatch.setattr(presets_module, "REGISTRIES", registries)

    @pytest.fixture
    def type_(self):
        return EntryPointSource

    @pytest.fixture
    def path(self):
        return "cbs://entry-points"

    def skip_overlap_config_path_name(self):
        return True  # a kind is a group and never a configuration

    @pytest.fixture(autouse=True)
    def _applicable(self, request):
        config_path = getattr(request.node, "callspec", None)
        config_path = config_path.params.get("config_path") if config_path else None
        name = request.function.__name__
        if config_path and config_path.startswith("level1/level2"):
            pytest.skip(f"{NOT_OURS}groups within groups")
        if config_path == "level1" and name != "test_is_config":
            pytest.skip(f"{NOT_OURS}groups within groups")
        if name == "test_list" and config_path == "":
            pytest.skip(f"{NOT_OURS}configurations outside of a group")
        if "package" in name:
            pytest.skip(f"{NOT_OURS}packages but the kind's own")
        if name == "test_source_load_config" and config_path != "dataset/not_found":
            pytest.skip(f"{NOT_OURS}content but the name")

    def test_of_ours_loads_a_name_under_its_kind(self, type_, path):
        loaded = type_(provider="foo", path=path).load_config("styler/none.yaml")
        assert loaded.config == {"name": "none"}
        assert loaded.header["package"] == "styler"
        assert loaded.provider == "foo"
        assert loaded.defaults_list is None

    def test_of_ours_lists_kinds_and_their_plugins(self, type_, path):
        source = type_(provider="foo", path=path)
        assert source.list("", None) == source.list("", ObjectType.GROUP) == sorted(REGISTRIES)
        assert source.list("", ObjectType.CONFIG) == []
        assert set(source.list("styler", None)) >= {"johnson", "none"}
        assert source.list("styler", ObjectType.GROUP) == []
        assert source.list("hydra", None) == []

    def test_of_ours_tells_groups_from_configs(self, type_, path):
        source = type_(provider="foo", path=path)
        assert source.available()
        assert source.is_group("styler")
        assert not source.is_group("styler/none")
        assert source.is_config("styler/none")
        assert source.is_config("styler/none.yaml")
        assert not source.is_config("styler/nine")
        assert not source.is_config("styler")


def test_the_global_state_of_hydra_is_left_alone():
    assert not GlobalHydra.instance().is_initialized()
