"""Colours of restyled views brought back to a mesh: to texels of its paints, or to its vertices.

Each texel is a point of the surface. Every view that sees it says what colour it should have, and
the mean is weighed by how straight the view looks at it, and by how far the point lies from an
edge in that view. The weights are steep, so that nearly everywhere one view alone is heard and
strokes stay sharp; between two, the change is gradual. Sums are made in the views' order.

Letters: ``F`` faces, ``V`` vertices, ``n`` points, ``H W`` a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter
from scipy.spatial import cKDTree

from cbs_core.contract.errors import ConfigError
from cbs_core.scene.rays import Caster, View, multiplier
from cbs_core.scene.types import OF_VERTICES, Floats, Ints, Mask, Mesh, Painted, linear, srgb

STEEPNESS = 12
"""Power of the cosine in a view's weight."""

RAMP = 8
"""Pixels from an edge in which a view's weight grows to the whole."""

LEAST_COSINE = 0.12
"""Views more slanted than this are not heard: they smear."""

GUTTER = 4
"""Texels beside a face that get its colour, because filters see them, where no face has them."""

AT_ONCE = 4_000_000
"""Texels that are tried at once."""

MOST_TRIED = 400_000_000
"""Texels tried in all: a face whose texture repeats a thousand times would take hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Places on the surface that get a colour."""

    paint: Ints
    """``(n,)`` as `Mesh.paint`."""

    index: Ints
    """``(n,)`` the texel, row by row, or the vertex."""

    face: Ints
    """``(n,)``."""

    corners: Floats
    """``(n,3)`` barycentric weights."""

    owned: Mapping[int, Mask] = field(default_factory=dict)
    """Of each paint ``(H*W,)`` which texels some face of the scene has."""


def covered(mesh: Mesh, faces: Ints, paint: int) -> Points:
    """Returns the texels whose middles lie in the faces; one in several faces comes several times.

    Raises:
        ConfigError: the texture repeats too often.
    """
    height, width = mesh.paints[paint].pixels.shape[:2]
    place = mesh.uv[faces] * [width, height] - 0.5
    low = np.ceil(place.min(1) - 1e-9).astype(np.int64)
    count = np.maximum(np.floor(place.max(1) + 1e-9).astype(np.int64) - low + 1, 0)
    area = count[:, 0] * count[:, 1]
    if area.sum() > MOST_TRIED:
        raise ConfigError(
            f"the texture '{mesh.paints[paint].name}' is repeated or enlarged so far that "
            f"{area.sum():,} texels would be painted: make it smaller"
        )
    (x0, y0), slopes = place[:, 0].T.copy(), _slopes(place)
    found: list[tuple[Ints, Ints, Floats]] = []
    ends = np.cumsum(area)
    start = 0
    while start < len(faces):
        limit = (ends[start - 1] if start else 0) + AT_ONCE
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        owner = np.repeat(np.arange(start, stop), area[start:stop])
        before = ends[start - 1] if start else 0
        offset = before + np.arange(len(owner)) - (ends - area).take(owner)
        wide = count[:, 0].take(owner)
        x = low[:, 0].take(owner) + offset % wide
        y = low[:, 1].take(owner) + offset // wide
        dx, dy = x - x0.take(owner), y - y0.take(owner)
        ux, uy, vx, vy = (slope.take(owner) for slope in slopes)
        u, v = dx * ux + dy * uy, dx * vx + dy * vy
        inside = np.flatnonzero((u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6))
        texel = (y.take(inside) % height) * width + x.take(inside) % width
        u, v = u.take(inside), v.take(inside)
        found.append((texel, faces[owner.take(inside)], np.stack([1 - u - v, u, v], 1)))
        start = stop
    texel, face, corners = (np.concatenate(part) for part in zip(*found, strict=True))
    return Points(np.full(len(texel), paint), texel, face, np.clip(corners, 0, 1))


def _slopes(place: Floats) -> Floats:
    """Returns ``(4,n)``: by how much a step in x, in y changes the weight of the second corner.

    And then that of the third; NaN where a triangle ``(n,3,2)`` has no area.
    """
    (ax, ay), (bx, by) = (place[:, 1] - place[:, 0]).T, (place[:, 2] - place[:, 0]).T
    area = ax * by - ay * bx
    return np.stack([by, -bx, -ay, ax]) / np.where(np.abs(area) < 1e-12, np.nan, area)


