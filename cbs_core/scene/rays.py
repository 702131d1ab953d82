"""Views of a mesh by rays on the CPU: face, depth and colour of each pixel.

embreex shoots the rays. Light is left out: what is styled must be the surface's own
colour, or the light of one view would be painted on for all.

Letters: ``V`` vertices, ``F`` faces, ``H W`` the picture, ``n`` points.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cbs_core.contract.errors import PluginLoadError
from cbs_core.scene.cameras import Camera
from cbs_core.scene.types import Bytes, Floats, Ints, Mask, Mesh, linear, srgb

SHADE = 0.55
"""Of a face seen edgewise, in pictures for a segmenter, which was taught by lit photographs."""


def needs(module: str) -> PluginLoadError:
    """Returns the error for a missing extra."""
    return PluginLoadError(
        f"3D scenes need the package '{module}': pip install 'class-based-styling[scene]'"
    )


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera sees of a mesh."""

    camera: Camera

    face: Ints
    """``(H,W)``, -1 where nothing is."""

    depth: Floats
    """``(H,W)`` float32 along the camera's axis, infinite where nothing is."""

    slant: Floats
    """``(H,W)`` float32, cosine between the surface and the way to the camera, 0..1."""

    colour: Floats
    """``(H,W,3)`` float32 sRGB in [0,1], black where nothing is."""

    @property
    def hit(self) -> Mask:
        """``(H,W)``, where a surface is."""
        return np.asarray(self.face >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Where the rays through a camera's pixels meet a mesh, pixel by pixel; the others miss."""

    camera: Camera

    pixel: Ints
    """``(n,)`` row by row."""

    face: Ints
    """``(n,)``."""

    corners: Floats
    """``(n,3)`` float32, barycentric weights."""

    depth: Floats
    """``(n,)`` float32, as in `View`."""

    slant: Floats
    """``(n,)`` float32, as in `View`."""

    def spread(self, values: Floats, around: float) -> Floats:
        """Returns ``(H,W,...)`` of values ``(n,...)``, and what is around where nothing is."""
        size = (self.camera.height, self.camera.width)
        out = np.full((size[0] * size[1], *values.shape[1:]), around, values.dtype)
        out[self.pixel] = values
        return out.reshape(*size, *values.shape[1:])


class Caster:
    """Shoots rays at a mesh.

    Raises:
        PluginLoadError: the extra is missing.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise needs("embreex") from error
        # embree computes in float32: the scene lies around 0, and is some units large.
        used = mesh.vertices[np.unique(mesh.faces)]
        low, high = used.min(0), used.max(0)
        self._centre = (low + high) / 2
        self._scale = 100 / max(float((high - low).max()), 1e-30)
        corners = ((mesh.vertices - self._centre) * self._scale).astype(np.float32)
        self._rays: Any = EmbreeScene()
        TriangleMesh(self._rays, corners, mesh.faces.astype(np.int32))

    @cached_property
    def normals(self) -> Floats:
        """``(V,3)`` of the vertices, smooth over places that several vertices share."""
        mesh = self.mesh
        corner = mesh.vertices[mesh.faces]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        _, place = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
        place = place.reshape(-1)
        total = np.zeros((place.max() + 1, 3))
        for k in range(3):
            np.add.at(total, place[mesh.faces[:, k]], normal)
        out = total[place]
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12))

    @cached_property
    def flat(self) -> Floats:
        """``(F,3)`` float32 unit normals of the faces, zero where a face has no area."""
        corner = self.mesh.vertices[self.mesh.faces]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        return np.asarray(normal / length, dtype=np.float32)

    def hits(self, camera: Camera) -> Hits:
        """Returns where the rays of a camera's pixels meet the mesh."""
        rays = camera.rays().astype(np.float32)
        origin = ((camera.position - self._centre) * self._scale).astype(np.float32)
        found = self._rays.run(np.repeat(origin[None], len(rays), 0), rays, output=True)
        pixel = np.flatnonzero(found["primID"] >= 0)
        face = found["primID"][pixel].astype(np.int64)
        u, v = found["u"][pixel], found["v"][pixel]
        # A ray's z is 1 ahead, so that its length is the depth.
        depth = found["tfar"][pixel] / np.float32(self._scale)
        way = rays[pixel]
        facing = np.abs(np.einsum("nc,nc->n", way, self.flat[face]))
        slant = facing / np.sqrt(np.einsum("nc,nc->n", way, way))
        return Hits(camera, pixel, face, np.stack([1 - u - v, u, v], 1), depth, slant)

    def view(self, camera: Camera) -> View:
        """Returns what a camera sees."""
        hits = self.hits(camera)
        return View(
            camera,
            hits.spread(hits.face, -1),
            hits.spread(hits.depth, np.inf),
            hits.spread(hits.slant, 0),
            hits.spread(shown(self.mesh, hits.face, hits.corners), 0),
        )


def lit(view: View) -> Floats:
    """Returns the view as lit from the camera, ``(H,W,3)``."""
    light = SHADE + (1 - SHADE) * view.slant
    return np.asarray(view.colour * light[..., None], dtype=np.float32)


def shown(mesh: Mesh, face: Ints, corners: Floats) -> Floats:
    """Returns float32 sRGB ``(n,3)`` at points of faces ``(n,)``, by their corners' weights."""
    factor = multiplier(mesh, face, corners)
    out = srgb(factor).astype(np.float32)
    paint = mesh.paint[face]
    for index, picture in enumerate(mesh.paints):
        of = np.flatnonzero(paint == index)
        if not len(of):
            continue
        uv = np.einsum("nk,nkc->nc", corners[of], mesh.uv[face[of]])
        value = sampled(picture.pixels, uv) / np.float32(255)
        own = factor[of]
        out[of] = value if (own == 1).all() else srgb(linear(value) * own)
    return out


def multiplier(mesh: Mesh, face: Ints, corners: Floats) -> Floats:
    """Returns what a paint is multiplied by at points of faces, linear RGB ``(n,3)``."""
    if (mesh.colours == 1).all():
        return np.asarray(mesh.factor[face])
    colours = np.einsum("nk,nkc->nc", corners, mesh.colours[mesh.faces[face]])
    return np.asarray(colours * mesh.factor[face])


def sampled(pixels: Bytes, uv: Floats) -> Floats:
    """Returns float32 RGB ``(n,3)``, 0..255, of a paint: bilinear, repeated beyond 0..1."""
    height, width, channels = pixels.shape
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    left, top = np.floor(x), np.floor(y)
    fx, fy = ((at - low).astype(np.float32)[:, None] for at, low in ((x, left), (y, top)))
    columns = [(left + k).astype(np.int64) % width for k in (0, 1)]
    rows = [(top + k).astype(np.int64) % height * width for k in (0, 1)]
    flat = pixels.reshape(-1, channels)

    def between(row: Ints) -> Floats:
        one, two = (flat.take(row + column, 0)[:, :3] for column in columns)
        return np.asarray(one * (1 - fx) + two * fx)

    return np.asarray(between(rows[0]) * (1 - fy) + between(rows[1]) * fy)
