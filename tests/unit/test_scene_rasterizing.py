"""Splats by gsplat: what it is asked for, by a stand-in that draws as it does; and itself."""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch

from cbs_core.contract.errors import PluginContractError, PluginLoadError
from cbs_core.scene import cameras, clouds, rasterizing
from cbs_core.scene.session import opened
from cbs_core.scene.splatting import Splatter, restricted
from tests import scenes
from tests.restyling import request

CPU = torch.device("cpu")
CAMERA = cameras.orbit(cameras.Ball((0, 0, 0), 1.6, (0, -1, 0)), 40, 20, 24)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height,
    *, near_plane, eps2d, covars,
):  # fmt: skip
    """Draws as gsplat 1.5 says of itself, every splat on every pixel."""
    assert quats is None
    assert scales is None
    view, lens = viewmats[0], Ks[0]
    local = means @ view[:3, :3].T + view[:3, 3]
    x, y, z = local.unbind(1)
    focal, zero = lens[0, 0], torch.zeros_like(z)
    slope = torch.stack(
        [focal / z, zero, -focal * x / z**2, zero, lens[1, 1] / z, -lens[1, 1] * y / z**2], 1
    ).view(-1, 2, 3)
    carry = slope @ view[:3, :3]
    conic = torch.linalg.inv(carry @ covars @ carry.mT + eps2d * torch.eye(2))
    middle = (local @ lens.T)[:, :2] / z[:, None]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    away = pixels[:, None] - middle
    alpha = opacities * torch.exp(-0.5 * torch.einsum("pni,nij,pnj->pn", away, conic, away))
    alpha = alpha.clamp_max(0.999)
    alpha = torch.where((alpha < 1 / 255) | (z <= near_plane), 0, alpha)
    order = z.argsort()
    alpha, colors = alpha[:, order], colors[order]
    light = torch.cumprod(1 - alpha, 1)
    ahead = torch.cat([torch.ones_like(light[:, :1]), light[:, :-1]], 1)
    weight = torch.where(light > 1e-4, alpha * ahead, 0)
    picture = (weight @ colors).view(1, height, width, -1)
    return picture, weight.sum(1).view(1, height, width, 1), {}


@pytest.fixture
def gsplat(monkeypatch):
    module = ModuleType("gsplat")
    module.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", module)
    return module


def test_it_is_the_same_linear_map_and_the_same_transpose(gsplat) -> None:
    splats = scenes.cloud(60)
    ours = Splatter(splats, CPU).weights(CAMERA)
    found = rasterizing.Rasterizer(splats, CPU).weights(CAMERA)
    assert found.shape == ours.shape
    rng = np.random.default_rng(0)
    colours, picture = rng.random((60, 5)), rng.random((24 * 24, 5))
    assert np.abs(found @ colours - ours @ colours).max() < 1e-4
    assert np.abs(found.T @ picture - ours.T @ picture).max() < 1e-3
    own = np.flatnonzero(np.arange(60) % 3 == 0)
    part, whole = restricted(found, own), restricted(ours, own)
    assert np.abs(part @ colours[own] - whole @ colours[own]).max() < 1e-4
    assert np.abs(part.T @ picture - whole.T @ picture).max() < 1e-3


def test_a_scene_is_restyled_by_either_the_same(gsplat, tmp_path, monkeypatch) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(120, degree=1)))
    # From outside: within the scene the published renderer bounds the projection's slope.
    asked = request(views=4, size=32, select="13,16")
    ours = clouds.restyle(file, asked)
    monkeypatch.setattr(clouds, "splatter_of", rasterizing.Rasterizer)
    theirs = clouds.restyle(file, asked)
    assert (ours.facts["renderer"], theirs.facts["renderer"]) == ("torch", "gsplat")
    assert ours.facts["classes"] == theirs.facts["classes"]
    for one, two in ((ours.after, theirs.after), (ours.depth, theirs.depth)):
        a, b = one(CAMERA), two(CAMERA)
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        assert np.abs(np.nan_to_num(a, posinf=0) - np.nan_to_num(b, posinf=0)).max() < 5e-3


def test_a_gsplat_that_draws_something_else_is_refused(gsplat) -> None:
    def shifted(*args, **kwargs):
        picture, *more = rasterization(*args, **kwargs)
        return picture.roll(3, 2), *more

    def broken(*args, **kwargs):
        raise AttributeError("'NoneType' object has no attribute 'projection'")

    splatter = rasterizing.Rasterizer(scenes.cloud(60), CPU)
    gsplat.rasterization = shifted
    with pytest.raises(PluginContractError, match="device=cpu"):
        splatter.weights(CAMERA)
    gsplat.rasterization = broken
    with pytest.raises(PluginLoadError, match=r"gsplat \(device=cpu draws without it\) failed"):
        splatter.weights(CAMERA)


def test_on_a_cpu_it_is_ours(gsplat, monkeypatch) -> None:
    monkeypatch.setattr(rasterizing, "find_spec", lambda name: object())
    assert type(rasterizing.splatter(scenes.cloud(5), CPU)) is Splatter


@pytest.mark.skipif(find_spec("gsplat") is None, reason="gsplat is not installed: [scene-gpu]")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seed", range(3))
def test_gsplat_itself_draws_as_we_do(seed: int) -> None:
    splats = scenes.cloud(500, seed=seed)
    ours = Splatter(splats, CPU).weights(CAMERA)
    theirs = rasterizing.splatter(splats, torch.device("cuda")).weights(CAMERA)
    rng = np.random.default_rng(seed)
    colours, picture = rng.random((500, 3)), rng.random((24 * 24, 3))
    assert np.abs(theirs @ colours - ours @ colours).max() < 1e-4
    assert np.abs(theirs.T @ picture - ours.T @ picture).max() < 1e-3
