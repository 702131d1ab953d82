"""One letter changed in each key of each command, where Hydra does not look: the word is told.

``+KEY=VALUE``, a file of a user's and what is said inside of a route reach the configuration as
they are. ``CBS_SLIPS=all`` tries every slip, else chance takes some of each key's.
"""

import copy
import functools
import inspect
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from cbs_core.augment import rules
from cbs_core.choose import presets, signatures, streams
from cbs_core.choose.registry import REGISTRIES
from cbs_core.cli import app, keys
from cbs_core.contract.errors import CbsError
from cbs_core.run import early

COMMANDS = ("config", "eval", "train", "export", "scene", "live", "batch", "augment")

SOME = None if os.environ.get("CBS_SLIPS") == "all" else 3
"""Slips of a key that are tried."""

GIVEN = {
    "config": {"input": "photo.png", "output": "out.png"},
    "batch": {"input": "photo.png", "output": "restyled"},
    "scene": {"input": "box.glb"},
    "augment": {"output": "set"},
    "eval": {"data": "."},
    "train": {"data": "."},
    "export": {"output": "net.onnx"},
}
"""What a command must be given."""

Config = dict[str, object]


def slips(key: str) -> Iterator[str]:
    """Each letter made another, left out, doubled, or changed for the next one."""
    for place, letter in enumerate(key):
        for other in {"q" if letter != "q" else "z", chr((ord(letter) - 96) % 26 + 97)} - {letter}:
            yield f"{key[:place]}{other}{key[place + 1 :]}"
        if len(key) > 3:
            yield key[:place] + key[place + 1 :]
            yield key[:place] + letter + key[place:]
            if key[place + 1 : place + 2] not in ("", letter):
                yield f"{key[:place]}{key[place + 1]}{letter}{key[place + 2 :]}"


