"""A slip in a key is refused wherever it stands, with the word that was meant."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cbs_core.choose import weights
from cbs_core.choose.presets import conf_dir, defaults, install, keys
from cbs_core.choose.registry import REGISTRIES, checked_parameters
from cbs_core.cli.app import explain
from cbs_core.cli.keys import finished, unknown_key
from cbs_core.contract import places
from cbs_core.contract.errors import (
    ConfigError,
    PluginNotFoundError,
    UnknownClassError,
    WeightsMissingError,
    closest,
    nearest,
)
from cbs_core.run.settings import parse
from cbs_core.words.names import resolve
from cbs_core.words.vocabularies import VOCABULARIES

OURS = ("config", "eval", "train", "export", "scene", "live", "batch", "augment")


@pytest.fixture(scope="module")
def composed() -> Callable[..., dict[str, object]]:
    install()

    def call(*overrides: str, name: str = "config") -> dict[str, object]:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            found = OmegaConf.to_container(compose(name, list(overrides)))
        assert isinstance(found, dict)
        return {str(key): value for key, value in found.items()}

    return call


def sections() -> Iterator[tuple[str, dict[str, object]]]:
    """Every mapping of keys in ``conf``: what a configuration holds, and each preset."""
    for name in OURS:
        section = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text())
        listed = section.pop("defaults")
        kinds = {
            key.partition("@")[2] or key for one in listed if isinstance(one, dict) for key in one
        }
        plain = {key for key in kinds if " " not in key and "/" not in key}
        yield name, section | {key: section.get(key) for key in plain} | {"hydra": None}
    for file in sorted(conf_dir().glob("*/**/*.yaml")):
        if file.parent.name != "method":
            section = yaml.safe_load(file.read_text())
            section.pop("defaults", None)
            yield f"{file.relative_to(conf_dir()).with_suffix('')}", section
            for key, below in section.items():
                if isinstance(below, dict) and below:
                    yield f"{file.stem} {key}", below


def slips(key: str) -> Iterator[str]:
    """Each letter made another, left out, doubled, or changed for the next one."""
    for place, letter in enumerate(key):
        yield f"{key[:place]}{'q' if letter != 'q' else 'z'}{key[place + 1 :]}"
        if len(key) > 3:
            yield key[:place] + key[place + 1 :]
            yield key[:place] + letter + key[place:]
            if key[place + 1 : place + 2] not in ("", letter):
                yield f"{key[:place]}{key[place + 1]}{letter}{key[place + 2 :]}"


@pytest.mark.parametrize(
    ("name", "section"), list(sections()), ids=lambda one: one if type(one) is str else ""
)
def test_each_key_with_one_letter_changed(name: str, section: dict[str, object]) -> None:
    config = OmegaConf.create(section)
    OmegaConf.set_struct(config, True)
    of = {key: {*slips(str(key))} for key in section}
    for key in section.keys() - {"hydra"}:
        for slip in of[key] - section.keys():
            with pytest.raises(OmegaConfBaseException) as refused:
                OmegaConf.update(config, slip, 1)
            line = unknown_key(slip, refused.value.parent_node)
            # 'styleq' is one letter from style, from styler and from styles, and 'style' from two.
            near = {slip, slip[:-1]}
            meant = [key, *(other for other in section if {other, other[:-1]} & near)]
            meant += [other for other in section if slip in of[other]]
            assert any(f"did you mean '{one}'?" in line for one in meant), (name, slip, line)


@pytest.mark.parametrize("name", OURS)
def test_a_key_that_has_no_value_yet_is_meant_too(
    name: str, composed: Callable[..., dict[str, object]]
) -> None:
    """`segmenter` of `cbs-eval`, `teacher` of `cbs-train`: none is chosen before somebody does."""
    empty = keys(name) - composed(name=name).keys() - {"hydra"}
    assert bool(empty) == (name in ("eval", "export", "train"))
    for key in empty:
        slipped = {key[1:], key[:-1], key[0] + key, f"{key[1]}{key[0]}{key[2:]}"}
        for typed in slipped - keys(name):  # `style` is one
            with pytest.raises(HydraException) as refused:
                composed(f"{typed}=x", name=name)
            assert f"did you mean '{key}'?" in (explain(refused.value, name) or "")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("+routs=[car]", "unknown key 'routs'; did you mean 'routes'?"),
        ("+limit=1", "unknown key 'limit' (there are"),
        ("+style=7", "unknown key 'style'; say styler.style=VALUE"),
        ("+style.x=7", "unknown key 'style'; say styler.style=VALUE"),
        ("routes={car: {strenght: 1}}", "'car' has 'strenght'; did you mean 'strength'?"),
        ("routes={car: {stlye: wave}}", "'car' has 'stlye'; did you mean 'style'?"),
        ("routes={car: wave, person: udnie, car: udnie}", "'car' is said twice"),
        ("routes={car: {style: wave, style: udnie}}", "'style' is said twice"),
        ("routes=no_such.yaml", "there is no file 'no_such.yaml'"),
    ],
)
def test_what_hydra_lets_pass(
    typed: str, line: str, composed: Callable[..., dict[str, object]]
) -> None:
    with pytest.raises(ConfigError) as refused:
        finished(composed(typed), "config")
    assert line in str(refused.value)


@pytest.mark.parametrize("name", OURS)
def test_what_there_is_passes(name: str, composed: Callable[..., dict[str, object]]) -> None:
    config = composed(name=name)
    assert finished(config, name) == config


@pytest.mark.parametrize("name", OURS)
def test_no_command_keeps_what_was_typed_or_a_log(name: str) -> None:
    """A token, a password and a broadcaster's key are typed."""
    install()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        hydra = compose(name, return_hydra_config=True).hydra
    assert hydra.output_subdir is None
    handlers = hydra.job_logging.get("handlers") or {}
    assert not [handler for handler in handlers.values() if "filename" in handler]


