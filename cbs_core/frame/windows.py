"""Which rectangles of a frame to restyle: those that cover where a style shows, at least cost.

A frame's mattes are reduced to a grid of cells on the device, and that grid alone goes to the host.
There it is cut in two, along a row or a column of cells, wherever two rectangles cost less than
the one around both, and each half again. A rectangle's cost is its area with the halo that has to
be styled around it, rounded up to a size of the ladder, and a fixed cost a rectangle.

Sizes are those of a ladder, so that few are ever built. Which windows a frame gets depends on the
frame alone, not on what was built before: with a halo less than the styler's reach another window
gives another picture, and a stream that is gone on with elsewhere must not look otherwise.

Letters: ``B`` batch, ``R`` routes, ``H W`` the frame, ``h w`` the grid.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

INVISIBLE = 0.5 / 255
"""A matte below this everywhere cannot change an 8-bit picture."""

CELL = 8
"""Pixels a side of a cell."""

STEP = 32
"""Pixels between two sizes of windows, up to `COARSE` of these."""

COARSE = 320
"""Pixels from which on two sizes lie twice as far apart, and again from twice as many on: a window
is at most a fifth longer than it need be, a tenth on average."""

CALL_COST = 4096
"""Pixels that could be styled in the time that one more window takes beside its own."""

AT_ONCE = (4, 2, 1)
"""Windows in one call: more save nothing, and their number is part of what is built."""

Mask: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int_]
Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    def of(self, picture: Tensor) -> Tensor:
        """Returns this part of ``(...,H,W)``, a view."""
        rows = slice(self.top, self.top + self.height)
        return picture[..., rows, self.left : self.left + self.width]

    def within(self, other: "Box") -> "Box":
        """Returns this rectangle as seen from another one's corner."""
        return Box(self.top - other.top, self.left - other.left, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of one frame to restyle."""

    frame: int
    """Its place in the batch."""

    core: Box
    """Where the style is wanted."""

    outer: Box
    """The core with its halo, of one of the few sizes: what is restyled."""


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Where the mattes show, on the host: whatever decides on it needs no further wait."""

    cells: Mask
    """``(B,R,h,w)``, whether the matte shows in the cell."""

    scene: int
    """Number of the scene, where scenes are told apart (`cbs_core.temporal.statistics.Scenes`)."""

    @property
    def shown(self) -> tuple[bool, ...]:
        """Whether each route's matte shows anywhere."""
        return tuple(bool(self.cells[:, index].any()) for index in range(self.cells.shape[1]))


def occupancy(mattes: Tensor) -> Tensor:
    """Returns the greatest value in each cell: ``(B,R,H,W)`` -> ``(B,R,h,w)``."""
    # One at a time, because pooling refuses a tensor without channels, as no routes give.
    pooled = F.max_pool2d(mattes.flatten(0, 1)[:, None], CELL, ceil_mode=True)
    return pooled.view(*mattes.shape[:2], *pooled.shape[2:])


def painted(mattes: Tensor) -> Tensor:
    """Returns where a style of these mattes is painted at least: 0 or 1, ``(B,1,H,W)``."""
    height, width = mattes.shape[2:]
    cells = (occupancy(mattes.amax(1, keepdim=True)) > INVISIBLE).float()
    wide = cells.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
    return wide[..., :height, :width]


def batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Yields the windows, which come in any order, in groups of one size to restyle at once."""
    for _, same in groupby(sorted(windows, key=_size), key=_size):
        group = list(same)
        while group:
            count = next(count for count in AT_ONCE if count <= len(group))
            yield group[:count]
            group = group[count:]


def _size(window: Window) -> Size:
    return window.outer.size


class Planner:
    """Chooses the windows of frames of one size.

    Args:
        height: of the frame.
        width: of the frame.
        halo: pixels that a styled pixel depends on.
        align: windows start at multiples of it, which divide `STEP` and `CELL`.
        reach: pixels beyond the matte in which a compositor shows the style.
    """

    def __init__(self, height: int, width: int, *, halo: int, align: int, reach: int = 0) -> None:
        self.rows = Line(height, halo=halo, align=align, reach=reach)
        self.columns = Line(width, halo=halo, align=align, reach=reach)

    def __call__(self, cells: Mask) -> list[Window]:
        """Returns windows whose cores hold every pixel within reach of an occupied cell.

        Args:
            cells: ``(B,h,w)``, whether the style shows there.
        """
        return [
            self._window(frame, rectangle)
            for frame, grid in enumerate(cells)
            if grid.any()
            for rectangle in self._cover(grid, 0, 0)
        ]

    def _cover(self, grid: Mask, top: int, left: int) -> Iterator[tuple[int, int, int, int]]:
        """Yields rectangles of cells, (top, bottom, left, right), that hold all occupied ones.

        Args:
            grid: some cell of it is occupied.
            top: number of its first row,
            left: and of its first column.
        """
        rows, columns = (np.flatnonzero(grid.any(axis)) for axis in (1, 0))
        grid = grid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = top + int(rows[0]), left + int(columns[0])
        bottom, right = top + grid.shape[0], left + grid.shape[1]
        whole = int(self.rows.length(top, bottom) * self.columns.length(left, right)) + CALL_COST
        row, over = self._best_cut(grid, self.rows, self.columns, top, left)
        column, beside = self._best_cut(grid.T, self.columns, self.rows, left, top)
        if whole <= min(over, beside):
            yield top, bottom, left, right
        elif over <= beside:
            yield from self._cover(grid[:row], top, left)
            yield from self._cover(grid[row:], top + row, left)
        else:
            yield from self._cover(grid[:, :column], top, left)
            yield from self._cover(grid[:, column:], top, left + column)

    @staticmethod
    def _best_cut(
        grid: Mask, along: "Line", across: "Line", start: int, side: int
    ) -> tuple[int, float]:
        """Returns how many rows lie before the cut whose halves cost least, and their cost.

        Args:
            grid: ``(n,m)``, first and last row and column occupied.
            along: the axis of the rows,
            across: and of the columns.
            start: the first row's number,
            side: and the first column's.
        """
        count, width = grid.shape
        if count == 1:
            return 0, math.inf
        occupied = grid.any(1)
        rows = np.arange(count)
        first = np.where(occupied, grid.argmax(1), width)
        last = np.where(occupied, width - grid[:, ::-1].argmax(1), 0)

        def least(values: Ints) -> Ints:
            return np.minimum.accumulate(values)

        def most(values: Ints) -> Ints:
            return np.maximum.accumulate(values)

        before = along.length(start, start + most(np.where(occupied, rows + 1, 0))[:-1])
        before = before * across.length(side + least(first)[:-1], side + most(last)[:-1])
        begins = least(np.where(occupied, rows, count)[::-1])[::-1]
        after = along.length(start + begins[1:], start + count)
        after = after * across.length(
            side + least(first[::-1])[::-1][1:], side + most(last[::-1])[::-1][1:]
        )
        cut = int((before + after).argmin())
        return cut + 1, float(before[cut] + after[cut]) + 2 * CALL_COST

    def _window(self, frame: int, rectangle: tuple[int, int, int, int]) -> Window:
        top, bottom, left, right = rectangle
        height = int(self.rows.length(top, bottom))
        width = int(self.columns.length(left, right))
        y, core_y, core_height = self.rows.place(top, bottom, height)
        x, core_x, core_width = self.columns.place(left, right, width)
        core = Box(core_y, core_x, core_height, core_width)
        return Window(frame, core, Box(y, x, height, width))


def _ladder(total: int) -> Iterator[int]:
    """Yields the sizes of windows up to the first that holds a whole side."""
    size, step, coarse = 0, STEP, COARSE
    while size < total:
        size += step
        yield size
        if size >= coarse:
            step, coarse = 2 * step, 2 * coarse


class Line:
    """One axis of the frame: from cells to the pixels that have to be styled for them.

    All is looked up: a GPU waits while the host plans.
    """

    def __init__(self, total: int, *, halo: int, align: int, reach: int) -> None:
        self.total = total
        self.reach = reach
        edges = np.arange(-(-total // CELL) + 1) * CELL
        self._begin = np.maximum(0, edges - reach - halo) // align * align
        self._end = np.minimum(total, edges + reach + halo)
        # What is beyond a multiple is the frame's own, so that a window may end where it ends.
        rest = total % align
        ladder = np.array(list(_ladder(total)))
        wanted = np.maximum(1, np.arange(total + 1) - rest)
        self._length = np.minimum(total, ladder[np.searchsorted(ladder, wanted)] + rest)

    def length(self, first: Ints | int, last: Ints | int) -> Ints:
        """Returns the pixels of a window for the cells from ``first`` to before ``last``."""
        return np.asarray(self._length[self._end[last] - self._begin[first]])

    def place(self, first: int, last: int, length: int) -> tuple[int, int, int]:
        """Returns the start of a window of this length, its core's start and its core's length."""
        start = max(0, first * CELL - self.reach)
        end = min(self.total, last * CELL + self.reach)
        return min(int(self._begin[first]), self.total - length), start, end - start
