"""Loss curves as a picture and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cbs_core.machine.files import replace
from cbs_core.training.history import History

WIDTH, HEIGHT = 460, 260
"""Pixels of one panel."""

LEFT, RIGHT, TOP, BOTTOM = 64, 14, 30, 26
"""Pixels of its margins."""

COLUMNS = 2
SMOOTHED = 50
"""Parts of a curve over each of which the bold line is a mean."""

INK, GRID, PALE, BOLD = (40, 40, 40), (225, 225, 225), (176, 203, 232), (24, 90, 160)


def write(history: History, folder: Path) -> None:
    """Writes ``curves.json`` and ``curves.png`` into a folder, each whole or not at all.

    Raises:
        SinkError: one cannot be written.
    """
    text = json.dumps(history.state()).encode()
    replace(folder / "curves.json", lambda file: file.write(text))
    picture = draw(history)
    replace(folder / "curves.png", lambda file: picture.save(file, format="png"))


def draw(history: History) -> Image.Image:
    """Returns a panel for each series; positive ones that span a decade have a logarithmic axis."""
    panels = [
        (f"{group}: {name}", series["step"][: len(values)], values)
        for group, series in history.groups.items()
        for name, values in series.items()
        if name != "step"
    ]
    rows = max(1, -(-len(panels) // COLUMNS))
    picture = Image.new("RGB", (COLUMNS * WIDTH, rows * HEIGHT), "white")
    for index, (title, steps, values) in enumerate(panels):
        panel = _panel(title, steps, values)
        picture.paste(panel, (index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT))
    return picture


def _panel(title: str, steps: Sequence[float], values: Sequence[float]) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(panel)
    font = ImageFont.load_default(size=12)
    x = np.asarray(steps, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    shown = np.isfinite(y)
    x, y = x[shown], y[shown]
    pen.text((LEFT, 8), title, INK, font)
    if not len(y):
        return panel
    logarithmic = bool(y.min() > 0 and y.max() > 10 * y.min())
    y = np.log10(y) if logarithmic else y
    low, high = _range(y)
    first, last = float(x[0]), max(float(x[-1]), float(x[0]) + 1)

    def place(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = LEFT + (xs - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - ys) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    for tick in np.linspace(low, high, 5):
        ((_, down),) = place(np.array([first]), np.array([tick]))
        pen.line([(LEFT, down), (WIDTH - RIGHT, down)], GRID)
        label = f"{10**tick if logarithmic else tick:.3g}"
        pen.text((LEFT - 6, down), label, INK, font, anchor="rm")
    for tick in np.linspace(first, last, 5):
        ((across, _),) = place(np.array([tick]), np.array([low]))
        pen.text((across, HEIGHT - BOTTOM + 6), f"{tick:.0f}", INK, font, anchor="ma")
    pen.line(place(x, y), PALE if len(y) > SMOOTHED else BOLD)
    if len(y) > SMOOTHED:
        parts = [(a.mean(), b.mean()) for a, b in zip(*_parts(x, y), strict=True)]
        xs, ys = np.array(parts).T
        pen.line(place(xs, ys), BOLD, width=2)
    elif len(y) == 1:
        ((across, down),) = place(x, y)
        pen.ellipse([across - 2, down - 2, across + 2, down + 2], BOLD)
    return panel


def _parts(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    return np.array_split(x, SMOOTHED), np.array_split(y, SMOOTHED)


def _range(y: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(y.min()), float(y.max())
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    return low - room, high + room
