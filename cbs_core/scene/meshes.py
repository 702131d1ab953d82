"""A mesh restyled: views, votes, styles with frozen statistics, colours back to its textures.

Letters: ``F`` faces, ``K`` classes, ``H W`` a view.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

from cbs_core.contract.errors import SourceError
from cbs_core.frame.routes import Route
from cbs_core.scene import bake, camera_files, cameras, grain, vote
from cbs_core.scene.cameras import Ball, Camera
from cbs_core.scene.classes import of_routes, palette, parsed
from cbs_core.scene.nets import Segmenting
from cbs_core.scene.rays import Caster, Hits, View, lit, shown
from cbs_core.scene.restyled import GREY, PAPER, Request, Restyled, by_route
from cbs_core.scene.texels import finer
from cbs_core.scene.types import Bytes, Floats, Ints, Mask, Mesh, MeshFile, srgb
from cbs_core.words.vocabularies import Colour

UP = (0.0, 1.0, 0.0)
"""glTF's; OBJ and PLY say nothing, and most have it."""

BESIDE = 3
"""Pixels beside what is styled: a point at its edge is read between pixels, and shows in the next
one where another face hides it by a hair."""

FINE = 2
"""Rays a side of a pixel in pictures for people."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What the votes gave."""

    labels: Ints | None
    """``(F,)``, every face has one; None where no segmenter was asked."""

    seen: Mask
    """``(F,)`` whether some view saw the face."""

    names: tuple[str, ...]


def restyle(file: MeshFile, request: Request) -> Restyled:
    """Restyles a mesh.

    Raises:
        CbsError: the configuration is wrong, a plugin fails, or nothing is seen.
    """
    mesh = file.mesh
    own = [*vote.names(mesh, "material"), *vote.names(mesh, "object")]
    routes, segmenter = parsed(request, own)
    caster = Caster(mesh)
    ball = cameras.around(mesh.vertices[np.unique(mesh.faces)], UP)
    seen_from = camera_files.chosen(request.cameras, ball, count=request.views, size=request.size)
    views: list[View] = []
    with request.progress("rendering views", len(seen_from)) as step:
        for camera in seen_from:
            views.append(caster.view(camera))
            step()
    if not any(view.hit.any() for view in views):
        raise SourceError("no view shows anything of this scene: choose other cameras=")
    found = _classes(mesh, views, segmenter, request)
    route = vote.routed(mesh, found.labels, found.names, routes)
    chosen = vote.selected_faces(mesh, route, request.select, views[0])
    route = np.where(chosen, route, -1)
    fine = finer(mesh, route, grain.pixel(views))
    points = bake.wanted(fine, route)
    baking = bake.Baking(caster, points, ball.radius)
    frozen = _style(views, routes, route, points, baking, request)
    colours, heard = baking.colours()
    painted = bake.painted(fine, points, colours)
    after = bake.with_paints(fine, painted)
    shades = _shades(mesh, found, routes, route)
    shots = _Shots(caster)
    return Restyled(
        before=lambda camera: shots.picture(camera, mesh),
        classes=lambda camera: shots.flat(camera, shades[0]),
        after=lambda camera: shots.picture(camera, after),
        depth=lambda camera: caster.view(camera).depth,
        write=lambda path: file.write(path, painted),
        ball=ball,
        routes=routes,
        legend=shades[1],
        facts={
            "kind": "mesh",
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
            "textures": [list(p.pixels.shape[:2]) for p in after.paints],
            "views": len(views),
            "frozen_statistics": frozen,
            "classes": _told(mesh, found, routes, route),
            "points": {
                "painted": len(points.index),
                "seen": round(float(heard.mean()), 4) if len(heard) else None,
            },
        },
        viewer=lambda: payload(mesh, after, ball),
        left_out=file.left_out,
    )


def _classes(
    mesh: Mesh, views: list[View], segmenter: Segmenting | None, request: Request
) -> _Found:
    seen = np.zeros(len(mesh.faces), bool)
    for view in views:
        seen[view.face[view.hit]] = True
    if segmenter is None:
        return _Found(None, seen, ())
    pairs = []
    with request.progress("segmenting views", len(views)) as step:
        for view in views:
            pairs.append((view, segmenter(np.where(view.hit[..., None], lit(view), 0.5))))
            step()
    labels = vote.winners(vote.of_faces(len(mesh.faces), pairs))
    labels = vote.filled(labels, mesh.vertices[mesh.faces].mean(1))
    return _Found(labels, seen, segmenter.classes)


