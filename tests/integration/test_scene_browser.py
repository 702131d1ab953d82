"""The page beside a restyled scene, in Chromium: before and after, and the slider between them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cbs_core.scene import bake, cameras, clouds, meshes, viewer
from cbs_core.scene.rays import Caster
from cbs_core.scene.restyled import PAPER
from cbs_core.scene.session import opened
from cbs_core.scene.splatting import Splatter
from cbs_core.scene.types import Painted
from tests import browser, live, scenes

SIDE = 160

pytestmark = browser.needed


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    drawing = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    with browser.chromium(folder, *drawing) as found:
        found.set_script_timeout(120)
        metrics = {"width": SIDE, "height": SIDE, "deviceScaleFactor": 1, "mobile": False}
        found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield found


def shown(driver, cut: float) -> np.ndarray:
    """Moves the slider; returns the picture as it is now, which may not be drawn anew yet."""
    data = driver.execute_script(
        "const cut = document.getElementById('cut');"
        "if (Number(cut.value) !== arguments[0]) {"
        "  cut.value = arguments[0]; cut.dispatchEvent(new Event('input')) }"
        "return document.querySelector('canvas')?.toDataURL() ?? ''",
        cut,
    )
    if not data:
        return np.zeros((SIDE, SIDE, 3))
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as picture:
        return np.array(picture.convert("RGB")) / 255


def shows(driver, cut: float, left: np.ndarray, right: np.ndarray, most: float) -> None:
    """Waits until the page shows one picture left of the line, and the other right of it."""
    wanted = np.where((np.arange(SIDE) < round(SIDE * cut))[None, :, None], left, right)

    def near() -> bool:
        apart = shown(driver, cut) - wanted
        return bool(np.sqrt((apart**2).mean()) < most)

    live.until(near, 120)


def seen_from(ball: cameras.Ball) -> cameras.Camera:
    """The camera that the page begins with."""
    up = np.array(ball.up)
    ahead = np.cross([1.0, 0, 0], up)
    place = np.array(ball.centre) + ball.radius * (3.4 * ahead + 0.6 * up)
    z = np.array(ball.centre) - place
    z /= np.linalg.norm(z)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    focal = SIDE / 2 / np.tan(np.radians(20))
    return cameras.Camera(np.stack([x, np.cross(z, x), z]), place, focal, SIDE, SIDE)


def opens(driver, page: bytes, path) -> None:
    path.write_bytes(page)
    driver.get_log("browser")
    driver.get(path.as_uri())


def test_splats_look_as_our_renderer_draws_them(driver, tmp_path) -> None:
    """Those lighter than white too, which share a pixel with dark ones."""
    before = scenes.cloud(400)
    before.colours[::3] = [1.8, 1.4, 0.2]
    before.opacities[::3] *= 0.5
    after = np.random.default_rng(1).choice([0.0, 1.0], (400, 3))
    splatter = Splatter(before, torch.device("cpu"))
    ball = cameras.around(before.means, before.up)
    camera = seen_from(ball)
    weights = splatter.weights(camera)

    def drawn(colours: np.ndarray) -> np.ndarray:
        light = weights @ colours + (1 - np.asarray(weights.sum(1))) * PAPER
        return np.clip(light, 0, 1).reshape(SIDE, SIDE, 3)

    opens(
        driver,
        viewer.page(clouds.payload(before, after, splatter, ball), title="splats"),
        tmp_path / "splats.html",
    )
    pictures = drawn(np.maximum(before.colours, 0)), drawn(after)
    assert np.sqrt(((pictures[0] - pictures[1]) ** 2).mean()) > 0.1
    for cut in (0.5, 1.0, 0.0, 0.25):
        shows(driver, cut, *pictures, 0.004)
    assert not driver.get_log("browser")


def test_a_mesh_looks_as_it_is_painted(driver, tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    paints = {i: 255 - paint.pixels for i, paint in enumerate(mesh.paints)}
    after = bake.with_paints(mesh, Painted(paints))
    ball = cameras.around(mesh.vertices, (0.0, 1.0, 0.0))
    camera = seen_from(ball)
    views = [Caster(one).view(camera) for one in (mesh, after)]
    pictures = [np.where(view.hit[..., None], view.colour, PAPER) for view in views]
    opens(driver, viewer.page(meshes.payload(mesh, after, ball), title="mesh"), tmp_path / "m.html")
    for cut in (0.5, 1.0, 0.0, 0.25):
        shows(driver, cut, *pictures, 0.03)
    assert not driver.get_log("browser")