def wanted(mesh: Mesh, route: Ints) -> Points:
    """Returns all places whose colours are the routes' alone.

    A texel that faces of several routes, or of none, share stays as it is, and so does a vertex.
    """
    parts, owned = [], {}
    for paint in range(len(mesh.paints)):
        faces = np.flatnonzero(mesh.paint == paint)
        if not (route[faces] >= 0).any():
            continue
        points = covered(mesh, faces, paint)
        size = mesh.paints[paint].pixels.shape[0] * mesh.paints[paint].pixels.shape[1]
        owned[paint] = np.zeros(size, bool)
        owned[paint][points.index] = True
        parts.append(_alone(points, route, size))
    faces = np.flatnonzero(mesh.paint == OF_VERTICES)
    if (route[faces] >= 0).any():
        corners = np.tile(np.eye(3), (len(faces), 1))
        owner = np.repeat(faces, 3)
        points = Points(np.full(len(owner), OF_VERTICES), mesh.faces[faces].ravel(), owner, corners)
        parts.append(_alone(points, route, len(mesh.vertices)))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Points(empty, empty, empty, np.zeros((0, 3)))
    fields = ("paint", "index", "face", "corners")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    return Points(**joined, owned=owned)


def _alone(points: Points, route: Ints, size: int) -> Points:
    """Returns the points whose texel or vertex one route alone has."""
    own = route[points.face]
    least, most = np.full(size, len(route)), np.full(size, -2)
    np.minimum.at(least, points.index, own)
    np.maximum.at(most, points.index, own)
    keep = (own >= 0) & (least == most)[points.index]
    return Points(points.paint[keep], points.index[keep], points.face[keep], points.corners[keep])


