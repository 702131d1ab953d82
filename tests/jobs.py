"""Whole jobs in the test's own process, of plugins that take no time and need no weights."""

from pathlib import Path

import torch

from cbs_core.choose import registry
from cbs_core.choose.presets import defaults
from cbs_core.run.job import Job
from cbs_core.run.settings import parse


class HalfSky:
    """Finds ``sky`` in the upper half, and nothing in the lower."""

    classes = ("background", "sky")

    def __call__(self, image):
        logits = torch.zeros(image.shape[0], 2, 8, 8)
        logits[:, 1, :4] = 9
        logits[:, 0, 4:] = 9
        return logits


class Invert:
    def __init__(self, style: str = "dark") -> None:
        self.style = style

    def __call__(self, image):
        return 1 - image


def registered(monkeypatch, **plugins):
    """Registers plugins for one test: ``source={"desk": Desk}``; and the two above."""
    own = {"segmenter": {"half_sky": HalfSky}, "styler": {"invert": Invert}}
    for kind in own.keys() | plugins.keys():
        found = {**own.get(kind, {}), **plugins.get(kind, {})}
        monkeypatch.setattr(registry.REGISTRIES[kind], "_registered", found)


def job(folder: Path, **config) -> Job:
    """Returns a job of the defaults of ``cbs-run``, changed; nets are `HalfSky` and `Invert`."""
    fast = {
        "segmenter": {"name": "half_sky"},
        "styler": {"name": "invert"},
        "accelerator": {"name": "eager"},
        "scheduler": {"name": "serial"},
        "device": "cpu",
        "sheet": None,
        "routes": ["sky"],
    }
    return Job(parse({**defaults(), **fast, **config}), run_folder=folder)
