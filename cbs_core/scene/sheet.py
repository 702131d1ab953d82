"""The sheet: original, classes and restyled, from four sides."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cbs_core.scene.cameras import orbit
from cbs_core.scene.restyled import Restyled
from cbs_core.scene.types import Floats

SIDE = 360
GAP = 8
LINE = 26
FONT = 15
TILT = 14.0
"""Degrees from which the scene is looked down at."""

TURNS = (0, 90, 180, 270)
INK = (32, 32, 32)
PAPER = (250, 250, 248)


def drawn(restyled: Restyled, step: Callable[[], None]) -> Image.Image:
    """Draws the sheet: a row a side, a legend below.

    Args:
        restyled: the scene.
        step: called after each row.
    """
    titles = ("original", "classes", "restyled")
    lines = -(-len(restyled.legend) // 5)
    size = (GAP + 3 * (SIDE + GAP), LINE + len(TURNS) * (SIDE + GAP) + LINE * max(1, lines))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (SIDE + GAP), 4), title, INK, font)
    for row, turn in enumerate(TURNS):
        camera = orbit(restyled.ball, turn, TILT, SIDE)
        for column, shot in enumerate((restyled.before, restyled.classes, restyled.after)):
            place = (GAP + column * (SIDE + GAP), LINE + row * (SIDE + GAP))
            sheet.paste(_picture(shot(camera)), place)
        step()
    top = LINE + len(TURNS) * (SIDE + GAP)
    for i, (name, colour) in enumerate(restyled.legend):
        left, y = GAP + i % 5 * (size[0] - GAP) // 5, top + i // 5 * LINE
        draw.rectangle((left, y + 5, left + 14, y + 19), colour, INK)
        draw.text((left + 20, y + 3), name[:24], INK, font)
    return sheet


def _picture(values: Floats) -> Image.Image:
    return Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))
