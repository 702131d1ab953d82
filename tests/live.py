"""A studio for tests: classes are colours, styles are arithmetic, and a clip counts its frames."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cbs_core.choose import registry
from cbs_core.choose.sections import Choice
from cbs_core.contract.types import Instances
from cbs_core.live.feed import Taken
from cbs_core.live.inputs import Inputs
from cbs_core.live.studio import Studio
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop

CLASSES = ("background", "car", "sky")

WIDTH, HEIGHT = 160, 96


class Colours(nn.Module):
    """Red is a car, blue is the sky, and all else is background."""

    classes = CLASSES

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        red, green, blue = image.unbind(1)
        rest = torch.full_like(red, 0.2)
        return 20 * torch.stack([rest, red - green - blue, blue - green - red], 1)


class Square:
    """Finds what lies at a point: the square around it, and no classes."""

    classes = ("background", "object")

    def instances_at(self, image: torch.Tensor, point: tuple[float, float]) -> list[Instances]:
        height, width = image.shape[2:]
        x, y = int(point[0] * width), int(point[1] * height)
        masks = torch.zeros(1, height, width)
        masks[0, max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8] = 1
        return [Instances(masks, torch.tensor([1]), torch.ones(1))] * len(image)


LEVELS = {"dark": 0.2, "light": 0.8, "late": 0.5}

LOADED = threading.Event()
"""Until it is set the style ``late`` is being loaded."""

LOADED.set()


class Flat(nn.Module):
    """One colour, all over: which tells the style in every pixel."""

    def __init__(self, style: str = "dark") -> None:
        super().__init__()
        if style == "late":
            LOADED.wait(60)
        if style == "broken":
            raise ValueError("the file is damaged")
        self.level = LEVELS[style]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full_like(image, self.level)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the plugins."""
    monkeypatch.setitem(registry.segmenters._registered, "colours", Colours)
    monkeypatch.setitem(registry.segmenters._registered, "square", Square)
    monkeypatch.setitem(registry.stylers._registered, "flat", Flat)


def look(**more: object) -> Look:
    """Returns the owner's: cars are dark."""
    return Look(
        segmenter=Choice("colours"),
        styler=Choice("flat"),
        compositor=Choice("hard"),
        accelerator=Choice("eager"),
        routes={"car": "dark"},
        **more,
    )


def at_a_point() -> Look:
    """Returns one of what lies in the middle of the picture, dark."""
    chosen = look(select=(WIDTH // 2, HEIGHT // 2))
    return replace(chosen, segmenter=Choice("square"), routes={"object": "dark"})


def inputs(name: str) -> Inputs:
    """Returns what a page calls so, and offers nothing to choose from."""
    return Inputs(Choice("sample"), name)


def picture() -> NDArray[np.uint8]:
    """Returns uint8 ``(H,W,3)``: sky above, a car at the left below, grey at its right."""
    found = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    found[: HEIGHT // 2] = (40, 60, 220)
    found[HEIGHT // 2 + 8 : -8, 8 : WIDTH // 2] = (220, 30, 40)
    return found


@contextmanager
def studio(**more: object) -> Iterator[Studio]:
    """A studio at work, without a source."""
    styles = more.pop("styles", ["dark", "light", "late", "broken"])
    workshop = Workshop(torch.device("cpu"), torch.float32)
    made = Studio(more.pop("look", look()), workshop, styles=styles, **more)
    made.start()
    try:
        yield made
    finally:
        made.close()


def give(made: Studio, pixels: NDArray[np.uint8] | None = None) -> None:
    """Gives the main feed a picture."""
    one = torch.from_numpy(picture() if pixels is None else pixels)
    made.put(made.main, Taken(one, time.monotonic()))


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)


def shown(made: Studio) -> NDArray[np.uint8]:
    """Gives a picture and returns it restyled."""
    before = made.main.meter.frames_out
    give(made)
    until(lambda: made.main.meter.frames_out > before)
    found = made.main.shown
    assert found is not None
    return found.restyled


def clip(path: Path, seconds: int = 2) -> Path:
    """Writes a Y4M for Chromium's fake camera: the picture, with a car that moves."""
    height, width = HEIGHT, WIDTH
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode())
        for index in range(10 * seconds):
            rgb = np.roll(picture(), 4 * (index % 10), axis=1).astype(np.float32)
            r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
            luma = 0.299 * r + 0.587 * g + 0.114 * b
            planes = [
                luma,
                (0.564 * (b - luma) + 128)[::2, ::2],
                (0.713 * (r - luma) + 128)[::2, ::2],
            ]
            file.write(
                b"FRAME\n" + b"".join(p.clip(0, 255).astype(np.uint8).tobytes() for p in planes)
            )
    return path
