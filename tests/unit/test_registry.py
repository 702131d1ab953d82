"""Names cost no import; every way a plugin can fail is one clear error."""

import os
import sys
from importlib.metadata import EntryPoint

import pytest

from cbs_core.choose import registry as module
from cbs_core.choose.registry import REGISTRIES, Registry, checked_parameters, origins
from cbs_core.contract.errors import (
    ConfigError,
    PluginConflictError,
    PluginLoadError,
    PluginNotFoundError,
    closest,
)
from tests.strange import Odd, Wordless

GROUP = "cbs.stylers"


class Distribution:
    """What of `importlib.metadata.Distribution` an entry point shows."""

    def __init__(self, name, version="1.0"):
        self.name, self.version = name, version
        self.metadata = {"Name": name}


def declare(name, value, distribution="pack"):
    return EntryPoint(name, value, GROUP)._for(Distribution(distribution))


PLUGINS = """
class Pastel:
    def __init__(self, levels=4, *, soft=False):
        self.levels, self.soft = levels, soft

class Needy:
    def __init__(self, weights):
        raise AssertionError("not called without weights")

class Broken:
    def __init__(self):
        raise RuntimeError("no\\n  such table")

class Told:
    def __init__(self):
        from cbs_core.contract.errors import ConfigError
        raise ConfigError("levels must be even")

def anything(**params):
    return params

number = 3
"""


@pytest.fixture
def stylers(tmp_path, monkeypatch):
    """A registry over two packages that were never imported, one of which cannot be."""
    (tmp_path / "fake_pack.py").write_text(PLUGINS)
    (tmp_path / "fake_bad.py").write_text("raise RuntimeError('half\\ninstalled')")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [
        *(
            declare(name.lower(), f"fake_pack:{name}")
            for name in ("Pastel", "Needy", "Broken", "Told", "anything", "number")
        ),
        declare("absent", "fake_pack:Absent"),
        declare("bad", "fake_bad:Bad", "bad-pack"),
        declare("missing", "no_such_module:X", "bad-pack"),
        declare("twin", "fake_pack:Pastel"),
        declare("twin", "fake_bad:Bad", "bad-pack"),
        declare("again", "fake_pack:Pastel"),
        declare("again", "fake_pack:Pastel"),
    ]
    monkeypatch.setattr(
        module, "entry_points", lambda group: [e for e in entries if e.group == group]
    )
    yield Registry("styler", GROUP)
    for name in ("fake_pack", "fake_bad"):
        sys.modules.pop(name, None)


def test_names_origin_and_target_import_nothing(stylers):
    assert stylers.names() == tuple(sorted(stylers.names()))
    assert {"pastel", "bad", "twin"} <= set(stylers.names())
    assert stylers.origin("bad") == "bad-pack 1.0"
    assert stylers.target("pastel") == "fake_pack:Pastel"
    assert stylers.claimants("twin") == ("pack 1.0", "bad-pack 1.0")
    assert not {"fake_pack", "fake_bad"} & sys.modules.keys()


def test_create_binds_the_parameters(stylers):
    pastel = stylers.create("pastel", levels=2, soft=True)
    assert (pastel.levels, pastel.soft) == (2, True)
    assert stylers.create("anything", name="x", what=1) == {"name": "x", "what": 1}


def test_two_distributions_spoil_only_their_one_name(stylers):
    for use in (stylers.load, stylers.origin, stylers.target, stylers.create):
        with pytest.raises(PluginConflictError, match=r"'twin' is claimed by pack 1\.0 and bad-pa"):
            use("twin")
    assert stylers.conflict("twin")
    assert not stylers.conflict("pastel")
    assert stylers.create("pastel")


def test_metadata_seen_twice_is_no_conflict(stylers):
    assert not stylers.conflict("again")
    assert stylers.create("again")


def test_an_unknown_name_gets_the_closest_and_the_list(stylers):
    with pytest.raises(PluginNotFoundError) as error:
        stylers.create("pastell")
    assert "no styler named 'pastell'; did you mean 'pastel'?" in str(error.value)
    assert GROUP in str(error.value)
    assert ", ".join(stylers.names()) in str(error.value)


def test_a_group_without_plugins_says_so(monkeypatch):
    monkeypatch.setattr(module, "entry_points", lambda group: [])
    with pytest.raises(PluginNotFoundError, match=r"no sink named 'x' \(installed: none\)"):
        Registry("sink", "cbs.sinks").load("x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad", r"'bad' of bad-pack 1\.0 cannot be imported \(RuntimeError: half installed\)"),
        ("missing", r"'missing' of bad-pack 1\.0 cannot be imported \(ModuleNotFoundError: No mod"),
        ("absent", r"'absent' of pack 1\.0 cannot be imported \(AttributeError: "),
        ("number", r"'number' of pack 1\.0 is no class or function but int: fake_pack:number"),
        ("broken", r"the styler 'broken' of pack 1\.0 failed \(RuntimeError: no such table\)"),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution(stylers, name, message):
    with pytest.raises(PluginLoadError, match=message):
        stylers.create(name)


