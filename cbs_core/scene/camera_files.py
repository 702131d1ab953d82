"""Which cameras ``cameras=`` names: a ring or a dome around the scene, or the scene's own.

The scene's own are read as COLMAP writes them (``cameras`` and ``images``, as text or binary) and
as nerfstudio does (``transforms.json``). Lenses are taken for straight and pixels for square: what
is drawn is the scene, never a photograph of it.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.machine.inputs import refuse_pipe
from cbs_core.scene.cameras import Ball, Camera, dome, ring

KINDS = ("dome", "ring")

DUE = (
    "a nerfstudio transforms.json with frames, transform_matrix and fl_x or camera_angle_x is "
    "due, or a COLMAP folder with cameras and images, .txt or .bin"
)

MOST_BYTES = 512 * 2**20
"""Of a file of cameras; COLMAP's hold every point that each image saw."""

MOST_SIDE = 2**16
"""Pixels."""

MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
}
"""Of COLMAP, in the order of its numbers, each with how many parameters it has (its models.h)."""

ONE_FOCAL = (
    "SIMPLE_PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
)
"""Those whose parameters begin ``f cx cy``; the others' begin ``fx fy cx cy``."""


_Lens: TypeAlias = tuple[str, int, int, list[float]]
"""Model, width, height and parameters."""


def chosen(spec: object, ball: Ball, *, count: int, size: int) -> list[Camera]:
    """Returns the cameras that ``cameras=`` names.

    Args:
        spec: ``dome``, ``ring``, a nerfstudio ``transforms.json``, or a folder in which, or in
            whose ``sparse/0`` or ``sparse``, COLMAP's files lie.
        ball: around what they stand, where the scene brings none.
        count: how many; of a file's, so many evenly spread ones.
        size: pixels of the longest side.

    Raises:
        ConfigError: another word, or a file that is none of cameras.
    """
    word = str(spec)
    if word == "ring":
        return ring(ball, count, size)
    if word == "dome":
        return dome(ball, count, size)
    path = Path(word).expanduser()
    if not path.exists():
        raise ConfigError(
            f"cameras={word} is neither {' nor '.join(KINDS)} nor there as a file or folder"
            f"{closest(word, KINDS)}: {DUE}"
        )
    try:
        cameras = _colmap(path) if path.is_dir() else _transforms(path, size)
        if not cameras:
            raise ValueError("it holds none")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        RecursionError,
        struct.error,
        np.linalg.LinAlgError,
    ) as error:
        raise ConfigError(
            f"cameras={word} cannot be read ({' '.join(str(error).split())}): {DUE}"
        ) from error
    count = min(count, len(cameras))
    return [_fitted(cameras[i * len(cameras) // count], size) for i in range(count)]


def _fitted(camera: Camera, size: int) -> Camera:
    scale = size / max(camera.width, camera.height)
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _content(path: Path) -> bytes:
    refuse_pipe(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"'{path.name}' is too long")
    return path.read_bytes()


def _transforms(path: Path, size: int) -> list[Camera]:
    """Reads nerfstudio's cameras: x right, y up, z back, from the camera to the world."""
    told = json.loads(_content(path).decode("utf-8"))
    return [_frame(told, frame, size) for frame in told["frames"]]


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
    return _checked(Camera((turned * [1, -1, -1]).T, matrix[:3, 3], focal, width, height, axis))


def _number(both: dict[str, object], key: str, default: float) -> float:
    value = both.get(key, default)
    if not isinstance(value, int | float):
        raise ValueError(f"{key} is no number")
    return float(value)


def _checked(camera: Camera) -> Camera:
    numbers = (*camera.rotation.flat, *camera.position, camera.focal, *camera.axis)
    if not np.isfinite(numbers).all():
        raise ValueError("a camera has a place or a lens of no numbers")
    if not (0 < camera.width <= MOST_SIDE and 0 < camera.height <= MOST_SIDE and camera.focal > 0):
        raise ValueError("a camera has no pixels or no focal length")
    return camera


def _colmap(folder: Path) -> list[Camera]:
    """Reads COLMAP's cameras: x right, y down, z ahead, from the world to the camera."""
    lenses: Callable[[bytes], Iterator[tuple[int, _Lens]]]
    poses: Callable[[bytes], Iterator[tuple[str, int, list[float]]]]
    for place in (folder, folder / "sparse" / "0", folder / "sparse"):
        for end, lenses, poses in (
            (".bin", _binary_lenses, _binary_poses),
            (".txt", _text_lenses, _text_poses),
        ):
            files = [place / f"{name}{end}" for name in ("cameras", "images")]
            if all(file.is_file() for file in files):
                known = dict(lenses(_content(files[0])))
                found = sorted(poses(_content(files[1])), key=lambda pose: pose[0])
                return [_posed(known[of], pose) for _, of, pose in found]
    raise ValueError("neither cameras.txt with images.txt nor cameras.bin with images.bin is there")


def _posed(lens: _Lens, pose: list[float]) -> Camera:
    model, width, height, numbers = lens
    if len(numbers) != MODELS[model]:
        raise ValueError(f"a {model} has {len(numbers)} parameters and not {MODELS[model]}")
    start = 1 if model in ONE_FOCAL else 2
    quaternion = np.array(pose[:4])
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    position = -rotation.T @ np.array(pose[4:7])
    axis = (numbers[start], numbers[start + 1])
    return _checked(Camera(rotation, position, numbers[0], width, height, axis))


def _text_lenses(data: bytes) -> Iterator[tuple[int, _Lens]]:
    for line in data.decode("utf-8").splitlines():
        words = line.split()
        if words and not line.startswith("#"):
            numbers = [float(word) for word in words[4:]]
            yield int(words[0]), (words[1], int(words[2]), int(words[3]), numbers)


def _text_poses(data: bytes) -> Iterator[tuple[str, int, list[float]]]:
    # The second line of each image lists what it saw, and may be empty.
    lines = [line for line in data.decode("utf-8").splitlines() if not line.startswith("#")]
    for line in lines[::2]:
        if words := line.split(maxsplit=9):
            yield words[9], int(words[8]), [float(word) for word in words[1:8]]


def _binary_lenses(data: bytes) -> Iterator[tuple[int, _Lens]]:
    names = list(MODELS)
    (count,) = struct.unpack_from("<Q", data)
    at = 8
    for _ in range(count):
        number, model, width, height = struct.unpack_from("<iiQQ", data, at)
        if not 0 <= model < len(names):
            raise ValueError(f"its camera model {model} is unknown")
        numbers = struct.unpack_from(f"<{MODELS[names[model]]}d", data, at + 24)
        at += 24 + 8 * len(numbers)
        yield number, (names[model], width, height, list(numbers))


def _binary_poses(data: bytes) -> Iterator[tuple[str, int, list[float]]]:
    (count,) = struct.unpack_from("<Q", data)
    at = 8
    for _ in range(count):
        _, *pose, lens = struct.unpack_from("<i7di", data, at)
        at += 64
        end = data.index(b"\0", at)
        name = data[at:end].decode("utf-8", "replace")
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * points
        yield name, lens, pose
