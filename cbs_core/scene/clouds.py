"""Splats restyled: views, votes by what each splat adds to a pixel, colours back by least squares.

A view is a linear map of the splats' colours (`cbs_core.scene.splatting`), so that the votes are
its transpose applied to the segmenter's probabilities, and the new colours those that come nearest
to the views with the style where the routes' splats show (`cbs_core.scene.solving`).

Letters: ``N`` splats, ``K`` classes, ``P`` pixels of a view.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.frame.routes import Route
from cbs_core.scene import camera_files, cameras, vote
from cbs_core.scene.cameras import Ball, Camera
from cbs_core.scene.classes import palette, parsed
from cbs_core.scene.nets import Segmenting
from cbs_core.scene.rasterizing import splatter as splatter_of
from cbs_core.scene.refining import refined
from cbs_core.scene.restyled import PAPER, Request, Restyled, by_route
from cbs_core.scene.solving import Asked, solved
from cbs_core.scene.splatting import Splatter, Weights, restricted
from cbs_core.scene.types import Floats, Ints, Mask, SplatFile, Splats
from cbs_core.words.vocabularies import Colour

OPAQUE = 0.5
"""Of a pixel that splats cover by so much the depth is told."""

TOGETHER = 0.02
"""Of the scene's radius: splats of one object have a neighbour as near as this, or overlap it."""

NEIGHBOURS = 16
"""Of a splat, nearest first, that may be of the same object."""


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One view of the splats."""

    camera: Camera
    weights: Weights
    """``(P,N)``."""

    shine: Floats
    """``(N,3)`` of the further harmonics from here."""

    def picture(self, colours: Floats) -> Floats:
        """Returns ``(P,3)`` of colours ``(N,3)``, on `PAPER`."""
        lit = np.maximum(colours + self.shine, 0)
        return np.asarray(self.weights @ lit + (1 - self.cover) * PAPER)

    @property
    def cover(self) -> Floats:
        """``(P,1)``, how much of each pixel is covered."""
        return np.asarray(self.weights @ np.ones((self.weights.shape[1], 1), np.float32))

    @property
    def seen(self) -> Floats:
        """``(N,)``, pixels that each splat fills."""
        return np.asarray(self.weights.T @ np.ones((self.weights.shape[0], 1), np.float32))[:, 0]

    def square(self, pixels: Floats) -> Floats:
        """Returns ``(P,C)`` as ``(H,W,C)`` float32."""
        shape = (self.camera.height, self.camera.width, -1)
        return np.asarray(pixels, dtype=np.float32).reshape(shape)


def restyle(file: SplatFile, request: Request) -> Restyled:
    """Restyles splats.

    Raises:
        CbsError: the configuration is wrong, a plugin fails, or nothing is seen.
    """
    splats = file.splats
    routes, segmenter = parsed(request, ())
    assert segmenter is not None  # splats have no names of their own
    splatter = splatter_of(splats, request.workshop.device)
    ball = cameras.around(splats.means, splats.up, splats.opacities * splats.scales.max(1))
    seen_from = camera_files.chosen(request.cameras, ball, count=request.views, size=request.size)
    views = []
    with request.progress("rendering views", len(seen_from)) as step:
        for camera in seen_from:
            views.append(_view(splatter, camera))
            step()
    seen = sum(view.seen for view in views)
    assert isinstance(seen, np.ndarray)
    if not seen.any():
        raise SourceError("no view shows anything of this scene: choose other cameras=")
    labels = _labels(splats, views, segmenter, request)
    route = _routed(labels, segmenter.classes, routes)
    route = np.where(_selected(splats, route, request.select, views[0], ball), route, -1)
    targets, frozen = _targets(splats, views, routes, route, request)
    flat = request.harmonics == "flat"
    asked = _asked(splats, views, targets, route >= 0, flat)
    colours, told = _coloured(splats, asked, route >= 0, request)
    table = palette(segmenter.classes)
    shades = np.array(table, float)[labels] / 255
    after = splatter_of(_after(splats, colours, route >= 0, flat), request.workshop.device)
    shots = _Shots(splatter)
    return Restyled(
        before=lambda camera: shots.picture(camera, splats.colours, _shine(splatter, camera)),
        classes=lambda camera: shots.picture(camera, shades, np.zeros((1, 3), np.float32)),
        after=lambda camera: shots.picture(camera, colours, _shine(after, camera)),
        depth=shots.depth,
        write=lambda path: file.write(path, route >= 0, colours, flat),
        ball=ball,
        routes=routes,
        legend=_legend(segmenter.classes, table, labels, seen),
        facts={
            "kind": "splats",
            "splats": len(splats.means),
            "degree": {0: 0, 3: 1, 8: 2, 15: 3}[splats.harmonics.shape[1]],
            "views": len(views),
            "renderer": splatter.name,
            "frozen_statistics": frozen,
            **told,
            "classes": _told(routes, route, seen),
        },
        viewer=lambda: payload(splats, colours, splatter, ball),
        left_out=file.left_out,
    )


def _view(splatter: Splatter, camera: Camera) -> _View:
    return _View(camera, splatter.weights(camera), _shine(splatter, camera))


def _shine(splatter: Splatter, camera: Camera) -> Floats:
    return splatter.shine(camera).cpu().numpy().astype(np.float32)


def _labels(splats: Splats, views: list[_View], segmenter: Segmenting, request: Request) -> Ints:
    """Returns the class of each splat ``(N,)``: of those that no view sees, the nearest one's."""
    votes = np.zeros((len(splats.means), len(segmenter.classes)))
    with request.progress("segmenting views", len(views)) as step:
        for view in views:
            picture = np.clip(view.picture(splats.colours), 0, 1)
            soft = segmenter(view.square(picture))
            votes += view.weights.T @ soft.reshape(-1, soft.shape[2])
            step()
    seen = votes.sum(1) > 0
    votes[seen] = vote.shared(votes[seen], splats.means[seen])
    return vote.filled(vote.winners(votes), splats.means)


