"""Grain: the same pattern from every side, and nothing of it where it is not asked for."""

import dataclasses

import numpy as np
import pytest

from cbs_core.contract.errors import ConfigError
from cbs_core.scene import cameras, grain
from cbs_core.scene.meshes import restyle
from cbs_core.scene.rays import Caster
from cbs_core.scene.session import _share, opened
from tests import scenes
from tests.restyling import request


def test_the_pattern_is_one_of_space() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-500, 500, (5000, 3))
    values = grain.pattern(places)
    assert np.array_equal(values, grain.pattern(places.copy()))
    assert np.abs(values).max() <= 1
    assert 0.1 < values.std() < 0.5
    assert abs(values.mean()) < 0.05
    # Smooth: a tenth of a pixel further it is nearly the same.
    assert np.abs(grain.pattern(places + np.array([0.1, 0, 0])) - values).max() < 0.06


def test_two_views_see_the_same_grain(tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    caster = Caster(mesh)
    ball = cameras.Ball((0, 0, 0), 1.8)
    views = [caster.view(cameras.orbit(ball, turn, 20, 200)) for turn in (0, 12)]
    size = grain.pixel(views)
    assert size == pytest.approx(2 * 1.8 * 1.05 / 200, rel=0.3)
    from cbs_core.scene.consistency import matches

    one, two = views
    pixels, other = matches(one.camera, two.camera, one.depth, two.depth)
    assert pixels.sum() > 3000
    shades = [grain.grained(view, size, 0.3) - view.colour for view in views]
    row, column = np.round(other).astype(int)
    difference = shades[0][pixels] - shades[1][row, column]
    assert np.abs(difference).mean() < 0.25 * np.abs(shades[0][pixels]).mean()
    assert grain.grained(one, size, 0) is one.colour


class Same:
    """A styler that gives back what it sees."""

    def __call__(self, image):
        return image


def test_strokes_are_made_of_it_and_a_strength_of_nothing_leaves_nothing_of_it(tmp_path) -> None:
    from cbs_core.choose import registry

    if "same" not in registry.stylers.names():
        registry.stylers.register("same", Same)
    path = scenes.glb(tmp_path / "box.glb")
    file = opened(path)

    def pixels(strength: float, amount: float) -> np.ndarray:
        asked = request(
            routes={"material/red": {"styler": "same", "strength": strength}}, views=6, size=64
        )
        restyle(file, dataclasses.replace(asked, grain=amount)).write(tmp_path / "out.glb")
        return opened(tmp_path / "out.glb").mesh.paints[0].pixels[:, :32].astype(int)

    plain = pixels(1.0, 0.0)
    assert np.abs(pixels(1.0, 0.3) - plain).std() > 3
    assert np.abs(pixels(1e-6, 0.3) - plain).max() <= 1


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "much", None])
def test_an_amount_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"no number in 0\.\.1"):
        _share({"grain": value}, "grain")
    assert _share({"grain": 0}, "grain") == 0.0
