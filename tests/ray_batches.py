"""Batches by Ray of plugins that take no time, whose workers say what they do and can be held.

Also the driver of one, to be killed: ``python -m tests.ray_batches ADDRESS SAID.json``.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cbs_core.batch import session
from cbs_core.batch.session import begun
from cbs_core.choose import registry
from cbs_core.choose.presets import defaults
from cbs_core.contract.engines import Task

HOLD = "hold"
"""In the folder of notes: while this file is there, windows are not begun."""


class Bright:
    """Finds ``sky`` where a picture is bright."""

    classes = ("background", "sky")

    def __call__(self, image):
        grey = image.mean(1, keepdim=True)
        return torch.cat([torch.zeros_like(grey), grey - 0.45], 1)


class Invert:
    def __call__(self, image):
        return 1 - image


class Noting:
    """A worker that notes, by a line each, what it begins and ends; and where."""

    def __init__(self, folder: str, config: dict[str, object], root: Path) -> None:
        for kind, name, plugin in (("segmenter", "bright", Bright), ("styler", "invert", Invert)):
            registry.REGISTRIES[kind]._registered[name] = plugin
        self._folder = Path(folder)
        self._worker = begun(config, root)

    def do(self, task: Task, /) -> Any:
        self._note("begun", task)
        while (self._folder / f"{HOLD} {task.name}").exists():
            time.sleep(0.02)
        value = self._worker.do(task)
        self._note("ended", task)
        return value

    def close(self) -> None:
        self._worker.close()

    def _note(self, what: str, task: Task) -> None:
        import ray

        node = ray.get_runtime_context().get_node_id()
        line = f"{what}\t{task.name}\t{node}\t{os.getpid()}\n"
        with (self._folder / "notes").open("a") as notes:
            notes.write(line)  # in one piece: it is short


def notes(folder: Path, what: str) -> list[tuple[str, str, int]]:
    """Returns the names of tasks, and the node and process of each, in order."""
    file = folder / "notes"
    lines = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
    return [(name, node, int(pid)) for said, name, node, pid in lines if said == what]


def said(**more: object) -> dict[str, object]:
    fast = {
        "segmenter": {"name": "bright"},
        "styler": {"name": "invert"},
        "accelerator": {"name": "eager"},
        "scheduler": {"name": "serial"},
        "sink": {"name": "video", "crf": 0, "pixel_format": "yuv444p"},
        "device": "cpu",
        "precision": "fp32",
        "routes": ["sky"],
        "steady": "off",
        "quiet": True,
    }
    return {**defaults("batch"), **fast, **more}


def batch(folder: str, config: dict[str, object]) -> int:
    """Does a batch whose workers note in ``folder``."""
    session.begun = partial(Noting, folder)
    return session.batch_session(config)


if __name__ == "__main__":
    sys.exit(batch(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())))
