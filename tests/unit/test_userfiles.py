"""A configuration file of a user's sets this program's keys; whatever else it says is refused."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig

from cbs_core.choose import userfiles
from cbs_core.cli.app import DEBUG, hydra_app
from cbs_core.contract.errors import ConfigError

Compose = Callable[..., Mapping[str, object]]

OPEN = "{_target_: builtins.open, file: touched, mode: w}"
HANDLER = "{handlers: {e: {(): subprocess.Popen, args: [touch, touched]}}, version: 1}"
JOB = "defaults: [config, _self_]\n"
GLOBAL = "# @package _global_\n"

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)
LADDER = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300))

HYDRA_KEYS = {
    "callbacks": f"{{callbacks: {{e: {OPEN}}}}}",
    "callbacks of torch": "{callbacks: {e: {_target_: torch.load, f: evil.pt}}}",
    "callbacks, flow": '{"callbacks": {"e": {"_target_": "os.system", "command": "touch x"}}}',
    "job_logging": f"{{job_logging: {HANDLER}}}",
    "hydra_logging": f"{{hydra_logging: {HANDLER}}}",
    "job_logging class": "{job_logging: {handlers: {e: {class: logging.FileHandler, "
    "filename: touched}}, root: {handlers: [e]}}}",
    "job_logging ext": "{job_logging: {handlers: {e: {class: logging.StreamHandler, "
    "stream: 'ext://antigravity.x'}}}}",
    "launcher": f"{{launcher: {OPEN}}}",
    "sweeper": f"{{sweeper: {OPEN}}}",
    "sweeper params": "{sweeper: {params: {hydra.launcher._target_: builtins.open}}}",
    "searchpath": "{searchpath: ['file:///tmp', 'pkg://antigravity']}",
    "searchpath unknown": "{searchpath: ['nowhere://x']}",
    "run dir up": "{run: {dir: ../../up}}",
    "run dir absolute": "{run: {dir: /tmp/touched}}",
    "run dir home": "{run: {dir: ~/touched}}",
    "run dir list": "{run: {dir: [touched]}}",
    "run dir resolver": "{run: {dir: '${oc.env:HOME}/touched'}}",
    "run dir value": "{run: {dir: '${output}'}}",
    "sweep dir": "{sweep: {dir: /tmp/touched}}",
    "sweep subdir": "{sweep: {subdir: ../../touched}}",
    "output_subdir": "{output_subdir: ../../up}",
    "verbose resolver": "{verbose: '${oc.env:HOME}'}",
    "job name": "{job: {name: ../../touched}}",
    "job chdir": "{job: {chdir: true}}",
    "job env_set": "{job: {env_set: {LD_PRELOAD: evil.so}}}",
    "job env_copy": "{job: {env_copy: [HOME]}}",
    "help": "{help: {template: touched}}",
    "mode": "{mode: MULTIRUN}",
    "scalar": "1",
}

HOSTILE = {
    **{f"hydra {name}": f"{JOB}hydra: {text}\n" for name, text in HYDRA_KEYS.items()},
    "merge": f"{JOB}x: &x {{callbacks: {{e: {OPEN}}}}}\nhydra: {{<<: *x}}\n",
    "merge at the top": f"{JOB}<<: {{hydra: {{callbacks: {{e: {OPEN}}}}}}}\n",
    "dotted": f"{JOB}hydra.callbacks: {{e: {OPEN}}}\n",
    "package hydra": f"# @package hydra.callbacks\ne: {OPEN}\n",
    "package global hydra": f"# @package _global_.hydra.callbacks\ne: {OPEN}\n",
    "target": f"{JOB}styler: {OPEN}\n",
    "target deep": f"{JOB}styler: {{a: [1, {{b: {OPEN}}}]}}\n",
    "partial": f"{JOB}styler: {{_partial_: true}}\n",
    "parentheses": f"{JOB}styler: {{(): os.system}}\n",
    "python tag": f"{JOB}input: !!python/object/apply:os.system ['touch touched']\n",
    "python name": f"{JOB}input: !!python/name:os.system\n",
    "path tag": f"{JOB}input: !!python/object/apply:pathlib.Path [x]\n",
    "own tag": f"{JOB}input: !evil x\n",
    "environment": f"{JOB}input: ${{oc.env:HOME}}\n",
    "environment nested": f"{JOB}input: ${{${{a}}:HOME}}\n",
    "decode": f"{JOB}input: ${{oc.decode:${{output}}}}\n",
    "create": f"{JOB}input: ${{oc.create:'{{a: 1}}'}}\n",
    "hydra resolver": f"{JOB}input: ${{hydra:runtime.cwd}}\n",
    "open interpolation": f"{JOB}input: ${{oc.env\n",
    "key interpolation": f"{JOB}'${{oc.env:HOME}}': 1\n",
    "defaults override": "defaults: [config, {override hydra/launcher: basic}, _self_]\n",
    "defaults logging": "defaults: [config, {override /hydra/job_logging: disabled}, _self_]\n",
    "defaults package": "defaults: [config, {styler@hydra.callbacks: johnson}, _self_]\n",
    "defaults word": "defaults: [config, x@hydra.callbacks, _self_]\n",
    "defaults up": "defaults: [config, ../../secret, _self_]\n",
    "defaults resolver": "defaults: [config, '${oc.env:HOME}', _self_]\n",
    "bomb": f"{JOB}{BOMB}",
    "ladder": f"{JOB}{LADDER}",
    "itself": f"{JOB}a: &a [*a]\n",
    "itself in a mapping": f"{JOB}a: &a {{b: *a}}\n",
    "deep": f"{JOB}a: {'[' * 5000}{']' * 5000}\n",
    "deep mappings": f"{JOB}a: {'{a: ' * 3000}1{'}' * 3000}\n",
    "large": f"{JOB}a: {'x' * 100_000}\n",
    "endless number": f"{JOB}select: {'9' * 5000}\n",
    "twice": f"{JOB}input: a.png\ninput: b.png\n",
    "recursive": f"{JOB}styler: {{_recursive_: false, _convert_: all}}\n",
    "args": f"{JOB}styler: {{_args_: [x]}}\n",
    "resolver of a stranger": f"{JOB}input: ${{evil:touched}}\n",
    "resolver in a default": "defaults: [config, {styler: '${oc.env:HOME}'}, _self_]\n",
    "resolver in a list": f"{JOB}routes: [a, {{b: '${{oc.decode:x}}'}}]\n",
    "resolver escaped twice": f"{JOB}input: \\\\${{oc.env:HOME}}\n",
    "interpolated name": f"{JOB}input: ${{${{output}}}}\n",
    "sweeper of a default": "defaults: [config, {override hydra/sweeper: basic}, _self_]\n",
    "callbacks of a default": "defaults: [config, {hydra/callbacks: evil}, _self_]\n",
    "package of a default": "defaults: [config, {compositor@_global_.hydra.x: hard}, _self_]\n",
    "python tuple": f"{JOB}input: !!python/tuple [x]\n",
    "python module": f"{JOB}input: !!python/module:antigravity\n",
    "binary tag": f"{JOB}input: !!binary aGk=\n",
    "set tag": f"{JOB}input: !!set {{a, b}}\n",
    "two documents": f"{JOB}---\nhydra: {{mode: MULTIRUN}}\n",
    "null byte": f'{JOB}input: "a\\0b"\n',
    "null byte of a folder": f'{JOB}hydra: {{run: {{dir: "a\\0b"}}}}\n',
    "deep block": f"{JOB}a:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 300)),
    "100 MB": f"{JOB}# \n",  # and then nothing (`planted`)
    "keys of Unicode": f"{JOB}\u202einput: {OPEN}\n",
    "no YAML": "defaults: [config\n",
    "binary": "\x00\x01\x02",
}


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Runs a command, which only keeps its configuration, on files in the folder ``mine``."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_TRACEBACK", "")

    def call(*argv: str) -> Mapping[str, object]:
        configs: list[Mapping[str, object]] = []

        def keep(config: Mapping[str, object]) -> int:
            configs.append(config)
            return 0

        monkeypatch.setenv(DEBUG, "")
        name = next((one[8:] for one in argv if one.startswith("command=")), "config")
        words = [one for one in argv if not one.startswith("command=")]
        command = "cbs-run" if name == "config" else f"cbs-{name}"
        with pytest.raises(SystemExit) as ended:
            hydra_app(command, keep, ["--config-dir=mine", *words], config_name=name)
        if ended.value.code:
            assert ended.value.code == 2
            assert not configs
            raise ConfigError("refused")
        return configs[0]

    return call


TOUCHES = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "socket.",
)

watched: list[list[str]] = []
"""What the interpreter is asked for meanwhile; its hook can never be taken away."""


@pytest.fixture(scope="module", autouse=True)
def audit() -> None:
    def hook(event: str, args: tuple[object, ...]) -> None:
        if not watched:
            return
        writes = event == "open" and isinstance(args[1], str) and {*args[1]} & {*"wax+"}
        if writes or event.startswith(TOUCHES):
            watched[-1].append(f"{event} {args}"[:200])

    sys.addaudithook(hook)


def refused(compose: Compose, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Returns the one line, after which nothing was touched, and no process was started."""
    watched.append([])
    try:
        with pytest.raises(ConfigError, match="refused"):
            compose(*argv)
    finally:
        touched = watched.pop()
    # What Ctrl-C needs is made once a process (`cbs_core.cli.ending`).
    assert not [one for one in touched if not one.startswith("socket.__new__")]
    assert [path.name for path in Path().iterdir()] == ["mine"]
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line