def near(typed: str, key: str) -> bool:
    """Tells whether a word is a letter from a key: another, one more, one less, two swapped."""
    ends = min(len(typed), len(key))
    same = next((at for at in range(ends) if typed[at] != key[at]), ends)
    a, b = typed[same:], key[same:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def some(key: str, known: set[str]) -> list[str]:
    """Returns the slips of a key that are no keys themselves; of many those that chance takes."""
    found = sorted({*slips(key)} - known)
    return found if SOME is None else random.Random(key).sample(found, min(SOME, len(found)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with something of each kind; and files of ours are read once, not for each slip."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30)).save("photo.png")
    Path("box.glb").write_bytes(b"glTF")
    loaded = functools.cache(presets.loaded)
    for module in (presets, keys):
        monkeypatch.setattr(module, "loaded", lambda file: copy.deepcopy(loaded(file)))
    monkeypatch.setattr(keys, "keys", functools.cache(presets.keys))
    monkeypatch.setattr(signatures, "_read", functools.cache(signatures._read))


def refusal(config: Config, command: str) -> str:
    """Returns what a command says before it begins; nothing where it begins."""
    try:
        keys.refuse_unknown(config, command)
        if [*app._missing(config)]:
            keys.check_plugins(config)
            return ""
        early.refuse(keys.finished(config, command), command)
    except CbsError as error:
        return str(error)
    return ""


def installed(kind: str) -> set[str]:
    """Returns the plugins of packages: other tests register more, of any parameters."""
    registry = REGISTRIES[kind]
    return {name for name in registry.names() if name not in registry._registered}


def with_key(config: Config, *path: str) -> Config:
    """Returns a configuration in which a key is there, as by ``+a.b=1``."""
    key, *below = path
    inside = config.get(key)
    return {
        **config,
        key: with_key(dict(inside) if isinstance(inside, dict) else {}, *below) if below else 1,
    }


def told(line: str, slip: str, known: set[str]) -> bool:
    """Tells whether a line names a key that is meant, or the section of one that is called so."""
    meant = [key for key in known if near(slip, key)]
    return any(f"did you mean '{key}'" in line for key in meant) or f".{slip}=VALUE" in line


def bare(command: str) -> Config:
    """Returns what a command is composed of where nothing is said."""
    unset = {"name": "None"}  # a kind of which nothing is chosen yet
    known = keys.keys(command)
    return {k: v for k, v in presets.defaults(command).items() if k in known and v != unset}


def base(command: str, **sections: object) -> Config:
    """Returns what a command is composed of where all that must be said is."""
    config = bare(command) | GIVEN.get(command, {}) | sections
    for kind, key in (("source", "input"), ("sink", "output")):
        section = config.get(kind)
        if isinstance(section, dict) and key in config:
            name = getattr(streams, f"{kind}_for")(str(config[key]))
            config[kind] = {**presets.section(kind, name), "path": config[key]}
    return config


def chosen(command: str) -> Iterator[tuple[str, Config]]:
    """Yields each plugin's section of each kind that a command has, by the name of its preset."""
    kinds = keys.keys(command) & REGISTRIES.keys()
    for kind in sorted(kinds):
        files = {
            file.stem
            for one in presets.preset_dirs().values()
            for file in (one / kind).glob("*.yaml")
        }
        for name in sorted({*installed(kind), *files}):
            yield kind, presets.section(kind, name)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", [True, False])
def test_a_slip_at_the_top(command: str, given: bool) -> None:
    config = base(command) if given else bare(command)
    known = keys.keys(command)
    for key in sorted(keys.keys(command) - {"hydra"}):
        for slip in some(key, known):
            for path in ((slip,), (slip, "name")):
                line = refusal(with_key(config, *path), command)
                assert told(line, slip, known), (path, line)
    for strange in {"zzyzx", *REGISTRIES} - known:
        line = refusal({**config, strange: {"name": "auto"}}, command)
        assert f"unknown key '{strange}'" in line


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", [True, False])
def test_a_slip_in_a_plugins_section(command: str, given: bool) -> None:
    for kind, section in chosen(command):
        config = (base(command) if given else bare(command)) | {kind: section}
        shared = {"where", "statistics"} if kind == "styler" else set()
        name = str(section["name"])
        known = {*section, *shared, *inspect.signature(REGISTRIES[kind].load(name)).parameters}
        for key in sorted(known - {"name"}):
            for slip in some(key, known):
                line = refusal(with_key(config, kind, slip), command)
                assert told(line, slip, known), (kind, name, slip, line)
        assert "'zzyzx'" in refusal(with_key(config, kind, "zzyzx"), command), (kind, name)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["config", "batch", "scene", "live"])
def test_a_slip_inside_of_a_route(command: str) -> None:
    for styler in installed("styler") - {"none"}:
        own = {*inspect.signature(REGISTRIES["styler"].load(styler)).parameters}
        known = {*keys.OF_A_ROUTE, *own}
        for key in sorted(known):
            for slip in some(key, known):
                route = {"styler": styler, slip: 1}
                line = refusal(base(command, routes={"person": route}), command)
                assert told(line, slip, known), (styler, slip, line)
        line = refusal(base(command, routes={"person": {"styler": styler, "zzyzx": 1}}), command)
        assert "'zzyzx'" in line, styler


@pytest.mark.usefixtures("here")
def test_a_slip_inside_of_a_rule_of_an_augmented_set() -> None:
    known = {*rules.KEYS}
    for key in sorted(known):
        for slip in some(key, known):
            with pytest.raises(CbsError) as refused:
                rules.check({"car": {slip: 1}})
            assert told(str(refused.value), slip, known), slip


@pytest.mark.usefixtures("here")
def test_a_slip_in_one_of_several_outputs() -> None:
    for name in sorted(installed("sink")):
        known = {*inspect.signature(REGISTRIES["sink"].load(name)).parameters}
        for key in sorted(known):
            for slip in some(key, known):
                output = {"name": name, "path": "out.mp4", slip: 1}
                config = base("config") | {"output": ["new.mp4", output]}
                assert told(refusal(config, "config"), slip, known), (name, slip)


def test_a_slip_in_a_recipe() -> None:
    for file in sorted((presets.conf_dir() / "recipe").glob("*/*.yaml")):
        task: Callable[..., object] = REGISTRIES[file.parent.name].load(file.stem).task
        with pytest.raises(CbsError, match="zzyzx") as refused:
            task(zzyzx=1)
        accepted = {*str(refused.value).partition("(it takes: ")[2].rstrip(")").split(", ")}
        for key in sorted({*presets.loaded(file)} - {"steps", "defaults"}):
            assert key in accepted, (file, key)
            for slip in some(key, accepted):
                with pytest.raises(CbsError) as refused:
                    task(**{slip: 1})
                assert told(str(refused.value), slip, accepted), (file, slip)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("run.dr", "dir"), ("rn.dir", "run"), ("sweep.subdr", "subdir"), ("vrbose", "verbose")],
)
def test_a_slip_in_a_key_of_hydras(word: str, meant: str) -> None:
    for plus in ("+", "++"):
        with pytest.raises(CbsError, match=f"'hydra.{word}'; did you mean '{meant}'"):
            keys.refuse_unknown_of_hydra([f"{plus}hydra.{word}=x"])
    free = ["+hydra.job.env_set.A=1", "+hydra.job_logging.x=1", "+hydra.run.dir=x", "hydra.x=1"]
    keys.refuse_unknown_of_hydra(free)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.rn.dir=x"], "did you mean 'run'"),
        (["metod=castillo"], "did you mean 'method'"),
        (["+metod=castillo"], "did you mean 'method'"),
        (["method=castillo"], "say +method=castillo"),
        (["~styelr"], "did you mean 'styler'"),
        (["--confg-dir=x"], "did you mean '--config-dir'"),
        (["hydra.searchpath=[ftp://x/y]"], "hydra.searchpath names 'ftp://', which is not known"),
        (["hydra.searchpath=[file:///no/where]"], "hydra.searchpath names '/no/where'"),
        (
            ["--config-dir=jobs", "--config-name=base"],
            "no configuration file 'confg'; did you mean",
        ),
        (["--config-dir=jobs", "--config-name=kind"], "did you mean 'styler'"),
        (["--config-dir=jobs", "--config-name=listed"], "'defaults.1' is no choice: write"),
        (["--config-dir=jobs", "--config-name=two"], "'defaults.1' is no choice: write"),
        (["--config-dir=jobs", "--config-name=deep"], "'defaults.1' is no choice: write"),
        (["--config-dir=jobs", "--config-name=key"], "did you mean 'quality'"),
    ],
)
def test_what_is_typed_is_told_in_a_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs").mkdir()
    for name, text in {
        "base": "[confg, _self_]",
        "kind": "[config, {override styelr: swift}, _self_]",
        "listed": "[config, [a], _self_]",
        "two": "[config, {a: b, c: d}, _self_]",
        "deep": "[config, {a: {b: c}}, _self_]",
        "key": "[config, _self_]\nsink: {qualty: 3}",
    }.items():
        Path("jobs", f"{name}.yaml").write_text(f"defaults: {text}\ninput: photo.png\n")
    Image.new("RGB", (40, 30)).save("photo.png")
    input_word = [] if "jobs" in words[0] else ["input=photo.png"]
    done = subprocess.run(
        [Path(sys.executable).with_name("cbs-run"), *input_word, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_number_or_neither_true_nor_false(command: str) -> None:
    plain = {k: v for k, v in base(command).items() if isinstance(v, int | float)}
    assert plain
    for key, usual in plain.items():
        wrong = ("zzyzx", [1], {"a": 1}) + ((1,) if isinstance(usual, bool) else (float("nan"),))
        for value in wrong:
            assert refusal(base(command) | {key: value}, command).count(key), (key, value)
