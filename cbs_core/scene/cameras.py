"""Where a scene is seen from: a pinhole camera, and a ring or a dome of them around a ball."""

import math
from dataclasses import dataclass

import numpy as np

from cbs_core.scene.types import Floats

FIELD = 40.0
"""Degrees from the picture's left to its right: a picture taken from some steps away."""

DOME = ((8.0, 0.5), (48.0, 0.25), (-32.0, 0.25))
"""Degrees above the horizon, and the part of the views there."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera: x right, y down, z ahead, as COLMAP has it."""

    rotation: Floats
    """``(3,3)`` from the world to the camera."""

    position: Floats
    """``(3,)`` in the world."""

    focal: float
    """Pixels."""

    width: int
    height: int
    centre: tuple[float, float] | None = None
    """The optical axis in the picture, x y in pixels; None is its middle."""

    @property
    def axis(self) -> tuple[float, float]:
        """The optical axis in the picture, pixels; the first pixel's middle is 0.5."""
        return self.centre or (self.width / 2, self.height / 2)

    def seen(self, points: Floats) -> tuple[Floats, Floats]:
        """Returns pixels ``(n,2)`` x y and depths ``(n,)`` of points ``(n,3)``.

        Behind the camera depths are negative and pixels mean nothing.
        """
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
        return local[:, :2] / safe[:, None] * self.focal + np.array(self.axis), depth

    def rays(self) -> Floats:
        """Returns ``(H*W,3)`` directions through the middles of the pixels, z of 1 ahead."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        local = np.stack(
            [(x - self.axis[0]) / self.focal, (y - self.axis[1]) / self.focal, np.ones_like(x)], -1
        )
        return local.reshape(-1, 3) @ self.rotation

    def resized(self, width: int, height: int) -> "Camera":
        """Returns the same camera with another number of pixels; by the width's ratio."""
        scale = width / self.width
        centre = None
        if self.centre is not None:
            centre = (self.centre[0] * scale, self.centre[1] * scale)
        return Camera(self.rotation, self.position, self.focal * scale, width, height, centre)


@dataclass(frozen=True, slots=True)
class Ball:
    """What cameras look at."""

    centre: tuple[float, float, float]
    radius: float
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)


def around(points: Floats, up: tuple[float, float, float], weights: Floats | None = None) -> Ball:
    """Returns a ball around most of the points ``(n,3)``.

    Args:
        points: what is to be seen.
        up: the direction that is up.
        weights: ``(n,)``; None takes all points, else far and faint ones are left out.
    """
    if weights is not None:
        order = np.argsort(-weights)
        points = points[order[: max(1, int(len(order) * 0.9))]]
        low, high = np.percentile(points, [2, 98], axis=0)
        points = points[((points >= low) & (points <= high)).all(1)] if len(points) > 9 else points
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2
    radius = float(np.linalg.norm(points - centre, axis=1).max()) or 1.0
    return Ball((float(centre[0]), float(centre[1]), float(centre[2])), radius, up)


def orbit(
    ball: Ball, turn: float, height: float, size: int, *, field: float = FIELD, margin: float = 1.05
) -> Camera:
    """Returns a camera on a circle around the ball.

    Args:
        ball: fills the picture.
        turn: degrees around the axis that is up.
        height: degrees above the horizon.
        size: pixels a side.
        field: degrees from the picture's left to its right.
        margin: how much larger than the ball what is seen is.
    """
    up = np.array(ball.up, float) / np.linalg.norm(ball.up)
    side = np.array([1.0, 0, 0]) if abs(up[0]) < 0.9 else np.array([0, 0, 1.0])
    ahead = np.cross(side, up)
    ahead /= np.linalg.norm(ahead)
    side = np.cross(up, ahead)
    a, b = math.radians(turn), math.radians(height)
    out = (ahead * math.cos(a) + side * math.sin(a)) * math.cos(b) + up * math.sin(b)
    distance = ball.radius * margin / math.sin(math.radians(field / 2))
    z = -out
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    focal = size / 2 / math.tan(math.radians(field / 2))
    return Camera(rotation, np.array(ball.centre) + out * distance, focal, size, size)


def ring(ball: Ball, count: int, size: int) -> list[Camera]:
    """Returns so many cameras in a circle around the ball, a little above it."""
    return [orbit(ball, 360 * i / count, 10, size) for i in range(count)]


def dome(ball: Ball, count: int, size: int) -> list[Camera]:
    """Returns so many cameras in three circles around the ball: level, above and below (`DOME`)."""
    cameras: list[Camera] = []
    for circle, (height, part) in enumerate(DOME):
        here = (
            max(1, round(count * part)) if circle else count - 2 * max(1, round(count * DOME[1][1]))
        )
        shift = 180 / max(1, here) if circle else 0.0
        cameras += [orbit(ball, shift + 360 * i / here, height, size) for i in range(here)]
    return cameras[:count]