def _routed(labels: Ints, classes: tuple[str, ...], routes: tuple[Route, ...]) -> Ints:
    out = np.full(len(labels), -1)
    for index, route in enumerate(routes):
        own = np.isin(labels, [classes.index(name) for name in route.classes])
        out[own & (out < 0)] = index
    return out


def _selected(splats: Splats, route: Ints, spec: object, first: _View, ball: Ball) -> Mask:
    """Returns ``(N,)``, the splats of the one object at ``x,y`` in the first view.

    Raises:
        ConfigError: nothing that is restyled is there.
    """
    if spec in (None, "all"):
        return np.ones(len(route), bool)
    camera = first.camera
    point = vote.pixel(spec, (camera.height, camera.width))
    if point is None:
        raise ConfigError(f"select={spec} is neither all nor x,y in the first view")
    at = np.zeros((camera.height * camera.width, 1), np.float32)
    at[point[0] * camera.width + point[1]] = 1
    part = np.where(route >= 0, np.asarray(first.weights.T @ at)[:, 0], 0)
    if not part.any():
        raise ConfigError(f"select={spec}: nothing that is restyled is there in the first view")
    start = int(part.argmax())
    of = np.flatnonzero(route == route[start])
    piece = _pieces(splats.means[of], splats.scales[of].max(1), ball.radius)
    out = np.zeros(len(route), bool)
    out[of[piece == piece[np.searchsorted(of, start)]]] = True
    return out


def _pieces(means: Floats, sizes: Floats, radius: float) -> Ints:
    """Returns the number of the object ``(n,)`` of each splat: near ones, and those that overlap.

    Args:
        means: ``(n,3)``.
        sizes: ``(n,)`` standard deviations along the longest axes; large ones are haze, and join
            no more than middling ones do.
        radius: of the scene.
    """
    count = min(NEIGHBOURS, len(means))
    distance, other = cKDTree(means).query(means, count, workers=-1)
    reach = np.minimum(sizes, 2 * TOGETHER * radius)
    near = np.maximum(TOGETHER * radius, reach[:, None] + reach[other.reshape(-1, count)])
    row, column = np.nonzero(distance.reshape(-1, count) < near)
    ends = (row, other.reshape(-1, count)[row, column])
    links = coo_matrix((np.ones(len(row)), ends), (len(means), len(means)))
    return np.asarray(connected_components(links, directed=False)[1])


def _targets(
    splats: Splats,
    views: list[_View],
    routes: tuple[Route, ...],
    route: Ints,
    request: Request,
) -> tuple[list[Floats], bool]:
    """Returns each view as it should look, ``(P,3)``, and whether statistics were frozen."""
    pictures = [np.clip(view.picture(splats.colours), 0, 1) for view in views]
    targets = [picture.copy() for picture in pictures]
    due = [i for i in range(len(routes)) if (route == i).any()]
    frozen = True
    with request.progress("styling views", len(due) * len(views)) as step:
        for index in due:
            own = (route == index).astype(np.float32)[:, None]
            styling = request.workshop.styler(routes[index])
            frozen &= styling.frozen
            styling.measure([v.square(p) for v, p in zip(views, pictures, strict=True)])
            for view, picture, target in zip(views, pictures, targets, strict=True):
                matte = view.weights @ own
                styled = styling(view.square(picture)).reshape(-1, 3)
                target += matte * (styled - picture)
                step()
    return targets, frozen