def planted(name: str, text: str) -> None:
    """Writes the user's file; the large one takes no room on the disk."""
    file = Path("mine/look.yaml")
    file.write_text(text)
    if name == "100 MB":
        os.truncate(file, 100_000_000)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_more_than_settings_is_refused(
    name: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(name, HOSTILE[name])
    assert "'mine/look.yaml'" in refused(compose, capsys, "--config-name=look")


LAUGHTER = {
    "texts": ("xxxxxxxxxx", lambda n: "'" + 10 * f"${{routes.r{n - 1}}}" + "'"),
    "lists": ("[x]", lambda n: f"[{', '.join(10 * [f'&quot;${{routes.r{n - 1}}}&quot;'])}]"),
    "spaces": ("xxxxxxxxxx", lambda n: "'" + 10 * f"${{ routes.r{n - 1} }}" + "'"),
    "relative": ("xxxxxxxxxx", lambda n: "'" + 10 * f"${{.r{n - 1}}}" + "'"),
    "brackets": ("xxxxxxxxxx", lambda n: "'" + 10 * f"${{routes[r{n - 1}]}}" + "'"),
    "mappings": ("{a: x}", lambda n: f"{{a: '${{..r{n - 1}}}', b: '${{..r{n - 1}}}'}}"),
}


@pytest.mark.parametrize("kind", LAUGHTER)
def test_values_that_take_each_others_are_bounded(
    kind: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """No alias is in it, and each value is a plain interpolation."""
    first, next_one = LAUGHTER[kind]
    levels = 40 if kind == "mappings" else 12
    lines = [f"  r0: {first}", *(f"  r{n}: {next_one(n)}" for n in range(1, levels))]
    text = "\n".join([f"{JOB}input: a.png", "routes:", *lines]).replace("&quot;", '"')
    Path("mine/look.yaml").write_text(f"{text}\n")
    line = refused(compose, capsys, "--config-name=look")
    assert "stands for more than 1000000 characters" in line


def test_a_long_way_from_one_to_the_next_is_told(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"  r{n}: ${{routes.r{n + 1}}}" for n in range(1500)]
    text = "\n".join([f"{JOB}input: a.png", "routes:", *lines, "  r1500: x"])
    Path("mine/look.yaml").write_text(f"{text}\n")
    assert "hundreds of times in a row" in refused(compose, capsys, "--config-name=look")


def test_they_are_over_several_files(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"part{n}" for n in range(12)]
    for n, name in enumerate(names):
        value = "xxxxxxxxxx" if not n else 10 * f"${{routes.r{n - 1}}}"
        Path(f"mine/{name}.yaml").write_text(f"routes:\n  r{n}: '{value}'\n")
    Path("mine/look.yaml").write_text(f"defaults: [config, {', '.join(names)}, _self_]\n")
    assert "stands for more than" in refused(compose, capsys, "--config-name=look")


@pytest.mark.parametrize("name", HYDRA_KEYS)
def test_a_file_below_a_group_reaches_hydras_keys_no_more(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{GLOBAL}hydra: {HYDRA_KEYS[name]}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        userfiles.check(file, config_path="look/a", package="_global_")


def test_there_are_fifty_of_them() -> None:
    assert len(HOSTILE) > 50


def test_the_hook_hears_what_it_must() -> None:
    watched.append([])
    subprocess.run(["true"], check=True)
    Path("/dev/null").write_text("x")
    heard = watched.pop()
    assert any(one.startswith("subprocess.Popen") for one in heard)
    assert any(one.startswith("open") for one in heard)


@pytest.mark.parametrize("config_name", ["eval", "export", "train", "scene", "live"])
@pytest.mark.parametrize("name", ["hydra callbacks", "target", "bomb", "environment", "100 MB"])
def test_every_command_reads_them_in_the_same_way(
    name: str,
    config_name: str,
    compose: Compose,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = HOSTILE[name].replace("defaults: [config,", f"defaults: [{config_name},")
    planted(name, text)
    line = refused(compose, capsys, "--config-name=look", f"command={config_name}")
    assert "'mine/look.yaml'" in line
    assert ("has more than" in line) == (name == "100 MB")


@pytest.mark.parametrize("by", ["look", "ring"])
def test_defaults_that_lead_back_to_their_file(
    by: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine/look.yaml").write_text(f"defaults: [config, {by}, _self_]\n")
    Path("mine/ring.yaml").write_text("defaults: [look]\n")
    assert "lead back to that file" in refused(compose, capsys, "--config-name=look")


def test_a_folder_of_a_files_name(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/look.yaml").mkdir()
    assert "look" in refused(compose, capsys, "--config-name=look")


def test_a_pipe_of_a_files_name(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("mine/look.yaml")
    assert "look" in refused(compose, capsys, "--config-name=look")


@pytest.mark.parametrize("name", ["hydra callbacks", "target", "bomb", "package hydra"])
def test_a_file_that_is_added_or_named_by_another_is_refused_too(
    name: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine/look").mkdir()
    Path("mine/look/evil.yaml").write_text(HOSTILE[name])
    assert "'mine/look/evil.yaml'" in refused(compose, capsys, "+look=evil")
    Path("mine/job.yaml").write_text("defaults: [config, look: evil, _self_]\n")
    assert "'mine/look/evil.yaml'" in refused(compose, capsys, "--config-name=job")


def test_no_file_of_a_users_stands_for_one_of_hydras(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine/hydra/launcher").mkdir(parents=True)
    Path("mine/hydra/launcher/evil.yaml").write_text(OPEN)
    line = refused(compose, capsys, "hydra/launcher=evil", "-m", "styler.style=wave")
    assert "mine/hydra/launcher/evil.yaml" in line


def test_what_a_file_may_set(compose: Compose) -> None:
    Path("mine/look.yaml").write_text(
        f"{JOB}routes: {{car: &w {{style: wave}}, person: *w}}\n"
        "report: ${sheet}\n"
        "hydra: {run: {dir: runs/a}, sweep: {dir: runs, subdir: '${hydra.job.num}'}, "
        "output_subdir: null, verbose: false}\n"
    )
    config = compose("--config-name=look")
    assert config["routes"] == {"car": {"style": "wave"}, "person": {"style": "wave"}}
    assert config["report"] == "auto"
    assert not Path("outputs").exists()


def test_the_line_names_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"input: x\nhydra:\n  callbacks:\n    e: {OPEN}\n")
    with pytest.raises(ConfigError, match=r"a.yaml', line 3: 'hydra.callbacks' may not come"):
        userfiles.check(file)


def test_read_gives_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("car: wave\nperson: {style: udnie}\n")
    assert userfiles.read(file) == {"car": "wave", "person": {"style": "udnie"}}
    with pytest.raises(ConfigError, match="there is no file"):
        userfiles.read(tmp_path / "b.yaml")


@pytest.mark.parametrize("kept", [False, True])
def test_a_run_that_fails_leaves_no_folder(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_TRACEBACK", "")
    monkeypatch.setenv(DEBUG, "")

    def failing(config: Mapping[str, object]) -> int:
        assert not Path("outputs").exists()
        if kept:
            folder = Path(HydraConfig.get().runtime.output_dir)
            folder.mkdir(parents=True)
            (folder / "a.png").touch()
        raise ConfigError("wrong")

    with pytest.raises(SystemExit):
        hydra_app("cbs-run", failing, [])
    assert Path("outputs").exists() == kept


def test_a_configuration_is_composed_once(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice is a quarter of what a refusal takes; ``hydra.mode=`` says what ``-m`` does."""
    composed: list[list[str]] = []
    known = Hydra.compose_config

    def counting(self: Hydra, **given: Any) -> Any:
        composed.append([*given["overrides"]])
        return known(self, **given)

    monkeypatch.setattr(Hydra, "compose_config", counting)
    assert compose("input=sample:cat")["input"] == "sample:cat"
    assert len(composed) == 1
    assert "jobs" not in capsys.readouterr().out
    assert compose("hydra.mode=MULTIRUN", "matte=soft", "hydra.sweep.dir=sweep")["matte"] == "soft"
    assert "Launching 1 jobs" in capsys.readouterr().out
