"""Real clips, reduced, and objects drawn by hand in a few frames of those in ``shared``."""

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

WIDTH = 480
"""Pixels to which clips are reduced."""

Polygon = tuple[tuple[int, int], ...]


def _box(left: int, top: int, right: int, bottom: int) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _polygon(text: str) -> Polygon:
    numbers = [int(one) for one in text.replace(",", " ").split()]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


_GIRL_8 = """178,25 186,27 196,34 200,45 198,62 203,78 208,100 220,122 227,135 222,137 205,113
207,140 206,166 203,168 205,210 207,219 197,219 193,168 182,167 179,219 169,219 172,168 161,165
166,112 166,88 152,100 147,120 155,136 150,142 142,130 140,105 150,90 165,80 170,72 170,50 174,36"""
_BOY_8 = """122,86 132,81 145,85 149,93 140,104 140,128 139,152 145,170 157,182 150,192 140,200
120,203 97,198 96,178 91,165 97,145 106,125 124,112 121,100"""
_GIRL_16 = """163,15 172,8 176,20 196,28 190,40 185,55 186,65 205,72 230,70 240,63 246,70 235,76
205,79 186,76 190,95 200,120 206,142 200,145 190,170 183,180 186,196 178,196 175,180 182,145
165,143 155,165 148,190 151,208 138,212 135,210 140,180 145,145 146,100 150,80 120,77 100,72 93,64
100,57 110,60 120,68 148,61 147,40 152,22"""
_BOY_16 = """124,103 132,98 146,100 146,145 140,175 136,190 132,214 116,216 112,205 95,203 98,175
105,155 115,135 127,125"""
_GIRL_24 = """152,54 160,52 165,60 173,66 174,82 172,93 195,94 220,86 230,76 236,82 230,88 200,100
178,105 180,130 188,160 189,176 178,180 180,200 170,219 160,219 166,182 156,180 150,200 140,219
128,219 138,200 140,182 134,180 142,150 144,128 142,108 115,111 88,110 88,105 110,103 140,98 148,92
144,75 148,62"""
_BOY_24 = """130,64 140,59 146,62 144,90 140,135 138,165 136,190 110,188 90,183 88,175 104,172
104,150 110,125 118,102 124,92 128,84"""

OBJECTS: dict[str, dict[int, tuple[Polygon, ...]]] = {
    "bedroom": {
        8: (_polygon(_GIRL_8), _polygon(_BOY_8)),
        16: (_polygon(_GIRL_16), _polygon(_BOY_16)),
        24: (_polygon(_GIRL_24), _polygon(_BOY_24)),
    },
    "solidWhiteRight": {
        8: (
            _polygon("0,145 14,146 20,156 28,160 31,168 30,178 22,179 0,181"),
            _box(149, 150, 166, 161),
            _box(180, 153, 195, 161),
            _box(205, 151, 220, 161),
        ),
        16: (
            _polygon("0,142 24,142 32,154 40,160 40,174 12,177 0,177"),
            _box(151, 147, 166, 160),
            _box(181, 151, 195, 160),
            _box(205, 149, 220, 160),
        ),
        24: (
            _polygon("0,146 20,145 34,146 42,156 48,160 50,168 49,177 15,179 0,175"),
            _box(153, 150, 168, 161),
            _box(182, 153, 195, 161),
            _box(206, 151, 220, 161),
        ),
    },
    "test_video": {
        8: (
            _polygon("314,154 340,154 348,162 352,170 351,185 312,185 304,178 306,165"),
            _polygon("381,170 390,160 400,153 430,152 445,162 450,170 449,182 405,186 383,180"),
        ),
        16: (
            _polygon("305,165 314,154 345,155 352,165 353,184 312,185 305,180"),
            _polygon("384,170 393,160 402,153 435,153 448,160 457,165 457,185 412,187 386,182"),
        ),
        24: (
            _polygon("305,165 314,154 345,155 352,165 352,185 312,185 305,180"),
            _polygon("388,170 397,160 405,153 445,153 455,160 463,170 462,183 418,187 390,180"),
        ),
    },
}
"""Corners ``(x, y)`` by clip and number of the frame: the two children, and every car that is not
smaller than ten pixels. What lies outside is not said to be nothing."""


def clip(path: Path, frames: int) -> list[Tensor]:
    """Returns the first frames ``(1,3,h,WIDTH)`` of a video."""
    return [one.permute(2, 0, 1)[None] / 255 for one in pixels(path, frames)]


def pixels(path: Path, frames: int) -> list[Tensor]:
    """Returns the first frames of a video as they are, uint8 ``(h,WIDTH,3)``."""
    out = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            height = round(frame.height * WIDTH / frame.width / 2) * 2
            small = frame.reformat(WIDTH, height, "rgb24", interpolation="AREA")
            out.append(torch.from_numpy(small.to_ndarray()))
            if len(out) == frames:
                break
    return out


def drawn(clip: str, frame: int, size: tuple[int, int]) -> Tensor | None:
    """Returns where a frame has objects, bool ``(H,W)`` of a size; None where none was drawn."""
    if (polygons := OBJECTS.get(clip, {}).get(frame)) is None:
        return None
    mask = Image.new("1", (size[1], size[0]))
    pen, share = ImageDraw.Draw(mask), size[1] / WIDTH
    for corners in polygons:
        pen.polygon([(x * share, y * share) for x, y in corners], fill=1)
    return torch.from_numpy(np.array(mask))
