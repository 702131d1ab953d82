"""Grain: a faint pattern that surfaces of one colour get before they are styled.

A styler makes strokes of what it sees. A surface of a single colour, of which many meshes are made,
shows it nothing, and comes back in a single colour. The pattern is a function of the place in
space, a solid texture (Perlin 1985), so that every view sees the same one and strokes of two views
fit together.

Letters: ``n`` points, ``H W`` a view.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from cbs_core.scene.rays import View
from cbs_core.scene.types import Floats, Ints

OCTAVES = ((24, 1.0), (12, 1.0), (6, 0.7))
"""Pixels of a view from one value of the pattern to the next, and its part."""

PRIMES = np.array([73856093, 19349663, 83492791], np.uint32)
"""That the three numbers of a place are multiplied by (Teschner et al. 2003)."""

LIFT = 0.25
"""Of the pattern, added to dark colours, of which a share is nothing to be seen."""


def pixel(views: Sequence[View]) -> float:
    """Returns how wide on the surface a pixel of the views is; some view shows something."""
    sizes = [np.median(v.depth[v.hit]) / v.camera.focal for v in views if v.hit.any()]
    return float(np.median(sizes))


def grained(view: View, size: float, amount: float) -> Floats:
    """Returns the view's colours ``(H,W,3)`` with grain.

    Args:
        view: what a camera sees.
        size: of `pixel`.
        amount: how much lighter or darker it makes, as a part; 0 leaves all as it is.
    """
    if not amount:
        return view.colour
    hit = view.hit
    rays = view.camera.rays().reshape(*hit.shape, 3)[hit]
    places = view.camera.position + rays * view.depth[hit][:, None]
    strength = amount * pattern(places / size)[:, None]
    old = view.colour[hit]
    out = view.colour.copy()
    out[hit] = np.clip(old + strength * (old + LIFT * (1 - old)), 0, 1)
    return out


def pattern(places: Floats) -> Floats:
    """Returns ``(n,)`` in -1..1, mostly small, at places ``(n,3)`` in pixels of a view."""
    total = sum(part * _octave(places / cell + cell) for cell, part in OCTAVES)
    return np.asarray(total / sum(part for _, part in OCTAVES))


def _octave(places: Floats) -> Floats:
    """Returns values of a lattice of whole numbers, smoothly between them; float32.

    A corner's value is made of its three numbers, each mixed once for all eight corners that it is
    part of.
    """
    low = np.floor(places)
    part = (places - low).astype(np.float32)
    part = part * part * (3 - 2 * part)
    corner = low.astype(np.int64).astype(np.uint32)
    words = [(corner + np.uint32(step)) * PRIMES for step in (0, 1)]
    shares = (1 - part, part)
    out = np.zeros(len(places), np.float32)
    for x, y, z in product((0, 1), repeat=3):
        word = words[x][:, 0] ^ words[y][:, 1] ^ words[z][:, 2]
        out += _value(word) * (shares[x][:, 0] * shares[y][:, 1] * shares[z][:, 2])
    return out


def _value(word: Ints) -> Floats:
    """Returns a number in -1..1 of each word ``(n,)`` of 32 bits, the same on every machine."""
    mixed = (word ^ word >> np.uint32(13)) * np.uint32(0x5BD1E995)
    return np.asarray((mixed ^ mixed >> np.uint32(15)).astype(np.float32) / np.float32(2.0**31) - 1)
