"""From a composed configuration (``conf/train.yaml``) to a trained weight file."""

import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from cbs_core.choose import registry, weights
from cbs_core.choose.sections import flag, split
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.task import Task
from cbs_core.contract.types import WeightsFile
from cbs_core.machine import asked
from cbs_core.machine import device as devices
from cbs_core.machine.terminal import PlainConsole
from cbs_core.training import export, places
from cbs_core.training.checkpoint import BEST, LAST
from cbs_core.training.folder import RunFolder, check, check_made, held
from cbs_core.training.loop import Outcome, Settings, restore_best, train

INPUTS = ("data", "style", "init", "teacher")
"""Keys at the top of the configuration that go to the task where they are not null."""

RUN_SUFFIX = ".train"
"""Of the run's folder, beside the output and under its name."""

WORKERS = 256
"""Threads at most."""

COMPILED_FROM = 2000
"""Steps. Compiling takes a minute, and saves a seventh of a step of a second."""


def train_session(config: Mapping[str, object]) -> int:
    """Trains what a configuration describes; returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    _, name = places.chosen(config)
    for key in ("quiet", "half", "channels_last", "overwrite"):
        flag(config, key)
    device = devices.choose(str(config["device"]))
    settings = _settings(config, device.device)
    if (chosen := config["export"]) not in ("best", "last"):
        near = closest(str(chosen), ("best", "last"))
        raise ConfigError(f"export={chosen} is neither best nor last{near}")
    overwrite = flag(config, "overwrite", default=False)
    if config["output"] is not None:  # refused before data and nets are loaded
        given = _given(config)
        check(_run_folder(config["resume"], given), given, overwrite=overwrite)
    with weights.noted() as files:
        task = build(config, settings)
    output = _output(config, name, task)
    path = _run_folder(config["resume"], output)
    with held(path, output, overwrite=overwrite) as folder:
        return _trained(config, task, settings, device, folder, output, files)


def _trained(
    config: Mapping[str, object],
    task: Task,
    settings: Settings,
    device: devices.Device,
    run: RunFolder,
    output: Path,
    files: Sequence[WeightsFile],
) -> int:
    kind, name = places.chosen(config)
    folder = run.path
    if config["resume"] is False:
        for file in (LAST, BEST):
            (folder / file).unlink(missing_ok=True)
    console = PlainConsole(quiet=bool(config["quiet"]))
    precision = str(settings.dtype).removeprefix("torch.")
    console.print(
        f"{kind} {name} on {device.name} in {precision} · weights: {weights.told(files)} · "
        f"checkpoints, curves and previews are in {folder}",
        markup=False,
    )
    outcome = train(task, settings, folder, device=device.device, console=console)
    if outcome.end == "interrupted":
        print(
            f"cbs-train: interrupted; step {outcome.step} of {settings.steps} is saved: the same "
            "command with resume=true goes on",
            file=sys.stderr,
        )
        return 130
    best = restore_best(task, folder) if config["export"] == "best" else None
    step, metrics = best or (outcome.step, outcome.metrics)
    tensors, told = task.export()
    header = {**told, **_header(settings, step, metrics, f"{kind}/{name}", device.name)}
    over = os.path.lexists(output)  # which `held` has allowed
    output = export.write(output, tensors, header, half=bool(config["half"]), over=over)
    run.note(output)
    _conclude(console, outcome, settings, step, output)
    if registry.REGISTRIES[kind].takes(name, "weights"):
        use = ["cbs-run", f"{kind}={name}", f"{kind}.weights={output}", "input=photo.jpg"]
        console.print(f"use it: {shlex.join(use)}", markup=False)
    return 0


def build(config: Mapping[str, object], settings: Settings) -> Task:
    """Returns the task of the plugin that a configuration chooses.

    Raises:
        ConfigError: the plugin cannot be trained, or its task takes no such parameter.
        CbsError: as the plugin raises.
    """
    kind, name = places.chosen(config)
    plugins = registry.REGISTRIES[kind]
    what = f"{kind} '{name}' of {plugins.origin(name)}"
    factory = getattr(plugins.load(name), "task", None)
    if not callable(factory):
        raise ConfigError(
            f"the {what} cannot be trained: its class has no `task` (see `Trainable` in "
            "cbs_core/contract/interfaces.py). styler=johnson can"
        )
    given = _params(config, settings)
    if given.get("init") is not None:
        given["init"] = str(places.init_file(str(given["init"]), name))
    params = registry.checked_parameters(factory, given, owner=f"task of {what}")
    task: Task = registry.guarded(f"the task of the {what}", factory, **params)
    return task


def _params(config: Mapping[str, object], settings: Settings) -> dict[str, object]:
    kind, _ = places.chosen(config)
    _, own = split(config[kind], kind)
    given = {key: config[key] for key in INPUTS if config.get(key) is not None}
    recipe = config.get("recipe") or {}
    assert isinstance(recipe, Mapping)
    return {
        **given,
        **{key: value for key, value in own.items() if value is not None},
        **{key: value for key, value in recipe.items() if key != "steps"},
        "seed": settings.seed,
        "steps": settings.steps,
    }


def _settings(config: Mapping[str, object], device: torch.device) -> Settings:
    recipe = config.get("recipe") or {}
    assert isinstance(recipe, Mapping)
    steps = config["steps"] if config["steps"] is not None else recipe.get("steps")
    if steps is None:
        raise ConfigError("how long to train is not said, and no recipe says it: give steps=NUMBER")
    numbers: dict[str, Any] = {"steps": _at_least(1, "steps", steps, whole=True)}
    for key, least, whole in (
        *(("seed", 0, True), ("workers", 0, True), ("checkpoint_every", 1, True)),
        *(("validate_every", 0, True), ("preview_every", 0, True)),
        *(("checkpoint_minutes", 0, False), ("minutes", 0, False)),
        *(("clip", 0, False), ("divergence", 1, False)),
    ):
        optional = key in ("minutes", "clip", "divergence")
        value = config[key]
        numbers[key] = (
            None if value is None and optional else _at_least(least, key, value, whole=whole)
        )
    if numbers["workers"] > WORKERS:
        raise ConfigError(f"workers={numbers['workers']} must be at most {WORKERS}")
    dtype = precision(str(config["precision"]), device)
    settings = Settings(
        **numbers,
        dtype=dtype,
        channels_last=bool(config["channels_last"]),
        compile=compiled(config["compile"], numbers["steps"], dtype, device),
    )
    told = {key: json.dumps(value) for key, value in _params(config, settings).items()}
    return replace(settings, recipe=told)


def _at_least(least: float, key: str, value: object, *, whole: bool) -> float:
    kinds = (int,) if whole else (int, float)
    # Above 64 bits neither a generator nor a loop takes it.
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < 2**63:
        number = "a whole number" if whole else "a number"
        raise ConfigError(f"{key}={value} must be {number} of at least {least:g}")
    return value


def precision(spec: str, device: torch.device) -> torch.dtype:
    """Returns the dtype of autocast: ``auto`` is bf16 where the device has arithmetic for it.

    Raises:
        ConfigError: an unknown word.
    """
    if spec == asked.INT8:
        raise ConfigError("precision=int8 is for trained nets: say fp32, bf16, fp16 or auto")
    if spec != "auto":
        return devices.dtype(spec, device)
    return torch.bfloat16 if devices.multiplies_in_bf16(device) else torch.float32


def compiled(spec: object, steps: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Returns whether steps are compiled.

    ``auto`` decides by what a resumption has in common with the run that it continues, because a
    compiled step rounds otherwise.

    Raises:
        ConfigError: an unknown word.
    """
    if isinstance(spec, bool):
        return spec
    if spec != "auto":
        raise ConfigError(f"compile={spec} is neither true, false nor auto")
    pays = device.type == "cpu" and dtype == torch.bfloat16 and steps >= COMPILED_FROM
    return pays and shutil.which("c++") is not None