def test_a_plugins_own_error_comes_through(stylers):
    with pytest.raises(ConfigError, match=r"^levels must be even$"):
        stylers.create("told")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("pastel", {"level": 1}, r"no parameter 'level'; did you mean 'levels'\? \(it takes: lev"),
        ("pastel", {"x": 1}, r"no parameter 'x' \(it takes: levels, soft\)"),
        ("broken", {"x": 1}, r"no parameter 'x' \(it takes: none\)"),
        ("needy", {}, r"'needy': missing a required argument: 'weights' \(it takes: weights\)"),
    ],
)
def test_wrong_parameters_are_told_before_the_call(stylers, name, params, message):
    with pytest.raises(ConfigError, match=message):
        stylers.create(name, **params)


def test_a_callable_without_a_signature_is_called_all_the_same():
    assert checked_parameters(max, {"x": 1}, owner="styler 'x'") == {"x": 1}


def typed(whole: int = 1, number: float = 0.5, flag: bool = False, text: str | None = None): ...


@pytest.mark.parametrize(
    ("params", "want"),
    [
        ({"whole": 3, "number": 2, "flag": True}, {"whole": 3, "number": 2, "flag": True}),
        ({"text": None}, {"text": None}),
        ({"text": 1984}, {"text": "1984"}),
    ],
)
def test_values_that_fit(params, want):
    assert checked_parameters(typed, params, owner="styler 'x'") == want


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"whole": 0.5}, "takes a whole number as whole, not '0.5'"),
        ({"whole": True}, "takes a whole number as whole, not 'True'"),
        ({"whole": None}, "takes a whole number as whole, not 'None'"),
        ({"number": "x"}, "takes a number as number, not 'x'"),
        ({"flag": 1}, "takes true or false as flag, not '1'"),
        ({"text": 0.5}, "takes a text as text, not '0.5'"),
        ({"text": ["a"]}, "takes a text as text"),
    ],
)
def test_values_of_another_type_are_told(params, message):
    with pytest.raises(ConfigError, match=message):
        checked_parameters(typed, params, owner="styler 'x'")


def test_whether_a_parameter_is_taken(stylers):
    assert stylers.takes("pastel", "soft")
    assert stylers.takes("anything", "soft")
    assert not stylers.takes("needy", "soft")


def test_register_adds_for_this_process_and_refuses_a_taken_name(stylers):
    stylers.register("mine", dict)
    assert "mine" in stylers.names()
    assert stylers.create("mine", a=1) == {"a": 1}
    assert stylers.origin("mine") == "this process"
    assert stylers.claimants("mine") == ("this process",)
    assert not stylers.conflict("mine")
    for taken in ("mine", "pastel", "twin"):
        with pytest.raises(PluginConflictError, match=f"'{taken}'"):
            stylers.register(taken, dict)


def test_origins_of_what_a_run_uses():
    assert origins("styler/none", "sink/null").keys() == {"styler/none", "sink/null"}
    assert all("class-based-styling" in origin for origin in origins("styler/none").values())


def test_a_kind_is_its_groups_singular():
    assert {registry.group for registry in REGISTRIES.values()} == {
        f"cbs.{kind}s" for kind in REGISTRIES
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [("CAR", "; did you mean 'car'?"), ("kar", "; did you mean 'car'?"), ("x", "")],
)
def test_closest(name, hint):
    assert closest(name, ["car", "person"]) == hint


@pytest.mark.parametrize(
    "error", [SystemExit(0), Odd("gone"), GeneratorExit(), Wordless()], ids=repr
)
def test_what_ends_a_program_is_one_line(error):
    def fail():
        raise error

    with pytest.raises(PluginLoadError, match=f"the plugin failed .{type(error).__name__}"):
        module.guarded("the plugin", fail)


def test_what_says_more_than_anybody_reads_is_cut():
    def fail():
        raise ValueError("x" * 10**7)

    with pytest.raises(PluginLoadError) as told:
        module.guarded("the plugin", fail)
    assert len(str(told.value)) < 3000


def test_a_plugin_does_not_take_the_working_folder_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "else").mkdir()
    module.guarded("the plugin", lambda: os.chdir("else"))
    assert os.getcwd() == str(tmp_path)


def test_an_interrupt_stays_one():
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.guarded("the plugin", fail)
