"""Splats: the renderer against a straight line in float64, and every format there and back."""

import gzip
import math
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from cbs_core.contract.errors import SourceError
from cbs_core.scene import cameras
from cbs_core.scene.session import opened
from cbs_core.scene.splatting import Splatter
from cbs_core.scene.types import SplatFile, Splats
from tests import scenes

WRITERS = {
    "a.ply": scenes.splat_ply,
    "packed.ply": scenes.compressed_ply,
    "a.splat": scenes.splat,
    "v2.spz": lambda path, splats: scenes.spz(path, splats, 2),
    "v4.spz": lambda path, splats: scenes.spz(path, splats, 4),
}
STEP = {"a.ply": 1e-6, "packed.ply": 2e-3, "a.splat": 2.1e-3, "v2.spz": 4e-3, "v4.spz": 4e-3}
"""Half a step of the format's own, of colours."""


def straight_line(splats: Splats, camera: cameras.Camera) -> np.ndarray:
    """Kerbl et al. 2023, one splat and one pixel after the other, in float64."""
    order = np.argsort(
        [camera.rotation[2] @ (m - camera.position) for m in splats.means], kind="stable"
    )
    picture = np.zeros((camera.height, camera.width, 3))
    light = np.ones((camera.height, camera.width))
    ended = np.zeros((camera.height, camera.width), bool)
    for i in order:
        x, y, z = camera.rotation @ (splats.means[i] - camera.position)
        if z <= 0.2:
            continue
        w, a, b, c = splats.rotations[i]
        turn = np.array(
            [
                [1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)],
                [2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)],
                [2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)],
            ]
        )
        world = turn @ np.diag(splats.scales[i] ** 2) @ turn.T
        f = camera.focal
        bx, by = 1.3 * camera.width / 2 / f, 1.3 * camera.height / 2 / f
        tx, ty = min(max(x / z, -bx), bx) * z, min(max(y / z, -by), by) * z
        slope = np.array([[f / z, 0, -f * tx / z**2], [0, f / z, -f * ty / z**2]])
        flat = slope @ camera.rotation @ world @ camera.rotation.T @ slope.T + 0.3 * np.eye(2)
        inverse = np.linalg.inv(flat)
        px, py = f * x / z + camera.width / 2, f * y / z + camera.height / 2
        d = splats.means[i] - camera.position
        colour = np.maximum(
            splats.colours[i] + shine(d / np.linalg.norm(d), splats.harmonics[i]), 0
        )
        for row in range(camera.height):
            for column in range(camera.width):
                if ended[row, column]:
                    continue
                v = np.array([column + 0.5 - px, row + 0.5 - py])
                alpha = min(0.99, splats.opacities[i] * math.exp(-0.5 * v @ inverse @ v))
                if alpha < 1 / 255:
                    continue
                if light[row, column] * (1 - alpha) < 1e-4:
                    ended[row, column] = True
                    continue
                picture[row, column] += alpha * light[row, column] * colour
                light[row, column] *= 1 - alpha
    return picture


