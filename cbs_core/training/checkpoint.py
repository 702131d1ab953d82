"""Checkpoints: everything that a run needs to go on exactly, written whole or not at all."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cbs_core.contract.errors import WeightsError
from cbs_core.contract.task import Task
from cbs_core.machine.files import replace
from cbs_core.training.history import History

LAST, BEST = "last.pt", "best.pt"
"""File names in a run's folder."""

FORMAT = 1


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps done."""

    history: History = field(default_factory=History)

    best: float | None = None
    """The best value of the task's criterion so far."""

    best_step: int = 0
    """After which step it was measured."""


def save(
    path: Path,
    task: Task,
    progress: Progress,
    scaler: "torch.amp.GradScaler",
    settings: Mapping[str, str],
) -> None:
    """Writes a checkpoint under its name once it is whole.

    Args:
        path: the file, replaced in one step.
        task: its module, optimizer and scheduler.
        progress: steps, history, best value.
        scaler: of fp16's gradients.
        settings: what the run was started with, compared when it goes on.

    Raises:
        SinkError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "step": progress.step,
        "history": progress.history.state(),
        "best": progress.best,
        "best_step": progress.best_step,
        "model": task.module.state_dict(),  # under this name it is a weight file, too
        "optimizer": task.optimizer.state_dict(),
        "scheduler": task.scheduler.state_dict(),
        "scaler": scaler.state_dict(),
        "settings": dict(settings),
    }
    replace(path, lambda file: torch.save(content, file))


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the host; no code in it is run.

    Raises:
        WeightsError: it is damaged, or of another version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of weights (`cbs_core.choose.weights`)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common exception for damaged files
        raise WeightsError(
            f"the checkpoint '{path}' cannot be read ({str(error).partition(chr(10))[0]}): "
            "start anew with resume=false"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(f"'{path}' is no checkpoint of this version: start with resume=false")
    return content


def restore(content: Mapping[str, Any], task: Task, scaler: "torch.amp.GradScaler") -> Progress:
    """Puts a checkpoint's state into a task and returns how far it is.

    Raises:
        WeightsError: it is of another net or optimizer.
    """
    try:
        task.module.load_state_dict(content["model"])
        task.optimizer.load_state_dict(content["optimizer"])
        task.scheduler.load_state_dict(content["scheduler"])
        if content["scaler"]:
            scaler.load_state_dict(content["scaler"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"the checkpoint is of another net or recipe ({' '.join(str(error).split())[:200]}): "
            "give the same options as then, or start anew with resume=false"
        ) from error
    return Progress(
        content["step"], History(content["history"]), content["best"], content["best_step"]
    )
