"""``out.sheet.png``: original, classes, styles and composite of a few frames, side by side."""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cbs_core.contract.tensors import to_image, to_pixels
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.pipeline import Result
from cbs_core.frame.plan import Plan
from cbs_core.words.vocabularies import colours

SIDE = 480
"""Longest side of a cell, pixels."""

NARROW = 160
"""Smaller pictures are enlarged to this: a column needs room for its title."""

GAP = 8
LINE = 26
FONT = 15
PAPER = (250, 250, 248)
INK = (32, 32, 32)
GREY = (150, 150, 150)

UNKNOWN_SPACING = 30
"""Frames between two rows where the length of the stream is unknown."""


@dataclass(frozen=True, slots=True)
class Row:
    """One frame's cells: a picture, or None where the style was not run."""

    cells: list[Image.Image | None]
    present: frozenset[int]
    """Indices of the classes that the segmenter found."""


class Sheet:
    """Collects thumbnails of a few frames, evenly spread, and draws them.

    Args:
        plan: its styles are the columns between the classes and the composite.
        info: tells how many frames there will be.
        rows: how many frames to show.
    """

    def __init__(self, plan: Plan, info: StreamInfo, *, rows: int) -> None:
        self._classes = plan.classes
        self._colours = colours(plan.classes)
        self._styles = {route.style: route.label for route in plan.routes}
        if info.frames:
            count = min(rows, info.frames)
            self._due = {int((i + 0.5) * info.frames / count) for i in range(count)}
        else:
            self._due = {i * UNKNOWN_SPACING for i in range(rows)}
        self.rows: list[Row] = []

    def add(self, raw: RawFrame, result: Result) -> None:
        """Keeps thumbnails of the frame, if it is one of those to show."""
        if raw.index not in self._due or result.plan.classes != self._classes:
            return
        height, width = raw.pixels.shape[:2]
        scale = min(max(height, width, NARROW), SIDE) / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        labels = result.plan.regions.labels(result.logits, size)[0].cpu().numpy()
        original = to_image(raw.pixels.to(result.image.device))
        cells: list[Image.Image | None] = [
            _thumbnail(original, size),
            Image.fromarray(np.array(self._colours, dtype=np.uint8)[labels]),
        ]
        for style in self._styles:
            styled = result.styled.get(style)
            cells.append(None if styled is None else _thumbnail(styled, size))
        cells.append(_thumbnail(result.image, size))
        self.rows.append(Row(cells, frozenset(np.unique(labels).tolist())))

    def render(self) -> Image.Image:
        """Draws the sheet: a title a column, a row a frame, a legend of the classes found."""
        titles = ["original", "classes", *self._styles.values(), "composite"]
        cell_width = max(cell.width for row in self.rows for cell in row.cells if cell)
        cell_width = max(cell_width, NARROW)
        heights = [max(LINE, *(cell.height for cell in row.cells if cell)) for row in self.rows]
        legend = sorted(frozenset[int]().union(*(row.present for row in self.rows)))
        width = GAP + len(titles) * (cell_width + GAP)
        lines = _legend_lines([self._classes[i] for i in legend], width - 2 * GAP)
        height = LINE + sum(heights) + GAP * len(heights) + GAP + LINE * len(lines)
        sheet = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(FONT)
        for column, title in enumerate(titles):
            text = _shortened(title, cell_width, font)
            draw.text((GAP + column * (cell_width + GAP), 4), text, INK, font)
        top = LINE
        for row, row_height in zip(self.rows, heights, strict=True):
            for column, cell in enumerate(row.cells):
                left = GAP + column * (cell_width + GAP)
                if cell is not None:
                    sheet.paste(cell, (left, top))
                else:
                    box = (left, top, left + cell_width - 1, top + row_height - 1)
                    draw.rectangle(box, outline=GREY)
                    draw.text((left + GAP, top + 4), "not run: class absent", GREY, font)
            top += row_height + GAP
        for line in lines:
            for left, name in line:
                colour = self._colours[self._classes.index(name)]
                draw.rectangle((GAP + left, top + 5, GAP + left + 14, top + 19), colour, INK)
                draw.text((GAP + left + 20, top + 3), name, INK, font)
            top += LINE
        return sheet


def _thumbnail(image: Tensor, size: tuple[int, int]) -> Image.Image:
    small = F.interpolate(image.float(), size, mode="area")
    return Image.fromarray(to_pixels(small).cpu().numpy())


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _legend_lines(names: list[str], width: int) -> list[list[tuple[int, str]]]:
    """Breaks the legend into lines of ``(left, name)``."""
    font = ImageFont.load_default(FONT)
    lines: list[list[tuple[int, str]]] = [[]]
    left = 0
    for name in names:
        advance = 20 + int(font.getlength(name)) + 2 * GAP
        if left and left + advance > width:
            lines.append([])
            left = 0
        lines[-1].append((left, name))
        left += advance
    return lines
