"""Cameras: those around a scene, and its own as nerfstudio and COLMAP write them."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from cbs_core.contract.errors import ConfigError
from cbs_core.scene import camera_files, cameras
from cbs_core.scene.camera_files import MODELS

BALL = cameras.Ball((0, 0, 0), 1)
TURN = np.array([0.5, 0.5, 0.5, 0.5])
"""w x y z: the world's x, y and z become the camera's y, z and x."""

PLACE = np.array([1.0, -2.0, 7.0])
"""The world's middle, as the camera has it."""


def chosen(path: Path, *, count: int = 4, size: int = 100) -> list[cameras.Camera]:
    return camera_files.chosen(str(path), BALL, count=count, size=size)


def test_a_camera_looks_where_it_says() -> None:
    ball = cameras.Ball((1, 2, 3), 2.0)
    for turn, height in ((0, 0), (70, 40), (200, -30)):
        camera = cameras.orbit(ball, turn, height, 100)
        pixel, _ = camera.seen(np.array([[1, 2, 3], [1, 2.5, 3]]))
        assert np.abs(pixel[0] - 50).max() < 1e-6
        assert pixel[1, 1] < 50  # up is up
        rays = camera.rays().reshape(100, 100, 3)
        back, far = camera.seen(camera.position + 3 * rays[20, 70][None])
        assert np.abs(back[0] - [70.5, 20.5]).max() < 1e-6
        assert abs(far[0] - 3) < 1e-9


def test_cameras_of_nerfstudio_are_read(tmp_path) -> None:
    path = tmp_path / "transforms.json"
    pose = np.eye(4)
    pose[2, 3] = 5.0  # looks along -z at the middle
    told = {"w": 200, "h": 100, "fl_x": 150.0, "frames": [{"transform_matrix": pose.tolist()}]}
    path.write_text(json.dumps(told))
    (camera,) = chosen(path)
    assert (camera.width, camera.height, camera.focal) == (100, 50, 75.0)
    pixel, depth = camera.seen(np.array([[0.0, 0, 0], [0, 1, 0], [1, 0, 0]]))
    assert np.allclose(pixel[0], [50, 25])
    assert np.allclose(depth[0], 5)
    assert pixel[1, 1] < 25
    assert pixel[2, 0] > 50
    path.write_text('{"frames": [{"transform_matrix": [[1]]}]}')
    with pytest.raises(ConfigError, match="nerfstudio"):
        chosen(path)


def colmap(folder: Path, end: str, *, model: str = "OPENCV", lens: int = 3) -> Path:
    """Writes two images, named in the other order, of one camera of 400x200 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [300.0, 300.0, 210.0, 90.0][1 if MODELS[model] in (3, 4, 5) else 0 :]
    numbers = [*numbers, *[0.01] * MODELS[model]][: MODELS[model]]
    poses = {"b.jpg": [*TURN, *PLACE], "a.jpg": [1.0, 0, 0, 0, 0, 0, 3.0]}
    if end == ".txt":
        values = " ".join(map(str, numbers))
        (folder / "cameras.txt").write_text(f"# one\n{lens} {model} 400 200 {values}\n")
        lines = ["# two lines an image"]
        for i, (name, pose) in enumerate(poses.items()):
            lines += [f"{i} {' '.join(map(str, pose))} 3 {name}", "" if i else "1.5 2.5 -1 3 4 7"]
        (folder / "images.txt").write_text("\n".join(lines) + "\n")
        return folder
    head = struct.pack("<QiiQQ", 1, lens, list(MODELS).index(model), 400, 200)
    (folder / "cameras.bin").write_bytes(head + struct.pack(f"<{len(numbers)}d", *numbers))
    data = struct.pack("<Q", 2)
    for i, (name, pose) in enumerate(poses.items()):
        data += struct.pack("<i7di", i, *pose, 3) + name.encode() + b"\0"
        data += struct.pack("<Q", 1 - i) + struct.pack("<ddq", 1.5, 2.5, -1) * (1 - i)
    (folder / "images.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize("end", [".txt", ".bin"])
@pytest.mark.parametrize("place", ["", "sparse/0"])
@pytest.mark.parametrize("model", ["SIMPLE_RADIAL", "OPENCV"])
def test_cameras_of_colmap_are_read(end: str, place: str, model: str, tmp_path) -> None:
    colmap(tmp_path / place, end, model=model)
    first, second = chosen(tmp_path)
    assert np.array_equal(first.rotation, np.eye(3))  # a.jpg: by name
    assert np.allclose(first.position, [0, 0, -3])
    assert (second.width, second.height, second.focal) == (100, 50, 75.0)
    x, y, z = PLACE
    pixel, depth = second.seen(np.array([[0.0, 0, 0], [1, 0, 0]]))
    assert np.allclose(depth, z)
    assert np.allclose(pixel[0], [x / z * 75 + 52.5, y / z * 75 + 22.5])
    assert np.allclose(pixel[1], [x / z * 75 + 52.5, (y + 1) / z * 75 + 22.5])


def test_a_folder_without_whole_cameras_is_told_in_one_line(tmp_path) -> None:
    with pytest.raises(ConfigError, match="neither cameras"):
        chosen(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'dome'"):
        camera_files.chosen("doom", BALL, count=4, size=100)
    for end in (".txt", ".bin"):
        folder = colmap(tmp_path / end, end)
        for name in ("cameras", "images"):
            whole = (folder / f"{name}{end}").read_bytes()
            for part in (whole[: len(whole) // 2], whole[:9], b"\xff" * 200):
                (folder / f"{name}{end}").write_bytes(part)
                with pytest.raises(ConfigError, match="COLMAP folder") as error:
                    chosen(folder)
                assert "\n" not in str(error.value)
            (folder / f"{name}{end}").write_bytes(whole)
        colmap(folder, end, lens=9)  # which no image names
        with pytest.raises(ConfigError, match="cannot be read"):
            chosen(folder)
