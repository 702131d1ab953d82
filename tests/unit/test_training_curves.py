"""Curves as pictures, and the judgement of losses."""

import json

import numpy as np
import pytest
from PIL import Image

from cbs_core.training import curves
from cbs_core.training.history import DivergenceError, History


def history(count: int) -> History:
    told = History()
    for step in range(1, count + 1):
        told.add("training", step, {"loss": 1e6 / step, "rate": -0.5 + step})
    return told


@pytest.mark.parametrize("count", [0, 1, 2, 40, 500])
def test_any_number_of_steps_is_drawn(tmp_path, count):
    curves.write(history(count), tmp_path)
    picture = np.asarray(Image.open(tmp_path / "curves.png"))
    assert picture.shape == (curves.HEIGHT, 2 * curves.WIDTH, 3)
    assert (picture < 200).any() == (count > 0)
    assert json.loads((tmp_path / "curves.json").read_text()) == history(count).state()


def test_a_falling_loss_falls_in_the_picture():
    blue = np.all(np.asarray(curves.draw(history(40))) == curves.BOLD, axis=-1)[:, : curves.WIDTH]
    columns = np.flatnonzero(blue.any(0))
    down = [np.flatnonzero(blue[:, column]).mean() for column in columns]
    assert np.all(np.diff(down) >= 0)
    assert down[-1] - down[0] > curves.HEIGHT / 2


def test_values_that_are_no_numbers_are_left_out():
    told = history(3)
    told.add("training", 4, {"loss": float("nan"), "rate": float("inf")})
    curves.draw(told)


def test_divergence_needs_a_settled_median():
    History().check(1, 1e30, factor=10)
    told = history(30)
    told.check(31, 3e5, factor=10)
    with pytest.raises(DivergenceError, match="step 31"):
        told.check(31, 1e8, factor=10)
    told.check(31, 1e8, factor=None)
    with pytest.raises(DivergenceError, match="is nan"):
        told.check(31, float("nan"), factor=None)
