"""A layout on a new texture for triangles that have none, by xatlas.

Letters: ``V`` vertices, ``F`` triangles.
"""

from dataclasses import dataclass

import numpy as np

from cbs_core.scene.rays import needs
from cbs_core.scene.types import Bytes, Floats, Ints, srgb

SIDE = 512
"""Pixels a side that are aimed at."""

PADDING = 3
"""Pixels between two pieces of the surface, for what a renderer's filter sees around them."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Triangles laid out flat; where that cuts the surface, vertices are there several times."""

    origin: Ints
    """Which of the former vertices each one is."""

    indices: Ints
    """``(F,3)`` into `origin` and `uv`; triangles in their former order."""

    uv: Floats
    """A place in 0..1 for each vertex."""

    size: tuple[int, int]
    """Height and width of the texture, pixels."""

    def blank(self, factor: Floats) -> Bytes:
        """Returns the texture in one colour, linear RGB."""
        return np.full((*self.size, 3), np.round(srgb(factor) * 255), np.uint8)


def laid_out(points: Floats, triangles: Ints) -> Layout:
    """Lays triangles ``(F,3)`` of points ``(V,3)`` out.

    Raises:
        PluginLoadError: the extra is missing.
    """
    try:
        import xatlas
    except ImportError as error:
        raise needs("xatlas") from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(points.astype(np.float32), triangles.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = SIDE, PADDING
    atlas.generate(pack_options=options)
    origin, indices, uv = atlas[0]
    size = (max(1, int(atlas.height)), max(1, int(atlas.width)))
    return Layout(origin.astype(np.int64), indices.astype(np.int64), uv.astype(np.float64), size)
