"""Where a scene is seen from: a ring or a dome around it, or cameras that a file names."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.scene.types import Floats

FIELD = 40.0
"""Degrees from the picture's left to its right: a picture taken from some steps away."""

KINDS = ("dome", "ring")

DOME = ((8.0, 0.5), (48.0, 0.25), (-32.0, 0.25))
"""Degrees above the horizon, and the part of the views there."""

MOST_JSON = 64 * 2**20
"""Bytes of a file of cameras."""


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


def chosen(spec: object, ball: Ball, *, count: int, size: int) -> list[Camera]:
    """Returns the cameras that ``cameras=`` names.

    Args:
        spec: ``dome``, ``ring`` or a nerfstudio ``transforms.json``.
        ball: around what they stand, where the scene brings none.
        count: how many; of a file's, so many evenly spread ones.
        size: pixels of the longest side.

    Raises:
        ConfigError: another word, or a file that is none of cameras.
    """
    word = str(spec)
    if word == "ring":
        return [orbit(ball, 360 * i / count, 10, size) for i in range(count)]
    if word == "dome":
        return _dome(ball, count, size)
    path = Path(word).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"cameras={word} is neither {' nor '.join(KINDS)} nor a file{closest(word, KINDS)}: a "
            "nerfstudio transforms.json is taken"
        )
    cameras = _transforms(path, size)
    return [cameras[i * len(cameras) // count] for i in range(min(count, len(cameras)))]


def _dome(ball: Ball, count: int, size: int) -> list[Camera]:
    cameras: list[Camera] = []
    for ring, (height, part) in enumerate(DOME):
        here = (
            max(1, round(count * part)) if ring else count - 2 * max(1, round(count * DOME[1][1]))
        )
        shift = 180 / max(1, here) if ring else 0.0
        cameras += [orbit(ball, shift + 360 * i / here, height, size) for i in range(here)]
    return cameras[:count]


def _transforms(path: Path, size: int) -> list[Camera]:
    """Reads nerfstudio's cameras: x right, y up, z back, from the camera to the world."""
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError("it is too long")
        told = json.loads(path.read_text(encoding="utf-8"))
        cameras = [_frame(told, frame, size) for frame in told["frames"]]
        if not cameras:
            raise ValueError("it holds none")
    except (OSError, ValueError, KeyError, TypeError, IndexError, np.linalg.LinAlgError) as error:
        raise ConfigError(
            f"cameras={path} cannot be read ({' '.join(str(error).split())}): a nerfstudio "
            "transforms.json with frames, transform_matrix and fl_x or camera_angle_x is due"
        ) from error
    return cameras


def _frame(told: dict[str, object], frame: dict[str, object], size: int) -> Camera:
    both = {**told, **frame}
    matrix = np.array(both["transform_matrix"], float)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise ValueError("a transform_matrix is not 4x4")
    turned = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    width, height = (int(_number(both, key, size)) for key in ("w", "h"))
    if "fl_x" in both:
        focal = _number(both, "fl_x", 0)
    else:
        focal = width / 2 / math.tan(_number(both, "camera_angle_x", 0.7) / 2)
    axis = (_number(both, "cx", width / 2), _number(both, "cy", height / 2))
    if not (0 < width <= 2**16 and 0 < height <= 2**16 and focal > 0):
        raise ValueError("a camera has no pixels or no focal length")
    camera = Camera((turned * [1, -1, -1]).T, matrix[:3, 3], focal, width, height, axis)
    scale = size / max(width, height)
    return camera.resized(max(1, round(width * scale)), max(1, round(height * scale)))


def _number(both: dict[str, object], key: str, default: float) -> float:
    value = both.get(key, default)
    if not isinstance(value, int | float):
        raise ValueError(f"{key} is no number")
    return float(value)


def evenly(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """Returns so many of the cameras, evenly spread."""
    return [cameras[i * len(cameras) // count] for i in range(min(count, len(cameras)))]
