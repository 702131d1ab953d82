"""Which class each face or splat is of: what the views' pixels say of it, weighed by what they see.

Letters: ``F`` faces, ``K`` classes, ``H W`` a view.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cbs_core.contract.errors import ConfigError
from cbs_core.frame.routes import Route
from cbs_core.scene.rays import View
from cbs_core.scene.types import Floats, Ints, Mask, Mesh

LABELS = ("segmenter", "material", "object")
"""What ``labels=`` may say."""

UNSEEN = -1

NEAR = 24
"""Points, itself among them, that share a point's votes."""

ROUNDS = 8
"""Times that they do, so that a vote reaches some six points far."""


def of_faces(count: int, views: Iterable[tuple[View, Floats]]) -> Floats:
    """Returns ``(F,K)`` votes: each pixel gives its probabilities to its face, weighed by slant.

    Args:
        count: of faces.
        views: each with probabilities ``(H,W,K)``.
    """
    votes: Floats | None = None
    for view, soft in views:
        at = view.hit
        face, weight = view.face[at], view.slant[at][:, None] * soft[at]
        if votes is None:
            votes = np.zeros((count, soft.shape[2]))
        for k in range(soft.shape[2]):
            votes[:, k] += np.bincount(face, weight[:, k], count)
    assert votes is not None
    return votes


def winners(votes: Floats) -> Ints:
    """Returns the class of each row ``(n,K)``; `UNSEEN` where nobody voted."""
    return np.where(votes.sum(1) > 0, votes.argmax(1), UNSEEN)


def filled(labels: Ints, points: Floats) -> Ints:
    """Returns labels ``(n,)`` with that of the nearest point ``(n,3)`` where there was none."""
    seen = labels >= 0
    if seen.all() or not seen.any():
        return labels
    out = labels.copy()
    _, nearest = cKDTree(points[seen]).query(points[~seen])
    out[~seen] = labels[seen][nearest]
    return out


def shared(votes: Floats, points: Floats) -> Floats:
    """Returns votes ``(n,K)`` of which near points ``(n,3)`` have given each other a part.

    A speck of one class within another goes, and a straight border stays where it is.
    """
    count = min(NEAR, len(points))
    distance, other = cKDTree(points).query(points, count, workers=-1)
    distance, other = distance.reshape(-1, count), other.reshape(-1, count)
    usual = np.median(distance[:, -1])
    part = np.exp(-2 * (distance / max(usual, 1e-30)) ** 2)
    part /= part.sum(1, keepdims=True)
    starts = np.arange(0, part.size + 1, count)
    mean = csr_matrix((part.ravel(), other.ravel(), starts), (len(points), len(points)))
    for _ in range(ROUNDS):
        votes = mean @ votes
    return votes


def names(mesh: Mesh, kind: str) -> tuple[str, ...]:
    """Returns what the scene itself calls its faces: ``material/paint``, ``object/door``."""
    own = mesh.materials if kind == "material" else mesh.objects
    return tuple(dict.fromkeys(f"{kind}/{name}" for name in own))


def routed(
    mesh: Mesh, labels: Ints | None, classes: Sequence[str], routes: Sequence[Route]
) -> Ints:
    """Returns the route of each face, -1 for none; the first route that claims it has it.

    A face has several names, and is of what others left (``rest``) if all of them are.

    Args:
        mesh: the scene.
        labels: ``(F,)`` classes by vote, or None.
        classes: their names.
        routes: with the names of classes, of ``material/NAME`` and of ``object/NAME``.
    """
    out = np.full(len(mesh.faces), -1)
    known = {*classes, *names(mesh, "material"), *names(mesh, "object")}
    for index, route in sorted(enumerate(routes), key=lambda one: one[1].left):
        meant = known - {*route.classes} if route.left else route.classes
        own = np.zeros(len(mesh.faces), bool)
        for name in meant:
            own |= _named(mesh, labels, classes, name)
        out[(~own if route.left else own) & (out < 0)] = index
    return out


def _named(mesh: Mesh, labels: Ints | None, classes: Sequence[str], name: str) -> Mask:
    """Returns the faces ``(F,)`` that have a name."""
    own = np.zeros(len(mesh.faces), bool)
    if name in classes:
        assert labels is not None
        own |= labels == list(classes).index(name)
    kind, _, rest = name.partition("/")
    if kind == "material":
        own |= np.isin(mesh.material, [i for i, n in enumerate(mesh.materials) if n == rest])
    elif kind == "object":
        own |= np.isin(mesh.object, [i for i, n in enumerate(mesh.objects) if n == rest])
    return own


def pieces(points: Floats, triangles: Ints) -> Ints:
    """Returns the number of the connected piece of each triangle; corners at one place touch."""
    _, place = np.unique(np.round(points, 6), axis=0, return_inverse=True)
    corner = place.reshape(-1)[triangles]
    count = int(corner.max()) + 1
    ones = np.ones(len(corner) * 2)
    start = np.concatenate([corner[:, 0], corner[:, 1]])
    end = np.concatenate([corner[:, 1], corner[:, 2]])
    _, piece = connected_components(coo_matrix((ones, (start, end)), (count, count)), False)
    return np.asarray(piece[corner[:, 0]])


def selected_faces(mesh: Mesh, route: Ints, spec: object, first: View) -> Mask:
    """Returns ``(F,)``, the faces of the one object that ``select=`` names.

    It is the connected piece of surface, within its route, that holds the face.

    Args:
        mesh: the scene.
        route: ``(F,)``.
        spec: ``all``, a face's number, or ``x,y`` in the first view, pixels.
        first: that view.

    Raises:
        ConfigError: it names nothing that is restyled.
    """
    if spec in (None, "all"):
        return np.ones(len(mesh.faces), bool)
    point = pixel(spec, first.face.shape)
    if point is not None:
        face = int(first.face[point])
    elif isinstance(spec, int) or str(spec).isdecimal():
        face = int(str(spec))
    else:
        raise ConfigError(
            f"select={spec} is neither all, a face's number nor x,y in the first view"
        )
    if not 0 <= face < len(mesh.faces) or route[face] < 0:
        raise ConfigError(
            f"select={spec} is no place that is restyled, of {len(mesh.faces)} faces and a first "
            f"view of {first.camera.width}x{first.camera.height} pixels"
        )
    own = np.flatnonzero(route == route[face])
    piece = pieces(mesh.vertices, mesh.faces[own])
    out = np.zeros(len(mesh.faces), bool)
    out[own[piece == piece[np.searchsorted(own, face)]]] = True
    return out


def pixel(spec: object, size: tuple[int, ...]) -> tuple[int, int] | None:
    """Returns row and column of ``x,y``, or None where it is no such text.

    Raises:
        ConfigError: it lies outside of the picture.
    """
    words = str(spec).replace("[", "").replace("]", "").split(",")
    if len(words) != 2:
        return None
    try:
        x, y = (int(word) for word in words)
    except ValueError:
        return None
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        raise ConfigError(f"select={spec} lies outside of the first view, {size[1]}x{size[0]}")
    return y, x