def shine(d: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The real spherical harmonics of degree 1 to 3 as scipy has them, in 3DGS's signs."""
    from scipy.special import sph_harm_y

    theta, phi = math.acos(d[2]), math.atan2(d[1], d[0])
    out, k = np.zeros(3), 0
    for degree in range(1, 4):
        for order in range(-degree, degree + 1):
            if k == len(held):
                return out
            y = sph_harm_y(degree, abs(order), theta, phi)
            value = math.sqrt(2) * (y.imag if order < 0 else y.real) if order else y.real
            out, k = out + value * held[k], k + 1
    return out


@pytest.mark.parametrize("seed", range(3))
def test_the_renderer_is_the_published_formulas(seed: int) -> None:
    splats = scenes.cloud(60, degree=seed + 1, seed=seed)
    camera = cameras.orbit(cameras.Ball((0, 0, 0), 1.6, (0, -1, 0)), 40 * seed, 20, 24)
    splatter = Splatter(splats, torch.device("cpu"))
    colours = np.maximum(splats.colours + splatter.shine(camera).numpy(), 0)
    found = (splatter.weights(camera) @ colours).reshape(24, 24, 3)
    assert np.abs(found - straight_line(splats, camera)).max() < 1e-4


def test_a_picture_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    splats = scenes.cloud(300)
    camera = cameras.orbit(cameras.Ball((0, 0, 0), 1.6), 10, 0, 50)
    splatter = Splatter(splats, torch.device("cpu"))
    whole = splatter.weights(camera)
    monkeypatch.setattr("cbs_core.scene.splatting.AT_ONCE", 3000)
    cut = splatter.weights(camera)
    assert whole.nnz == cut.nnz
    assert abs(whole - cut).max() < 1e-6


@pytest.mark.parametrize("name", WRITERS)
def test_read_and_written_untouched_is_the_same(name: str, tmp_path) -> None:
    splats = scenes.cloud(700, degree=1 if name in ("a.ply", "v2.spz", "v4.spz") else 0)
    path = WRITERS[name](tmp_path / name, splats)
    file = opened(path)
    assert isinstance(file, SplatFile)
    assert np.abs(file.splats.means - splats.means).max() < 3e-3
    assert np.abs(np.log(file.splats.scales / splats.scales)).max() < 0.04
    assert np.abs(file.splats.opacities - splats.opacities).max() < 3e-3
    assert np.abs(file.splats.colours - splats.colours).max() < max(STEP[name], 4e-3)
    other = tmp_path / f"other{path.suffix}"
    file.write(other, np.zeros(700, bool), splats.colours, True)
    again = opened(other)
    for field in ("means", "scales", "rotations", "opacities", "colours", "harmonics"):
        assert np.array_equal(getattr(again.splats, field), getattr(file.splats, field)), field


@pytest.mark.parametrize("name", WRITERS)
def test_only_what_is_touched_changes(name: str, tmp_path) -> None:
    splats = scenes.cloud(700, degree=1 if name in ("a.ply", "v2.spz", "v4.spz") else 0)
    path = WRITERS[name](tmp_path / name, splats)
    file = opened(path)
    touched = np.arange(700) % 3 == 0
    wanted = np.random.default_rng(1).uniform(0, 1, (700, 3))
    other = tmp_path / f"other{path.suffix}"
    file.write(other, touched, wanted, True)
    old, new = file.splats, opened(other).splats
    # A compressed PLY has its splats in another order, and fillers of no opacity.
    rows = np.arange(700)
    if name == "packed.ply":
        from scipy.spatial import cKDTree

        shown = np.flatnonzero(new.opacities > 0)
        assert len(shown) == 700
        rows = shown[
            cKDTree(np.hstack([new.means, new.scales])[shown]).query(
                np.hstack([old.means, old.scales])
            )[1]
        ]
    for field in ("means", "scales", "rotations", "opacities"):
        assert np.array_equal(getattr(new, field)[rows], getattr(old, field)), field
    for field in ("colours", "harmonics"):
        assert np.array_equal(getattr(new, field)[rows][~touched], getattr(old, field)[~touched])
    assert np.abs(new.colours[rows][touched] - wanted[touched]).max() < STEP[name]
    assert np.abs(new.harmonics[rows][touched]).max(initial=0) < 1e-6


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_cut_off_is_told_in_one_line(name: str, tmp_path) -> None:
    path = WRITERS[name](tmp_path / name, scenes.cloud(300))
    data = path.read_bytes()
    for part in (0, 9, len(data) // 2 + 3, len(data) - 5):
        path.write_bytes(data[:part])
        with pytest.raises(SourceError):
            opened(path)


def bomb(kind: str) -> bytes:
    """Returns a small SPZ that unpacks to, or says that it unpacks to, hundreds of MiB."""
    zeros = bytes(2**28)

    def header(version: int, count: int, streams: int = 0) -> bytes:
        return struct.pack("<4sIIBBBB", b"NGSP", version, count, 0, 12, 0, streams)

    if kind == "gzip, splats":
        return gzip.compress(header(2, len(zeros) // 19) + zeros, 1)
    if kind == "gzip, after its splats":
        return gzip.compress(header(2, 100) + zeros, 1)
    if kind == "gzip, splats that are not there":
        return gzip.compress(header(2, 4_000_000_000), 1)
    import zstandard

    # A stream of its own claims more than the table says of it.
    packed = zstandard.ZstdCompressor(level=1).compress(zeros)
    sizes = [9 * 100, 100, 3 * 100, 3 * 100, 4 * 100]
    table = b"".join(struct.pack("<QQ", len(packed), size) for size in sizes)
    return header(4, 100, 5) + struct.pack("<I", 32) + bytes(12) + table + packed * 5


@pytest.mark.parametrize(
    "kind",
    ["gzip, splats", "gzip, after its splats", "gzip, splats that are not there", "zstd"],
)
def test_a_small_spz_cannot_fill_the_memory(kind: str, tmp_path) -> None:
    path = tmp_path / "a.spz"
    path.write_bytes(bomb(kind))
    assert path.stat().st_size < 2**21
    tracemalloc.start()
    try:
        with pytest.raises(SourceError) as told:
            opened(path)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()
    assert "\n" not in str(told.value)


def test_what_follows_the_splats_of_an_spz_stays(tmp_path) -> None:
    path = scenes.spz(tmp_path / "a.spz", scenes.cloud(50), 2)
    whole = gzip.decompress(path.read_bytes()) + b"an extension of somebody's"
    path.write_bytes(gzip.compress(whole))
    file = opened(path)
    assert isinstance(file, SplatFile)
    file.write(tmp_path / "b.spz", np.zeros(50, bool), file.splats.colours, True)
    assert gzip.decompress((tmp_path / "b.spz").read_bytes()) == whole


def test_splats_that_are_no_numbers_are_told_and_stay(tmp_path) -> None:
    splats = scenes.cloud(50)
    splats.means[7, 1] = np.nan
    file = opened(scenes.splat_ply(tmp_path / "a.ply", splats))
    assert file.left_out == ("1 splats are not made of numbers",)
    assert file.splats.opacities[7] == 0
    file.write(tmp_path / "b.ply", np.zeros(50, bool), splats.colours, True)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


@pytest.mark.shared
def test_the_biker_is_read_as_other_readers_read_it(shared) -> None:
    folder = shared / "data" / "3d"
    if not (folder / "biker.spz").is_file():
        pytest.skip("no data/3d in ../shared")
    one = opened(folder / "biker.compressed.ply").splats
    two = opened(folder / "biker.spz").splats
    assert len(one.means) == len(two.means) == 152746
    # SPZ's axes are right, up and back, PLY's right, down and ahead.
    for splats in (one, two):
        assert np.abs(np.linalg.norm(splats.rotations, axis=1) - 1).max() < 1e-3
    low, high = one.means.min(0), one.means.max(0)
    assert np.abs(two.means.min(0) - [low[0], -high[1], -high[2]]).max() < 1e-3
    assert np.abs(np.sort(one.opacities) - np.sort(two.opacities)).max() < 5e-3
