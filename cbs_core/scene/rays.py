"""Views of a mesh by rays on the CPU: face, depth and colour of each pixel.

trimesh with embreex shoots the rays. Light is left out: what is styled must be the surface's own
colour, or the light of one view would be painted on for all.

Letters: ``V`` vertices, ``F`` faces, ``H W`` the picture, ``n`` points.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cbs_core.contract.errors import PluginLoadError
from cbs_core.scene.cameras import Camera
from cbs_core.scene.types import Floats, Ints, Mask, Mesh, linear, srgb

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


class Caster:
    """Shoots rays at a mesh.

    Raises:
        PluginLoadError: the extra is missing.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        try:
            import embreex  # noqa: F401
            import trimesh
            from trimesh.ray.ray_pyembree import RayMeshIntersector
        except ImportError as error:
            raise needs("trimesh and embreex") from error
        shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, validate=False)
        self._rays: Any = RayMeshIntersector(shape)

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
        """``(F,3)`` unit normals of the faces, zero where a face has no area."""
        corner = self.mesh.vertices[self.mesh.faces]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20))

    def view(self, camera: Camera, painted: Mesh | None = None) -> View:
        """Returns what a camera sees.

        Args:
            camera: from where.
            painted: the same surfaces with other colours, which are seen in the place of these.
        """
        rays = camera.rays()
        origins = np.broadcast_to(camera.position, rays.shape)
        face = np.asarray(self._rays.intersects_first(origins, rays)).astype(np.int64)
        hit = np.flatnonzero(face >= 0)
        at = face[hit]
        corner = self.mesh.vertices[self.mesh.faces[at, 0]]
        normal = self.flat[at]
        facing = (rays[hit] * normal).sum(1)
        # A ray's z is 1 ahead, so that its length to the plane is the depth.
        depth = ((corner - camera.position) * normal).sum(1) / np.where(
            np.abs(facing) < 1e-12, 1e-12, facing
        )
        corners = barycentric(
            self.mesh.vertices[self.mesh.faces[at]], camera.position + rays[hit] * depth[:, None]
        )
        size = (camera.height, camera.width)
        depths = np.full(len(face), np.inf, np.float32)
        slants = np.zeros(len(face), np.float32)
        colours = np.zeros((len(face), 3), np.float32)
        depths[hit] = depth
        slants[hit] = np.abs(facing) / np.linalg.norm(rays[hit], axis=1)
        colours[hit] = srgb(albedo(painted or self.mesh, at, corners))
        return View(
            camera,
            face.reshape(size),
            depths.reshape(size),
            slants.reshape(size),
            colours.reshape(*size, 3),
        )


def lit(view: View) -> Floats:
    """Returns the view as lit from the camera, ``(H,W,3)``."""
    light = SHADE + (1 - SHADE) * view.slant
    return np.asarray(view.colour * light[..., None], dtype=np.float32)


def barycentric(corners: Floats, points: Floats) -> Floats:
    """Returns ``(n,3)`` weights of the corners ``(n,3,3)`` that give points ``(n,3)``."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = points - corners[:, 0]
    aa, ab, bb = (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)
    pa, pb = (p * a).sum(1), (p * b).sum(1)
    area = np.maximum(aa * bb - ab * ab, 1e-30)
    u, v = (bb * pa - ab * pb) / area, (aa * pb - ab * pa) / area
    out = np.stack([1 - u - v, u, v], 1)
    out = np.clip(out, 0, 1)
    return np.asarray(out / out.sum(1, keepdims=True))


def albedo(mesh: Mesh, face: Ints, corners: Floats) -> Floats:
    """Returns linear RGB ``(n,3)`` at points of faces ``(n,)``, by weights ``(n,3)`` of corners."""
    out = multiplier(mesh, face, corners)
    uv = np.einsum("nk,nkc->nc", corners, mesh.uv[face])
    for index, paint in enumerate(mesh.paints):
        of = mesh.paint[face] == index
        if of.any():
            out[of] *= linear(sampled(paint.pixels, uv[of]) / 255)
    return out


def multiplier(mesh: Mesh, face: Ints, corners: Floats) -> Floats:
    """Returns what a paint is multiplied by at points of faces, linear RGB ``(n,3)``."""
    colours = np.einsum("nk,nkc->nc", corners, mesh.colours[mesh.faces[face]])
    return np.asarray(colours * mesh.factor[face])


def sampled(pixels: Any, uv: Floats) -> Floats:
    """Returns RGB ``(n,3)`` of a paint in its own range, bilinear and repeated beyond 0..1."""
    height, width = pixels.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    x0, x1, y0, y1 = left % width, (left + 1) % width, top % height, (top + 1) % height
    p = pixels[..., :3]
    above = p[y0, x0] * (1 - fx) + p[y0, x1] * fx
    below = p[y1, x0] * (1 - fx) + p[y1, x1] * fx
    return np.asarray(above * (1 - fy) + below * fy)
