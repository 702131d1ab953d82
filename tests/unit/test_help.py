"""``--help`` has words for every key, of strangers' presets too."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from cbs_core.choose import presets
from cbs_core.choose.presets import conf_dir, preset_dirs
from cbs_core.cli import help as help_text
from cbs_core.cli.help import explained, lines, words_of
from tests.conftest import ROOT

FOLDERS = {*preset_dirs().values(), *ROOT.glob("examples/*/*/conf")}

FILES = sorted(
    file
    for folder in FOLDERS
    for file in folder.rglob("*.yaml")
    if file.name not in ("named.yaml", "streams.yaml", "words.yaml")
)


def keys(section: Mapping, prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_no_key_lacks_its_words(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    words = words_of(file)
    # A variant of a preset: what its keys mean is told by the plugin's own.
    own = words_of(file.with_stem(str(content.get("name", file.stem))))
    words = {key: text or own.get(key) for key, text in words.items()}
    due = [
        key
        for key in keys(content)
        if key != "name" and key.split(".")[0] not in ("defaults", "hydra")
    ]
    assert [key for key in due if not words.get(key)] == []


def test_words_stand_beside_below_or_above_a_key(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "# of the whole file\n\n"
        "name: x\n"
        "# how far\n# it goes\n"
        "far: 3\n"
        "colour: '#ff0000'  # of the line,\n"
        "                   # in hexadecimal\n"
        "more:\n"
        "  deep: 1  # metres\n"
        "  deeper: 2\n"
        "last: [1, 2]# no comment of YAML's\n"
    )
    assert words_of(file) == {
        "name": "",
        "far": "how far it goes",
        "colour": "of the line, in hexadecimal",
        "more": "",
        "more.deep": "metres",
        "more.deeper": "",
        "last": "",
    }


def test_a_strangers_keys_are_explained_from_its_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "styler").mkdir()
    (tmp_path / "styler/neon.yaml").write_text("name: neon\nglow: 3  # how bright, 0 to 9\n")
    (tmp_path / "styler/neon_dim.yaml").write_text("name: neon\nglow: 1\n")
    folders = preset_dirs() | {"cbs_neon": tmp_path}
    for module in (presets, help_text):
        monkeypatch.setattr(module, "preset_dirs", lambda: folders)
    for preset in ("neon", "neon_dim"):
        config = {"styler": {"name": "neon", "glow": 1, "where": "frame"}, "matte": "soft"}
        words = explained(config, "config", {"styler": preset, "hydra/launcher": "basic"})
        assert words["styler.glow"] == "how bright, 0 to 9"
        assert "whole frames" in words["styler.where"]
        assert words["matte"].startswith("argmax: the paper's")


def test_a_preset_that_takes_another_s_keys_has_their_words() -> None:
    words = explained(
        {"recipe": {"width": None, "losses": "gatys"}},
        "train",
        {"recipe/styler@recipe": "./swift"},
    )
    assert "at a quarter of the size" in words["recipe.width"]
    assert words["recipe.losses"].startswith("gatys: relu1_1")


def test_lines_are_wrapped_and_say_the_value() -> None:
    config = {"a": None, "b": {"c": [1, True], "d": {}}, "e": 5e-4}
    words = {"a": "word " * 40, "b.c": "of c", "gone": "never shown"}
    shown = list(lines(config, words))
    assert shown[0].startswith("a: null                  # word word")
    assert all(len(line) <= help_text.WIDTH for line in shown)
    assert [line for line in shown if "word" not in line] == [
        "b:",
        "  c: [1, true]           # of c",
        "  d: {}",
        "e: 0.0005",
    ]


@pytest.mark.parametrize("name", ["batch", "config", "eval", "export", "live", "scene", "train"])
def test_each_command_shows_keys_flags_and_environment(name: str) -> None:
    text = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text())["hydra"]["help"]["template"]
    for part in ("$KEYS", "$FLAGS", "$ENVIRONMENT", "$APP_CONFIG_GROUPS"):
        assert part in text
    for variable in ("CBS_WEIGHTS", "CBS_CACHE", "CBS_DATA"):
        assert variable in help_text.ENVIRONMENT


@pytest.mark.parametrize(
    ("command", "there", "strange"),
    [
        ("config", {"segmenter", "sink", "scheduler", "method"}, {"engine", "recipe/styler"}),
        ("eval", {"segmenter", "styler", "accelerator"}, {"sink", "engine", "method"}),
        ("export", {"segmenter", "styler"}, {"source", "accelerator", "method"}),
        ("train", {"segmenter", "styler", "recipe/styler"}, {"sink", "engine", "method"}),
        ("scene", {"segmenter", "styler", "accelerator"}, {"compositor", "sink", "method"}),
        ("live", {"segmenter", "source", "method"}, {"engine", "scheduler", "recipe/styler"}),
        ("batch", {"engine", "sink", "method"}, {"recipe/segmenter"}),
        ("augment", {"compositor", "engine"}, {"method", "sink"}),
    ],
)
def test_a_command_lists_the_kinds_that_it_has(
    command: str, there: set[str], strange: set[str]
) -> None:
    assert all(help_text._belongs(group, presets.keys(command)) for group in there)
    assert not any(
        help_text._belongs(group, presets.keys(command)) for group in {*strange, "hydra/help"}
    )