def _style(
    views: list[View],
    routes: tuple[Route, ...],
    route: Ints,
    points: bake.Points,
    baking: bake.Baking,
    request: Request,
) -> bool:
    """Styles the views for every route and adds them; tells whether statistics were frozen."""
    due = [i for i in range(len(routes)) if (route == i).any()]
    frozen = True
    size = grain.pixel(views)
    shown = {view: grain.grained(view, size, request.grain) for view in views if view.hit.any()}
    with request.progress("styling views", len(due) * len(views)) as step:
        for index in due:
            styling = request.workshop.styler(routes[index])
            frozen &= styling.frozen
            seeing = [v for v in views if (route[v.face[v.hit]] == index).any()]
            pictures = [_filled(view, shown[view]) for view in seeing]
            styling.measure(pictures)
            which = route[points.face] == index
            for view, picture in zip(seeing, pictures, strict=True):
                own = view.hit & (route[view.face] == index)
                near = maximum_filter(own, 2 * BESIDE + 1)
                styled = styling(picture, _filled(view, view.colour), near)
                baking.add(view, styled, which, near)
                step()
            for _ in range(len(views) - len(seeing)):
                step()
    return frozen


def _filled(view: View, colour: Floats) -> Floats:
    """Returns colours with the surface's mean one behind it: an edge to white is a stroke."""
    mean = colour[view.hit].mean(0)
    return np.where(view.hit[..., None], colour, mean).astype(np.float32)


class _Shots:
    """Pictures of the same surfaces in several colours; the last two views' hits are remembered."""

    def __init__(self, caster: Caster) -> None:
        self.caster = caster
        self._known: list[tuple[Camera, Hits]] = []

    def picture(self, camera: Camera, mesh: Mesh) -> Floats:
        """Returns ``(H,W,3)`` in [0,1] of the surfaces, painted as those of ``mesh``."""
        hits = self._hits(camera)
        return _small(hits.spread(shown(mesh, hits.face, hits.corners), PAPER))

    def flat(self, camera: Camera, shades: Floats) -> Floats:
        """Returns ``(H,W,3)`` in [0,1] of the surfaces in a colour a face ``(F,3)``, lit."""
        hits = self._hits(camera)
        light = 0.5 + 0.5 * hits.slant[:, None]
        return _small(hits.spread(shades[hits.face] * light, PAPER))

    def _hits(self, camera: Camera) -> Hits:
        for known, hits in self._known:
            if known is camera:
                return hits
        hits = self.caster.hits(camera.resized(camera.width * FINE, camera.height * FINE))
        self._known = [*self._known[-1:], (camera, hits)]
        return hits


def _small(picture: Floats) -> Floats:
    parts = [picture[y::FINE, x::FINE] for y in range(FINE) for x in range(FINE)]
    return np.asarray(sum(parts[1:], parts[0]) / len(parts))


def _shades(
    mesh: Mesh, found: _Found, routes: tuple[Route, ...], route: Ints
) -> tuple[Floats, list[tuple[str, Colour]]]:
    """Returns a colour a face ``(F,3)`` and the legend: classes by vote, else by route."""
    if found.labels is not None:
        table = palette(found.names)
        present = np.unique(found.labels)
        legend = [(found.names[i], table[i]) for i in present.tolist()]
        return np.array(table, float)[found.labels] / 255, legend
    table = of_routes(len(routes))
    legend = [(" ".join(r.classes), table[i]) for i, r in enumerate(routes)]
    return np.array(table, float)[route] / 255, [*legend, ("as it was", GREY)]


def _told(
    mesh: Mesh, found: _Found, routes: tuple[Route, ...], route: Ints
) -> list[dict[str, object]]:
    corner = mesh.vertices[mesh.faces]
    area = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )

    def figures(own: Mask) -> dict[str, object]:
        return {
            "faces": int(own.sum()),
            "surface": round(float(area[own].sum() / max(area.sum(), 1e-30)), 4),
            "seen": round(float(area[own & found.seen].sum() / max(area[own].sum(), 1e-30)), 4),
        }

    return by_route(routes, route, figures)


def payload(before: Mesh, after: Mesh, ball: Ball) -> dict[str, Any]:
    """Returns what the viewer shows: triangles, their places and both sets of textures."""
    parts = []
    for paint in np.unique(before.paint).tolist():
        own = np.flatnonzero(before.paint == paint)
        part: dict[str, Any] = {"position": _packed(before.vertices[before.faces[own]])}
        for name, mesh in (("before", before), ("after", after)):
            colour = mesh.colours[mesh.faces[own]] * mesh.factor[own][:, None]
            part[f"colour_{name}"] = _packed8(srgb(colour))
            if paint >= 0:
                part[f"texture_{name}"] = _png(mesh.paints[paint].pixels)
        if paint >= 0:
            part["uv"] = _packed(before.uv[own])
        parts.append(part)
    return {
        "kind": "mesh",
        "parts": parts,
        "centre": ball.centre,
        "radius": ball.radius,
        "up": ball.up,
    }


def _packed(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _packed8(values: Floats) -> str:
    return base64.b64encode(np.round(values * 255).astype(np.uint8).tobytes()).decode()


def _png(pixels: Bytes) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(out, format="png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