def _asked(
    splats: Splats, views: list[_View], targets: list[Floats], touched: Mask, flat: bool
) -> list[Asked]:
    """Returns what the views ask of the colours of the touched splats."""
    own = np.flatnonzero(touched)
    out = []
    for view, target in zip(views, targets, strict=True):
        held = np.maximum(splats.colours + view.shine, 0)
        held[own] = 0 if flat else view.shine[own]
        free = np.asarray(view.weights @ held + (1 - view.cover) * PAPER)
        size = (view.camera.height, view.camera.width)
        out.append(Asked(restricted(view.weights, own), free, target, size))
    return out


def _coloured(
    splats: Splats, asked: list[Asked], touched: Mask, request: Request
) -> tuple[Floats, dict[str, object]]:
    """Returns colours ``(N,3)``, and what the report tells of how they were found."""
    out = np.array(splats.colours, dtype=np.float64)
    if not touched.any():
        return out, {}
    own = solved(asked, splats.means[touched], request.iterations, request.progress)
    told: dict[str, object] = {}
    if request.refine is not None and request.steps:
        device = request.workshop.device
        own, losses = refined(asked, own, request.refine, request.steps, device, request.progress)
        told["refined"] = {"steps": len(losses), "loss": [round(loss, 5) for loss in losses]}
    out[touched] = own
    return out, told


def _after(splats: Splats, colours: Floats, touched: Mask, flat: bool) -> Splats:
    harmonics = splats.harmonics.copy()
    if flat:
        harmonics[touched] = 0
    return Splats(
        splats.means,
        splats.scales,
        splats.rotations,
        splats.opacities,
        colours,
        harmonics,
        splats.up,
    )


class _Shots:
    """Pictures of the same splats in several colours; the last two views' maps are remembered."""

    def __init__(self, splatter: Splatter) -> None:
        self.splatter = splatter
        self._known: list[tuple[Camera, Weights]] = []

    def _weights(self, camera: Camera) -> Weights:
        for known, weights in self._known:
            if known is camera:
                return weights
        weights = self.splatter.weights(camera)
        self._known = [*self._known[-1:], (camera, weights)]
        return weights

    def picture(self, camera: Camera, colours: Floats, shine: Floats) -> Floats:
        """Returns ``(H,W,3)`` in [0,1] of splats of colours ``(N,3)`` and what is added to them."""
        view = _View(camera, self._weights(camera), shine)
        return np.clip(view.square(view.picture(colours)), 0, 1)

    def depth(self, camera: Camera) -> Floats:
        """Returns ``(H,W)``, the mean depth of what a pixel shows (`Restyled.depth`)."""
        weights = self._weights(camera)
        depths = self.splatter.depths(camera).cpu().numpy()
        both = weights @ np.stack([depths, np.ones_like(depths)], 1)
        mean, cover = both[:, 0] / np.maximum(both[:, 1], 1e-9), both[:, 1]
        out = np.where(cover > OPAQUE, mean, np.inf)
        return np.asarray(out.reshape(camera.height, camera.width))


def _legend(
    classes: tuple[str, ...], table: list[Colour], labels: Ints, seen: Floats
) -> list[tuple[str, Colour]]:
    share = np.bincount(labels, seen, len(classes))
    present = [i for i in range(len(classes)) if share[i] > 0.001 * share.sum()]
    return [(classes[i], table[i]) for i in present]


def _told(routes: tuple[Route, ...], route: Ints, seen: Floats) -> list[dict[str, object]]:
    def figures(own: Mask) -> dict[str, object]:
        share = float((seen[own] > 0.05).mean()) if own.any() else 0.0
        return {"splats": int(own.sum()), "seen": round(share, 4)}

    return by_route(routes, route, figures)


def payload(splats: Splats, colours: Floats, splatter: Splatter, ball: Ball) -> dict[str, Any]:
    """Returns what the viewer shows: places, covariances and both sets of colours."""
    covariance = splatter.covariance.cpu().numpy()
    rows, columns = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
    shapes = np.zeros((len(splats.means), 12), np.float32)
    shapes[:, :3], shapes[:, 3] = splats.means, splats.opacities
    shapes[:, 4:10] = covariance[:, rows, columns]
    return {
        "kind": "splats",
        "shapes": base64.b64encode(shapes.astype("<f4").tobytes()).decode(),
        "colour_before": _halves(splats.colours),
        "colour_after": _halves(colours),
        "centre": ball.centre,
        "radius": ball.radius,
        "up": splats.up,
    }


def _halves(colours: Floats) -> str:
    """Returns colours as the renderer blends them, where one may be lighter than white."""
    values = np.clip(colours, 0, np.finfo(np.float16).max).astype("<f2")
    return base64.b64encode(values.tobytes()).decode()