def _output(config: Mapping[str, object], name: str, task: Task) -> Path:
    if config["output"] is None:
        return Path("weights") / name / f"{task.name}.safetensors"
    return _given(config)


def _given(config: Mapping[str, object]) -> Path:
    output = Path(str(config["output"])).expanduser()
    if output.suffix != ".safetensors":
        raise ConfigError(
            f"output={output} does not end in .safetensors: say output={output}.safetensors"
        )
    return output


def _run_folder(resume: object, output: Path) -> Path:
    """Returns the run's folder, from whose checkpoint, if any, the loop goes on."""
    folder = output.with_suffix(RUN_SUFFIX)
    if isinstance(resume, str):
        folder = Path(resume).expanduser()
    check_made(folder)
    if isinstance(resume, str):
        if not (folder / LAST).is_file():
            raise ConfigError(f"resume={resume}: that folder holds no checkpoint '{LAST}'")
    elif resume is None and (folder / LAST).is_file():
        raise ConfigError(
            f"'{folder}' holds the checkpoint of an earlier run: resume=true goes on from it, "
            "resume=false starts anew and overwrites it"
        )
    return folder


def _header(
    settings: Settings, step: int, metrics: Mapping[str, float], plugin: str, device: str
) -> dict[str, str]:
    return {
        "plugin": plugin,
        "seed": str(settings.seed),
        "steps": str(step),
        "recipe": json.dumps({key: json.loads(value) for key, value in settings.recipe.items()}),
        "metrics": json.dumps({key: float(f"{value:.6g}") for key, value in metrics.items()}),
        "precision": str(settings.dtype).removeprefix("torch."),
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, "
        f"class-based-styling {version('class-based-styling')}",
    }


def _conclude(
    console: Console, outcome: Outcome, settings: Settings, step: int, output: Path
) -> None:
    if outcome.end == "minutes":
        console.print(
            f"{settings.minutes:g} minutes are over at step {outcome.step} of {settings.steps}: "
            "the same command with resume=true goes on"
        )
    console.print(f"{output} (step {step})", markup=False)
