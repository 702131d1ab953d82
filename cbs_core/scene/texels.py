"""Textures that are coarser than strokes: made finer before they are painted.

A texture that was drawn in two or three colours needs few texels, and strokes need more. Places on
a texture are parts of its side, so that a larger one needs nothing else changed. Where other
classes have a texel, the texture stays as it is.

Letters: ``F`` faces, ``H W`` a texture.
"""

from dataclasses import replace

import numpy as np

from cbs_core.scene.types import Bytes, Floats, Ints, Mask, Mesh

LEAST = 0.5
"""Texels a pixel of the views, from one to the next, that strokes need."""

MOST_TIMES = 4
MOST_TEXELS = 2048 * 2048
"""Of a texture that is made finer."""

COARSE = 0.25
"""The part of the surface that may have fewer."""


def finer(mesh: Mesh, route: Ints, pixel: float) -> Mesh:
    """Returns the mesh with 2 or 4 times as many texels a side where these are too few.

    Args:
        mesh: the scene.
        route: ``(F,)``, below 0 for what is not restyled.
        pixel: of the views, on the surface, in the world's units.
    """
    paints = list(mesh.paints)
    for index, paint in enumerate(paints):
        own = mesh.paint == index
        if not own.any() or (route[own] < 0).any():
            continue
        times, found = 1, _density(mesh, own, paint.pixels) * pixel
        height, width = paint.pixels.shape[:2]
        while (
            found * times < LEAST
            and times < MOST_TIMES
            and height * width * (2 * times) ** 2 <= MOST_TEXELS
        ):
            times *= 2
        if times > 1:
            pixels = paint.pixels.repeat(times, 0).repeat(times, 1)
            paints[index] = replace(paint, pixels=pixels)
    return replace(mesh, paints=tuple(paints))


def _density(mesh: Mesh, own: Mask, pixels: Bytes) -> float:
    """Returns the texels a unit of length that all but `COARSE` of the faces' surface has."""
    corner, place = mesh.vertices[mesh.faces[own]], mesh.uv[own]
    surface = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    (ax, ay), (bx, by) = (place[:, 1] - place[:, 0]).T, (place[:, 2] - place[:, 0]).T
    texels = np.abs(ax * by - ay * bx) * pixels.shape[0] * pixels.shape[1]
    density: Floats = np.sqrt(texels / np.maximum(surface, 1e-30))
    order = density.argsort()
    share = surface[order].cumsum()
    return float(density[order][np.searchsorted(share, COARSE * share[-1])])