class Baking:
    """Collects colours for some points from one view after the other.

    Args:
        caster: the mesh, with its smooth normals.
        points: the places.
        radius: of the scene, in the world's units.
    """

    def __init__(self, caster: Caster, points: Points, radius: float) -> None:
        mesh = caster.mesh
        self.caster, self.points, self.radius = caster, points, radius
        corners = mesh.faces[points.face]
        self.place = np.einsum("nk,nkc->nc", points.corners, mesh.vertices[corners])
        normal = np.einsum("nk,nkc->nc", points.corners, caster.normals[corners])
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        # A vertex on the edge of a thin sheet has normals that cancel.
        self.normal = np.where(
            length > 0.1, normal / np.maximum(length, 1e-12), caster.flat[points.face]
        ).astype(np.float32)
        self.total = np.zeros((len(self.place), 3))
        self.weight = np.zeros(len(self.place))
        self._edges: dict[View, Floats] = {}

    def add(self, view: View, styled: Floats, which: Mask, near: Mask) -> None:
        """Adds what one view says.

        Args:
            view: what the camera sees.
            styled: ``(H,W,3)`` sRGB.
            which: ``(n,)`` the points that this style is for.
            near: ``(H,W)``, where the picture is styled; elsewhere it is not heard.
        """
        at = np.flatnonzero(which)
        away = (view.camera.position - self.place[at]).astype(np.float32)
        cosine = np.abs(np.einsum("nc,nc->n", away, self.normal[at]))
        cosine /= np.sqrt(np.einsum("nc,nc->n", away, away))
        straight = cosine > LEAST_COSINE
        at, cosine = at[straight], cosine[straight]
        for start in range(0, len(at), AT_ONCE // 8):
            some = slice(start, start + AT_ONCE // 8)
            self._listen(view, styled, near, at[some], cosine[some])

    def _listen(self, view: View, styled: Floats, near: Mask, at: Ints, cosine: Floats) -> None:
        """Adds what a view says of some points, where it sees them."""
        camera = view.camera
        pixel, depth = camera.seen(self.place[at])
        inside = (depth > 0) & (pixel > 0).all(1) & (pixel < [camera.width, camera.height]).all(1)
        at, cosine, pixel, depth = at[inside], cosine[inside], pixel[inside], depth[inside]
        column, row = pixel.astype(np.int64).T
        # Within a pixel, a slanted surface's depth changes by this.
        slope = depth / camera.focal * np.sqrt(1 - np.minimum(cosine, 1) ** 2)
        found = view.depth[row, column]
        shown = np.abs(found - depth) < 0.004 * self.radius + slope / cosine
        shown &= near[row, column]
        at, cosine, pixel = at[shown], cosine[shown], pixel[shown]
        if view not in self._edges:
            self._edges[view] = np.clip(_from_edges(view, self.radius) / RAMP, 0.02, 1)
        weight = cosine**STEEPNESS * self._edges[view][row[shown], column[shown]]
        picked = _picked(styled, pixel)
        self.total[at] += weight[:, None] * picked
        self.weight[at] += weight

    def colours(self) -> tuple[Floats, Mask]:
        """Returns sRGB ``(n,3)`` and which points were seen; the others take their neighbours'."""
        seen = self.weight > 0
        out = self.total / np.maximum(self.weight, 1e-30)[:, None]
        if seen.any() and not seen.all():
            count = min(8, int(seen.sum()))
            distance, near = cKDTree(self.place[seen]).query(self.place[~seen], count, workers=-1)
            distance = distance.reshape(-1, count)
            near = near.reshape(-1, count)
            share = 1 / (distance + 1e-9 * self.radius)
            share /= share.sum(1, keepdims=True)
            out[~seen] = (out[seen][near] * share[..., None]).sum(1)
        return out, seen


def _picked(picture: Floats, pixel: Floats) -> Floats:
    """Returns ``(n,3)`` of a picture at pixels x y, bilinear, its border repeated."""
    height, width = picture.shape[:2]
    x = np.clip(pixel[:, 0] - 0.5, 0, width - 1)
    y = np.clip(pixel[:, 1] - 0.5, 0, height - 1)
    left, top = (
        np.minimum(x.astype(np.int64), width - 2),
        np.minimum(y.astype(np.int64), height - 2),
    )
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    above = picture[top, left] * (1 - fx) + picture[top, left + 1] * fx
    below = picture[top + 1, left] * (1 - fx) + picture[top + 1, left + 1] * fx
    return np.asarray(above * (1 - fy) + below * fy)


def _from_edges(view: View, radius: float) -> Floats:
    """Returns the distance in pixels from where the depth jumps, or the surface ends."""
    depth = np.where(np.isfinite(view.depth), view.depth, 1e6 * radius)
    jump = maximum_filter(depth, 3) - minimum_filter(depth, 3)
    slope = view.depth / view.camera.focal / np.maximum(view.slant, LEAST_COSINE)
    edge = ~view.hit | (jump > 0.01 * radius + 4 * np.where(view.hit, slope, 0))
    return np.asarray(distance_transform_edt(~edge))


def painted(mesh: Mesh, points: Points, colours: Floats) -> Painted:
    """Returns the mesh's new paints and vertices.

    Args:
        mesh: the scene.
        points: the places.
        colours: ``(n,3)`` sRGB in [0,1]. Of a texel that lies in several places, the mean.
    """
    factor = multiplier(mesh, points.face, points.corners)
    at_vertices = points.paint == OF_VERTICES  # whose own colour is what is replaced
    factor[at_vertices] = mesh.factor[points.face[at_vertices]]
    value = linear(np.clip(colours, 0, 1)) / np.maximum(factor, 1e-6)
    paints = {}
    for paint in np.unique(points.paint[points.paint >= 0]).tolist():
        of = points.paint == paint
        old = mesh.paints[paint].pixels
        changed, index = _means(points.index[of], srgb(value[of]), old.shape[0] * old.shape[1])
        new = old.copy()
        new.reshape(-1, old.shape[2])[index, :3] = np.round(changed * 255).astype(np.uint8)
        owned = points.owned[paint].reshape(old.shape[:2])
        touched = np.zeros(old.shape[:2], bool)
        touched.ravel()[index] = True
        paints[paint] = _with_gutter(new, owned, touched)
    of = at_vertices
    if not of.any():
        return Painted(paints)
    out = mesh.colours.copy()
    changed, index = _means(points.index[of], value[of], len(mesh.vertices))
    out[index] = np.clip(changed, 0, 1)
    which = np.zeros(len(mesh.vertices), bool)
    which[index] = True
    return Painted(paints, out, which)


def _means(index: Ints, values: Floats, size: int) -> tuple[Floats, Ints]:
    count = np.bincount(index, minlength=size)
    there = np.flatnonzero(count)
    sums = np.stack([np.bincount(index, values[:, k], size)[there] for k in range(3)], 1)
    return sums / count[there][:, None], there


def _with_gutter(pixels: Floats, owned: Mask, touched: Mask) -> Floats:
    """Carries colours to texels of no face, beside those that changed and nearest to them."""
    distance, (row, column) = distance_transform_edt(~owned, return_indices=True)
    grow = ~owned & (distance <= GUTTER) & touched[row, column]
    # Only where nothing of another class is near enough to be filtered together with it.
    if (owned & ~touched).any():
        grow &= distance_transform_edt(touched | ~owned) > 1.5
    pixels[grow, :3] = pixels[row[grow], column[grow], :3]
    return pixels


def with_paints(mesh: Mesh, changed: Painted) -> Mesh:
    """Returns the mesh with what changed."""
    paints = tuple(
        replace(paint, pixels=changed.paints.get(i, paint.pixels))
        for i, paint in enumerate(mesh.paints)
    )
    colours = mesh.colours if changed.colours is None else changed.colours
    return replace(mesh, paints=paints, colours=colours)