def test_a_route_may_hold_its_stylers_parameters(
    composed: Callable[..., dict[str, object]],
) -> None:
    typed = "routes={car: {style: wave, strength: 1, keep_color: true, halo: 8}, person: none}"
    assert finished(composed(typed), "config")["routes"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, one in REGISTRIES.items()
        for name in one.names()
        if one.origin(name).startswith("class-based-styling ")
    ],
)
def test_each_parameter_of_a_plugin_with_one_letter_changed(kind: str, name: str) -> None:
    """What a file of a user's, ``+KEY=VALUE`` or a route says goes to the plugin itself."""
    target = REGISTRIES[kind].load(name)
    accepted = [
        parameter.name
        for parameter in inspect.signature(target).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    of = {key: {*slips(key)} for key in accepted}
    for key in accepted:
        for slip in of[key] - {*accepted}:
            with pytest.raises(ConfigError, match=r"no parameter|takes") as refused:
                checked_parameters(target, {slip: 1}, owner=f"{kind} '{name}'")
            meant = [key, *(other for other in accepted if slip[:-1] == other)]
            meant += [other for other in accepted if slip in of[other]]
            assert any(f"did you mean '{one}'?" in str(refused.value) for one in meant), slip


@pytest.mark.parametrize(
    ("typed", "meant"), [("+styler.wher=mask", "where"), ("+styler.statistcs=scene", "statistics")]
)
def test_what_all_stylers_share_is_known_beside_their_own(
    typed: str, meant: str, composed: Callable[..., dict[str, object]]
) -> None:
    with pytest.raises(ConfigError, match=f"styler: unknown key .*did you mean '{meant}'"):
        finished(composed(typed), "config")


def words_of(target: Callable[..., object]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each parameter that takes one of some words, and these."""
    for parameter in inspect.signature(target).parameters.values():
        several = get_origin(parameter.annotation) in (UnionType, Union)
        for option in get_args(parameter.annotation) if several else [parameter.annotation]:
            if get_origin(option) is Literal:
                yield parameter.name, get_args(option)


def test_each_word_that_a_plugin_takes_with_one_letter_changed() -> None:
    found = set()
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            target = registry.load(name)
            due = {
                parameter.name: "x"
                for parameter in inspect.signature(target).parameters.values()
                if parameter.default is parameter.empty
            }
            for key, words in words_of(target):
                found.add(f"{kind}/{name} {key}")
                for word in words:
                    for slip in {*slips(word)} - {*words}:
                        with pytest.raises(ConfigError) as refused:
                            checked_parameters(target, {key: slip, **due}, owner=name)
                        assert f"did you mean '{word}'?" in str(refused.value), slip
    assert {"source/folder on_error", "source/stream transport", "sink/video on_resize"} <= found


VALUES = {
    "policy": ("auto", "every_frame", "freshest"),
    "matte": ("argmax", "soft"),
    "steady": ("matte", "full", "off"),
}


@pytest.mark.parametrize("key", VALUES)
def test_each_value_that_is_a_word_with_one_letter_changed(key: str) -> None:
    for word in VALUES[key]:
        parse({**defaults(), key: word})
        for slip in {*slips(word)} - {*VALUES[key]}:
            with pytest.raises(ConfigError) as refused:
                parse({**defaults(), key: slip})
            assert f"did you mean '{word}'?" in str(refused.value), slip


@pytest.mark.parametrize("kind", REGISTRIES)
def test_each_plugins_name_with_one_letter_changed(kind: str) -> None:
    registry = REGISTRIES[kind]
    for name in registry.names():
        for slip in {*slips(name)} - {*registry.names()}:
            with pytest.raises(PluginNotFoundError) as refused:
                registry.origin(slip)
            assert f"did you mean '{name}'?" in str(refused.value), slip


@pytest.mark.parametrize("vocabulary", ["voc", "camvid", "cityscapes"])
def test_each_class_with_one_letter_changed(vocabulary: str) -> None:
    classes = list(VOCABULARIES[vocabulary])
    # Of car and of train; and what of chair and of wall is a word of its own.
    as_near = {"caq": "cat", "trrain": "terrain", "hair": "person", "all": "everything"}
    for name in classes:
        for slip in slips(name):
            try:
                told = f"did you mean '{resolve(slip, classes).classes[0]}'?"  # a plural, say
            except UnknownClassError as error:
                told = str(error)
            meant = as_near.get(slip, name)
            near = (f"did you mean '{name}'?", f"did you mean '{meant}'?", f"meaning is '{meant}'")
            assert any(one in told for one in near), slip


def test_each_style_with_one_letter_changed() -> None:
    names = [*weights.available("johnson")]
    assert len(names) > 5
    for name in names:
        for slip in slips(name):
            with pytest.raises(WeightsMissingError) as refused:
                weights.find("johnson", slip, flag="styler.weights")
            assert f"did you mean '{name}'?" in str(refused.value)


def test_style_is_the_stylers() -> None:
    section = {"styler": {"style": None}, "sink": {"path": None}}
    assert "say styler.style=VALUE" in unknown_key("style", section)


def test_routes_may_be_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, object]]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("routes.yaml").write_text("car: wave\nperson: {style: udnie, strength: 0.5}\n")
    found = finished(composed("routes=routes.yaml"), "config")["routes"]
    assert isinstance(found, Mapping)
    assert found == {"car": "wave", "person": {"style": "udnie", "strength": 0.5}}


@pytest.mark.parametrize(
    ("name", "known"), [("face", "sofa"), ("camera", "sample"), ("strenght", "weights")]
)
def test_words_that_are_not_near_are_not_offered(name: str, known: str) -> None:
    assert closest(name, [known]) == ""


def test_two_letters_changed_over_are_nearer_than_a_like_word() -> None:
    assert nearest("ople", ["people", "pole"]) == "pole"
    assert nearest("onne", ["onnx", "none"]) == "none"
    assert nearest("pole", ["pole"]) == "pole"
    assert nearest("x", ["pole"]) is None


@pytest.mark.parametrize(
    "slip",
    ["00:99", "00:60:00", "1:75:00", "-1", "1e3", "nan", "12:", "5s", "9" * 60, "9" * 60 + "f"],
)
def test_a_time_with_a_slip_is_refused(slip: str) -> None:
    with pytest.raises(ConfigError, match=f"preview={slip} is no place in a video"):
        places.parse("preview", slip)


@pytest.mark.parametrize(
    ("said", "seconds"), [("90", 90), ("99:59", 5999), ("100:00:59.5", 360059.5)]
)
def test_a_time_may_be_long_in_its_largest_unit(said: str, seconds: float) -> None:
    assert places.parse("preview", said).seconds == seconds
