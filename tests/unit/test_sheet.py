"""The sheet's cells: right pictures, right places, whatever the pictures' shape."""

from dataclasses import replace

import numpy as np
import pytest
import sheets
import torch

from cbs_core.contract.types import StreamInfo
from cbs_core.run.sheet import GAP, GREY, LINE, NARROW, PAPER, SIDE, Sheet
from cbs_core.testing import raw_frame
from cbs_core.words import vocabularies

COLUMNS = ("original", "classes", "style 1", "style 2", "style 3", "composite")


def cell(drawn, column, *, height, width, row=0, cell_width=None):
    """The pixels of a cell of a rendered sheet."""
    left = GAP + column * ((cell_width or max(width, NARROW)) + GAP)
    top = LINE + row * (height + GAP)
    box = drawn.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.array(box))


def test_a_cell_shows_original_classes_styles_and_composite():
    size = {"height": 180, "width": 320}
    drawn = sheets.sheet((180, 320)).render()
    raw = raw_frame(180, 320)
    assert torch.equal(cell(drawn, 0, **size), raw.pixels)
    assert torch.equal(cell(drawn, 2, **size), 255 - raw.pixels)
    classes = cell(drawn, 1, **size)
    for name, y, x in [("car", 9, 9), ("person", 9, 310), ("sky", 170, 9), ("road", 170, 310)]:
        assert tuple(classes[y, x].tolist()) == vocabularies.get("cityscapes")[name].colour
    composite = cell(drawn, 5, **size)
    assert torch.equal(composite[:90], 255 - raw.pixels[:90])
    assert torch.equal(composite[90:, 160:], raw.pixels[90:, 160:])


def test_a_style_that_was_not_run_is_an_empty_frame_that_says_so():
    empty = cell(sheets.sheet((180, 320)).render(), 4, height=180, width=320)
    colours = {tuple(colour) for colour in empty.view(-1, 3).unique(dim=0).tolist()}
    assert {PAPER, GREY} <= colours
    assert all(r - 2 <= g <= r + 2 for r, g, _ in colours)
    assert (empty[0] == GREY[0]).all()
    assert (empty[10:30, 10:150] != PAPER[0]).any()


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((540, 960), (270, 480)),
        ((960, 540), (480, 270)),
        ((1, 1), (NARROW, NARROW)),
        ((60, 90), (107, NARROW)),
        ((4000, 3), (SIDE, 1)),
        ((7, 300), (7, 300)),
    ],
)
def test_pictures_of_any_shape_fit_their_cells(size, shown):
    made = sheets.sheet(size)
    assert {picture.size for picture in made.rows[0].cells if picture} == {shown[::-1]}
    drawn = made.render()
    width = GAP + len(COLUMNS) * (max(shown[1], NARROW) + GAP)
    assert drawn.size == (width, LINE + max(shown[0], LINE) + GAP + GAP + LINE)


def test_rows_of_different_sizes_do_not_overlap():
    drawn = sheets.sheet((180, 320), (320, 180)).render()
    assert torch.equal(cell(drawn, 0, height=180, width=320), raw_frame(180, 320).pixels)
    top = LINE + 180 + GAP
    second = torch.from_numpy(np.array(drawn.crop((GAP, top, GAP + 180, top + 320))))
    assert torch.equal(second, raw_frame(320, 180, 1).pixels)


@pytest.mark.parametrize(
    ("frames", "rows", "shown"),
    [(9, 3, [1, 4, 7]), (2, 3, [0, 1]), (1, 3, [0]), (10, 1, [5]), (10, 0, [])],
)
def test_rows_are_spread_evenly(frames, rows, shown):
    made, numbers = sheets.sheet((8, 8), rows=rows, frames=frames), []
    made.rows.clear()
    for index in range(frames):
        before = len(made.rows)
        sheets.show(made, raw_frame(8, 8, index))
        numbers += [index] * (len(made.rows) - before)
    assert numbers == shown


def test_a_stream_of_unknown_length_shows_its_beginning():
    made = Sheet(sheets.build(), StreamInfo(8, 8, frames=None), rows=2)
    for index in range(100):
        sheets.show(made, raw_frame(8, 8, index))
    assert len(made.rows) == 2


def test_without_routes_there_are_three_columns():
    assert sheets.sheet((60, 320), routes=()).render().width == GAP + 3 * (320 + GAP)


def test_the_legend_names_the_classes_found_and_breaks_into_lines():
    made = sheets.sheet((64, 64))
    assert sorted(sheets.CLASSES[i] for i in made.rows[0].present) == [
        "car",
        "person",
        "road",
        "sky",
    ]
    narrow = sheets.sheet((64, 64), routes=())
    plain = narrow.render().height
    narrow.rows[0] = replace(narrow.rows[0], present=frozenset(range(19)))
    assert narrow.render().height >= plain + 2 * LINE
