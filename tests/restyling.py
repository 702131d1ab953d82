"""Plugins for tests of scenes, and what is asked of a scene."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cbs_core.choose import registry
from cbs_core.scene.nets import Workshop
from cbs_core.scene.restyled import Request


class ByColour:
    """A segmenter that calls red things a car and blue ones a bus."""

    classes = ("background", "car", "bus")

    def __call__(self, image: Tensor) -> Tensor:
        red, blue = image[:, :1] - image[:, 2:], image[:, 2:] - image[:, :1]
        return 50 * torch.cat([torch.full_like(red, 0.1), red, blue], 1)


class Green:
    """A styler that paints everything in one colour."""

    def __call__(self, image: Tensor) -> Tensor:
        return torch.tensor([0.1, 0.8, 0.3])[None, :, None, None].expand_as(image)


class ByWord:
    """Takes any word: the first is what is red, the second what is blue."""

    def prompted(self, words):
        one = ByColour()
        one.classes = ("background", *words)
        return one


registry.segmenters.register("by_colour", ByColour)
registry.segmenters.register("by_word", ByWord)
registry.stylers.register("green", Green)
GREEN = np.array([0.1, 0.8, 0.3])


@contextmanager
def silent(what: str, total: int) -> Iterator:
    yield lambda: None


def request(**changes) -> Request:
    workshop = Workshop({"name": "eager"}, torch.device("cpu"), torch.float32)
    values = {
        "segmenter": {"name": "by_colour"},
        "styler": {"name": "green"},
        "routes": ["car"],
        "labels": "segmenter",
        "select": "all",
        "cameras": "dome",
        "views": 12,
        "size": 96,
        "harmonics": "flat",
        "iterations": 6,
    }
    return Request(workshop=workshop, progress=silent, **{**values, **changes})
