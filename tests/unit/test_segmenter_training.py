"""Training of segmenters on drawn pictures: losses, views, the recipe, exact resume, export."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.segmenters import smp as smp_plugin
from cbs_plugins.segmenters.dabnet import DABNetSegmenter
from cbs_plugins.segmenters.smp import SMPSegmenter
from cbs_plugins.training import teacher as teachers
from cbs_plugins.training.augmentation import (
    PADDING,
    View,
    cutmix,
    jittered,
    random_light,
    random_rectangles,
    random_view,
    seen_places,
)
from cbs_plugins.training.held import Held
from cbs_plugins.training.segmentation import poly
from cbs_plugins.training.segmentation_data import scan
from cbs_plugins.training.segmentation_losses import (
    class_weights,
    cross_entropy,
    distillation_loss,
    not_person_loss,
)
from cbs_plugins.training.start import start_from
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from cbs_core.choose import registry
from cbs_core.choose.weights import load
from cbs_core.contract.errors import ConfigError, WeightsKeysError
from cbs_core.datasets.labelled import IGNORE, find
from cbs_core.training import export
from cbs_core.training.loop import Settings, train

QUICK = {"crop": [32, 32], "batch": 2, "warm_up": 1, "steps": 4}
LEARNING = {"crop": [48, 48], "batch": 4, "scales": [1.0], "learning_rate": 5e-3, "steps": 40}
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_class_weights_are_the_papers_for_camvid():
    weights = [4.429, 3.443, 9.627, 2.908, 6.988, 5.212, 9.490, 9.150, 7.165, 9.889, 7.546]
    frequencies = [float(np.exp(1 / weight) - 1.10) for weight in weights]
    assert class_weights(frequencies) == pytest.approx(weights)


def test_cross_entropy_equals_torchs_and_ignores():
    logits = torch.randn(2, 4, 6, 7, generator=generator())
    labels = torch.randint(4, (2, 6, 7), generator=generator())
    labels[0, :3] = 255
    labels[1, 0] = 254
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    plain = torch.where(labels == 254, 255, labels)
    want = F.cross_entropy(logits, plain, weights, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), want)
    assert cross_entropy(logits, torch.full_like(labels, 255)) == 0


def test_hard_examples_are_mined():
    labels = torch.zeros(1, 10, 10, dtype=torch.long)
    logits = torch.zeros(1, 2, 10, 10)
    logits[:, 0] = 5  # sure and right,
    logits[0, 0, 0, :] = -1  # but for a line
    logits[0, 1, 0, :] = 1
    hard = F.cross_entropy(logits[:, :, :1], labels[:, :1])
    torch.testing.assert_close(cross_entropy(logits, labels, ohem=0.7), hard)
    easy = torch.zeros(1, 2, 10, 10)
    easy[:, 0] = 5
    assert cross_entropy(easy, labels, ohem=0.7) > 0  # the hardest are kept in any case


def test_not_person_is_a_partial_label():
    logits = torch.randn(1, 3, 4, 4, generator=generator())
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    assert not_person_loss(logits, labels, 2) == 0
    labels[0, 1] = 254
    want = -(1 - logits.softmax(1)[0, 2, 1]).log().mean()
    torch.testing.assert_close(not_person_loss(logits, labels, 2), want)


def test_distillation_is_zero_for_equals_only():
    logits = torch.randn(1, 3, 4, 4, generator=generator())
    assert distillation_loss(logits, logits, 2.0).abs() < 1e-6
    assert distillation_loss(logits, -logits) > 0.1
    half = torch.zeros(2, 4, 4, dtype=torch.bool)
    half[:, :2] = True
    other = torch.cat([logits[:, :, :2], -logits[:, :, 2:]], 2)
    assert distillation_loss(logits, other, where=half).abs() < 1e-6
    assert distillation_loss(logits, other, where=~half) > 0.1


def test_what_is_one_class_to_the_teacher_is_compared_as_one():
    student = torch.randn(1, 3, 4, 4, generator=generator())
    teacher = torch.stack([student[:, 1], student[:, [0, 2]].logsumexp(1)], 1)
    assert distillation_loss(student, teacher, channels=[1, 0, 1]).abs() < 1e-6
    assert distillation_loss(student, teacher.flip(1), channels=[1, 0, 1]) > 0.1


def test_views_keep_picture_and_labels_together():
    labels = np.arange(20 * 30).reshape(20, 30) % 200
    picture = np.stack([labels] * 3, -1).astype(np.uint8)
    for seed in range(20):
        drawn = random_view(labels.shape, (16, 40), [1.0], generator(seed))
        view, ids = drawn.of_picture(picture), drawn.of_labels(labels.astype(np.uint8))
        inside = ids != 255
        assert (view[:, inside] == ids[inside]).all()
        assert (torch.tensor(PADDING, dtype=torch.uint8) == view[:, ~inside].T).all()
        assert inside.sum() == 16 * 30


def test_a_view_is_cut_around_the_class_wanted():
    labels = np.zeros((100, 100), np.uint8)
    labels[3, 96] = 7
    for seed in range(20):
        view = random_view(labels.shape, (16, 16), [1.0, 1.7], generator(seed), focus=labels == 7)
        assert (view.of_labels(labels) == 7).any()
        # Places may be known on a coarser grid.
        coarse = labels[:96, :].reshape(12, 8, 100)[:, :, 4:].reshape(12, 8, 12, 8).max((1, 3)) == 7
        view = random_view(labels.shape, (32, 32), [1.0], generator(seed), focus=coarse)
        assert view.top < 8
        assert view.left + 32 > 88


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_views_soft_labels_lie_where_its_labels_do(mirrored):
    # A ramp across and one down, a cell for 8 pixels, so that interpolation is exact inside.
    across = (torch.arange(20.0) + 0.5) * 8
    down = (torch.arange(15.0) + 0.5) * 8
    soft = torch.stack([across.expand(15, 20), down[:, None].expand(15, 20)])
    view = View((64, 96), (240, 320), 24, 40, mirrored)  # of 120x160, enlarged twice
    seen, where = view.of_soft(soft)
    assert where.all()
    columns = (torch.arange(12) + 0.5) * 8
    want = (40 + (96 - columns if mirrored else columns)) / 2
    torch.testing.assert_close(seen[0], want.expand(8, 12))
    torch.testing.assert_close(seen[1][:, 0], (24 + (torch.arange(8) + 0.5) * 8) / 2)
    _, where = View((64, 96), (40, 320), 0, 0, False).of_soft(soft)
    assert where[:5].all()
    assert not where[5:].any()


def test_light_changes_within_bounds_and_nothing_else():
    assert torch.equal(random_light(3, 0.0, generator()), torch.ones(3, 3))
    light = random_light(400, 0.3, generator())
    assert 0.7 <= light.min() < 0.71
    assert 1.29 < light.max() <= 1.3
    image = torch.rand(3, 3, 24, 32, generator=generator())
    torch.testing.assert_close(jittered(image, torch.ones(3, 3)), image)


def test_light_is_that_of_torchvision():
    image = torch.rand(8, 3, 24, 32, generator=generator())
    light = random_light(8, 0.5, generator(1))
    for one, (brightness, contrast, saturation), have in zip(
        image, light.tolist(), jittered(image, light), strict=True
    ):
        want = TF.adjust_contrast(TF.adjust_brightness(one, brightness), contrast)
        want = TF.adjust_saturation(want, saturation)
        torch.testing.assert_close(have, want, atol=2e-3, rtol=0)  # its weights of grey are rounder


def test_a_part_is_scaled_as_the_whole_picture_is():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (50, 70, 3), np.uint8)
    for seed in range(20):
        view = random_view(picture.shape, (32, 40), [0.5, 1.0, 1.7], generator(seed))
        scaled = Image.fromarray(picture).resize(view.size[::-1], Image.Resampling.BILINEAR)
        want = np.asarray(scaled)[view.top :, view.left :][:32, :40].astype(int)
        have = view.of_picture(picture).permute(1, 2, 0).numpy()
        if view.mirrored:
            have = have[:, ::-1]
        assert np.abs(have[: want.shape[0], : want.shape[1]] - want).max() <= 1


def test_cutmix_moves_rectangles_with_all_that_is_known_of_them():
    ids = torch.arange(6, dtype=torch.uint8).view(6, 1, 1)
    views = (
        ids[:, None].expand(6, 3, 48, 64),
        ids.expand(6, 48, 64),
        ids[:, None].half().expand(6, 2, 6, 8),
        ids.expand(6, 6, 8) > 2,
    )
    assert not random_rectangles(6, 0.0, (48, 64), generator()).any()
    rectangles = random_rectangles(6, 1.0, (48, 64), generator(1))
    with torch.autocast("cpu", torch.bfloat16):  # in which a step computes; the logits are float16
        pictures, labels, soft, where = cutmix(views, rectangles)
    assert torch.equal(pictures, labels[:, None].expand_as(pictures))
    assert torch.equal(soft, labels[:, None, ::8, ::8].half().expand_as(soft))
    assert torch.equal(where, labels[:, ::8, ::8] > 2)
    for index, view in enumerate(labels):
        strange = view != index
        rows, columns = (strange.any(axis).nonzero().flatten() for axis in (1, 0))
        assert strange[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0 < strange.float().mean() <= 0.6
        assert torch.equal(view[strange].unique(), ids[index - 1].flatten())
    assert torch.equal(views[1], ids.expand(6, 48, 64))
    some = random_rectangles(6, 0.5, (48, 64), generator(2))
    changed = cutmix(views, some)[1].flatten(1).float().std(1) > 0
    assert torch.equal(changed, some.any(1))
    assert 0 < changed.sum() < 6


def test_cutmix_of_a_crop_that_is_no_multiple_of_a_cell():
    views = [torch.arange(2.0).view(2, 1, 1).expand(2, 45, 51)]
    assert cutmix(views, random_rectangles(2, 1.0, (45, 51), generator()))[0].shape == (2, 45, 51)


def test_held_pictures_are_seen_as_those_that_are_read():
    random = np.random.default_rng(0)
    shapes = [(50, 70), (64, 40), (33, 33)]
    examples = [
        (random.integers(0, 256, (*shape, 3), np.uint8), random.integers(0, 21, shape, np.uint8))
        for shape in shapes
    ]
    crop = (48, 64)
    held = Held(examples, crop, CPU)
    held.soft = torch.randn(3, 2, 9, 9, generator=generator()).half()
    for seed in range(30):
        index = seed % 3
        view = random_view(shapes[index], crop, [1.0, 1.3, 2.0], generator(seed))
        boxes = torch.tensor([view.box])
        picture, labels, soft, where = held(torch.tensor([index]), boxes)
        places = zip(seen_places(boxes, crop), shapes[index], strict=True)
        down, across = ((place[0] * side % 1 - 0.5).abs() < 0.499 for place, side in places)
        sure = down[:, None] & across  # a place between two pixels is either's
        assert sure.float().mean() > 0.7
        assert torch.equal(labels[0][sure], view.of_labels(examples[index][1])[sure])
        theirs = view.of_picture(examples[index][0])
        assert (picture[0].int() - theirs.int()).abs().max() <= 1
        # Of soft labels those inside: at the picture's edge the held ones go on.
        rows, columns = (-(-side // 8) for side in shapes[index])
        seen, inside = view.of_soft(held.soft[index, :, :rows, :columns])
        assert torch.equal(where[0], inside)
        if shapes[index] == (64, 40):  # which whole cells make up
            core = inside.clone()
            core[:, -3:] = core[-3:] = core[:, :3] = False
            torch.testing.assert_close(soft[0][:, core], seen[:, core], atol=0.05, rtol=0.05)


def test_the_rate_rises_then_falls():
    rates = [poly(step, 1000, 100) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 3)
    assert max(rates) == rates[100] == pytest.approx(0.9**0.9)
    assert rates[1000] == 0


@pytest.fixture
def drawn(tmp_path) -> Path:
    """Twelve pictures of squares on a ground, as a folder with images/ and labels/."""
    random = np.random.default_rng(0)
    folder = tmp_path / "set"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("background\nsquare\n")
    for index in range(12):
        labels = np.zeros((48, 48), np.uint8)
        top, left = random.integers(0, 30, 2)
        labels[top : top + 18, left : left + 18] = 1
        picture = np.where(labels[..., None] == 1, (220, 60, 60), (40, 90, 120)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"images/{index:02}.png")
        Image.fromarray(labels).save(folder / f"labels/{index:02}.png")
    return folder


@pytest.fixture
def split(drawn, tmp_path) -> Path:
    """The same pictures as CamVid lays them out: eight to train, four to validate."""
    folder = tmp_path / "camvid"
    for index, picture in enumerate(sorted((drawn / "images").iterdir())):
        name = "train" if index < 8 else "val"
        for source, place in (
            (picture, name),
            (drawn / f"labels/{picture.name}", f"{name}_labels"),
        ):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / picture.name).write_bytes(source.read_bytes())
    return folder


def dabnet(data: Path, /, **params: object):
    return DABNetSegmenter.task(**{"data": str(data), **QUICK, **params})


def run(task, folder: Path, steps: int, **settings: object):
    chosen = Settings(steps=steps, workers=0, preview_every=0, validate_every=0, **settings)
    return train(task, chosen, folder, device=CPU, console=Console(quiet=True))


def test_training_learns_and_the_plugin_loads_what_is_exported(drawn, tmp_path):
    task = dabnet(drawn, **LEARNING)
    outcome = run(task, tmp_path / "run", 40)
    assert outcome.metrics["mean_iou"] > 0.7
    tensors, metadata = task.export()
    export.write(tmp_path / "net.safetensors", tensors, metadata)
    plugin = DABNetSegmenter(str(tmp_path / "net.safetensors")).eval()
    assert plugin.classes == ("background", "square")
    assert plugin.good_size == (48, 48), "the size of the pictures that it learnt from"
    image = torch.rand(1, 3, 40, 56, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(
            plugin(image), task.segmenter.eval()(image), atol=1e-3, rtol=1e-3
        )
        assert task.preview().shape[2] == 3


@pytest.mark.parametrize(
    "way",
    [{}, {"held": True, "teacher_sees": "views", "cutmix": 0.5, "average": 1.0}],
)
def test_a_run_that_goes_on_ends_in_the_same_weights(drawn, tmp_path, way):
    teacher = {"name": "toy_teacher"}
    if "toy_teacher" not in registry.segmenters.names():
        registry.segmenters.register("toy_teacher", Redness)
    mixed = {"unlabelled": str(drawn / "images"), "unlabelled_batch": 1, "by_class": 0.5}

    def task():
        return dabnet(drawn, teacher=teacher, **mixed, **way)

    whole, first, second = task(), task(), task()
    run(whole, tmp_path / "whole", 4)
    run(first, tmp_path / "parts", 2)
    outcome = run(second, tmp_path / "parts", 4)
    assert outcome.step == 4
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name]), name


class Redness(nn.Module):
    """A teacher that knows the squares, in another order, and something more."""

    classes = ("square", "cloud", "background")

    def forward(self, image: Tensor) -> Tensor:
        red = image[:, :1] - image[:, 2:]
        return torch.cat([8 * red, torch.full_like(red, -9), -8 * red], 1)


@pytest.mark.parametrize("sees", ["photographs", "views"])
@pytest.mark.parametrize("held", [False, True])
def test_a_teacher_alone_is_learnt_from(drawn, tmp_path, sees, held):
    if "toy_teacher" not in registry.segmenters.names():
        registry.segmenters.register("toy_teacher", Redness)
    unlabelled = {"unlabelled": str(drawn / "images"), "unlabelled_batch": 4, "batch": 1}
    for path in (drawn / "labels").iterdir():
        if path.stem != "00":  # that one validates
            Image.new("L", (48, 48), 255).save(path)
    how = {"teacher_sees": sees, "held": held, "by_class": 0.3}
    task = dabnet(drawn, teacher={"name": "toy_teacher"}, **LEARNING | unlabelled | how)
    assert run(task, tmp_path / "run", 40).metrics["mean_iou"] > 0.7


def test_the_splits_that_are_trained_on_can_be_chosen(split):
    usual, both = dabnet(split), dabnet(split, splits=["train", "val"])
    assert [len(usual.train.pairs), len(usual.val.pairs)] == [8, 4]
    assert [len(both.train.pairs), len(both.val.pairs)] == [12, 4]
    assert set(both.train.pairs) == {*usual.train.pairs, *usual.val.pairs}


def test_broken_labels_are_named_and_passed_over(drawn, caplog):
    Image.new("L", (48, 48), 9).save(drawn / "labels/03.png")
    Image.new("L", (20, 48), 1).save(drawn / "labels/04.png")
    (drawn / "images/05.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, logger="cbs"):
        usable, _, _ = scan(find(drawn, "train"))
        assert len(usable) == 11
        task = dabnet(drawn, batch=10)
        for step in range(2):
            task.batch(step, generator(step))
    for words in ("03.png' holds the label id 9", "04.png' are 20x48", "05.png' is no picture"):
        assert words in caplog.text


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"crop": [32]}, r"crop=\[32\]"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"unlabelled": "photos"}, "go together"),
        ({"unlabelled": "photos", "unlabelled_batch": 1}, "needs a teacher"),
        ({"croop": [32, 32]}, "did you mean 'crop'"),
        ({"splits": "train"}, "a list of names"),
        ({"splits": []}, "a list of names"),
        ({"jitter": 1.5}, r"jitter=1.5 must be at least 0 and at most 0.999"),
        ({"adjust": 0.2}, "the last layer of DABNet has no bias to adjust"),
        ({"frozen_norm": True}, "frozen_norm needs weights to start from"),
        ({"teacher_sees": "view"}, "one of photographs, views; did you mean 'views'"),
        ({"cutmix": 1.5}, "cutmix=1.5 must be at least 0 and at most 1"),
        ({"by_class": -1}, "by_class=-1 must be at least 0 and at most 1"),
        ({"batch": 0}, "recipe.batch=0 must be at least 1"),
        ({"data": "nowhere"}, "no folder or table"),
    ],
)
def test_what_is_wrong_is_told(drawn, params, message):
    with pytest.raises(ConfigError, match=message):
        dabnet(drawn, **params)


def test_the_last_steps_weights_are_averaged(drawn, tmp_path):
    task = dabnet(drawn, average=0.5)
    weight = task.net.classifier[0].conv.weight
    left: list[Tensor] = []
    task.optimizer.register_step_post_hook(lambda *_: left.append(weight.detach().clone()))
    run(task, tmp_path / "run", 4)
    exported, _ = task.export()
    have = exported["classifier.0.conv.weight"]
    torch.testing.assert_close(have, (left[2] + left[3]) / 2)
    assert not torch.equal(have, left[3])
    assert exported.keys() == task.net.state_dict().keys()


def test_a_short_run_that_averages_nothing_yet_exports_its_net(drawn, tmp_path):
    task = dabnet(drawn, average=0.25)
    run(task, tmp_path / "run", 1)
    exported, _ = task.export()
    for name, tensor in task.net.state_dict().items():
        assert torch.equal(exported[name], tensor), name


def test_frozen_statistics_are_used_in_training_and_stay(drawn, tmp_path):
    first = dabnet(drawn)
    run(first, tmp_path / "first", 2)
    export.write(tmp_path / "net.safetensors", *first.export())
    task = dabnet(drawn, init=str(tmp_path / "net.safetensors"), frozen_norm=True)
    before = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    batch = task.batch(0, generator())
    losses = []
    for learning in (True, False):
        task.net.train(learning)
        losses.append(task.step(*batch)["loss"].detach())
    assert torch.equal(*losses)
    run(task, tmp_path / "run", 2)
    for name, tensor in task.net.state_dict().items():
        learnt = "running" not in name and "num_batches" not in name
        assert torch.equal(tensor, before[name]) != learnt, name


def test_a_teacher_must_know_every_class(drawn, tmp_path):
    torch.save(DABNet(19).state_dict(), tmp_path / "net.pth")
    teacher = {"name": "dabnet", "weights": str(tmp_path / "net.pth"), "vocabulary": None}
    with pytest.raises(ConfigError, match="no class of its own for 'background'"):
        dabnet(drawn, teacher=teacher)


def test_a_teacher_with_a_background_may_know_fewer_classes(drawn, tmp_path):
    torch.save(DABNet(21).state_dict(), tmp_path / "net.pth")
    teacher = {"name": "dabnet", "weights": str(tmp_path / "net.pth"), "vocabulary": None}
    known = teachers.create(teacher, ("sky", "person", "road", "car"))
    assert known.channels == (0, 1, 0, 2)
    assert known.named.tolist() == [IGNORE, 1, 3]
    with pytest.raises(ConfigError, match="no class of its own for 'person'"):
        teachers.create(teacher, ("sky", "person", "people"))
    task = dabnet(drawn, teacher=teacher, unlabelled=str(drawn / "images"), unlabelled_batch=2)
    task.prepare(torch.device("cpu"))
    assert task.step(*task.batch(0, generator()))["distillation"].abs() < 1e-6  # all is background


def test_training_may_start_from_weights(drawn, tmp_path):
    torch.manual_seed(1)
    net = DABNet(2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    task = dabnet(drawn, init=str(tmp_path / "net.pth"))
    assert torch.equal(task.module.init_conv[0].conv.weight, net.init_conv[0].conv.weight)
    torch.save({"unknown": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsKeysError, match="another net than DABNet"):
        dabnet(drawn, init=str(tmp_path / "other.pth"))


def test_training_may_start_from_weights_of_other_classes(drawn, tmp_path, caplog):
    torch.manual_seed(1)
    net = DABNet(5)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    task, untrained = dabnet(drawn, init=str(tmp_path / "net.pth")), dabnet(drawn)
    assert "learnt anew are classifier.0.conv.weight" in caplog.text
    assert torch.equal(task.module.init_conv[0].conv.weight, net.init_conv[0].conv.weight)
    last = [t.module.classifier[0].conv.weight for t in (task, untrained)]
    assert torch.equal(*last)


def test_classes_that_weights_know_are_kept_and_others_begin_as_background(tmp_path):
    torch.manual_seed(1)
    old, new = nn.Conv2d(4, 21, 1), nn.Conv2d(4, 4, 1)
    untrained = new.weight.detach().clone()
    export.write(tmp_path / "net.safetensors", old.state_dict(), {"vocabulary": "voc"})
    start_from(new, load(tmp_path / "net.safetensors"), ("sky", "person", "road", "car"), net="a")
    person, car = (new.weight[index] for index in (1, 3))
    assert torch.equal(person, old.weight[15])
    assert torch.equal(car, old.weight[7])
    assert torch.equal(new.weight[0], untrained[0] + old.weight[0])
    torch.testing.assert_close(new.bias[[0, 2]].exp().sum(), old.bias[0].exp())
    assert torch.equal(new.bias[[1, 3]], old.bias[[15, 7]])


def test_stuff_is_learnt_beside_things_that_stay(drawn, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    options = {"encoder": "tu-resnet10t", "options": {"upsampling": 1}, "trimmed": False}
    first = SMPSegmenter.task(**{"data": str(drawn), **QUICK, **options})
    run(first, tmp_path / "first", 2)
    file = tmp_path / "things.safetensors"
    export.write(file, *first.export())
    things = SMPSegmenter(weights=str(file)).eval()

    (drawn / "classes.txt").write_text("square\nabove\nbelow\n")
    for path in (drawn / "labels").iterdir():
        labels = np.asarray(Image.open(path))
        half = np.where(np.arange(48)[:, None] < 24, 1, 2)
        Image.fromarray(np.where(labels == 1, 0, half).astype(np.uint8)).save(path)
    told = {"data": str(drawn), **QUICK, "things": str(file), "width": 12}
    task = SMPSegmenter.task(**told)
    before = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    run(task, tmp_path / "run", 3)
    moved = {n for n, t in task.net.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert all(name.startswith("stuff.") for name in moved)

    both = tmp_path / "both.safetensors"
    export.write(both, *task.export())
    plugin = SMPSegmenter(weights=str(both)).eval()
    assert plugin.classes == ("square", "above", "below")
    image = torch.rand(1, 3, 64, 64, generator=generator())
    with torch.inference_mode():
        known, found = things(image), plugin(image)
        torch.testing.assert_close(found[:, :1], known[:, 1:])
        torch.testing.assert_close(found[:, 1:].amax(1), known[:, 0])
        learning = plugin.net.train()
        learning.encoder.eval()
        learning.decoder.eval()
        known = learning.known(learning.encoder(image))
        shares = learning(image).softmax(1)[:, 1:].sum(1)
        torch.testing.assert_close(shares, known.softmax(1)[:, 0])
    with pytest.raises(ConfigError, match="must be a background and the first ones"):
        SMPSegmenter.task(**told | {"things": str(both)})
    (drawn / "classes.txt").write_text("square\nabove or below\n")
    for path in (drawn / "labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path)).clip(max=1)).save(path)
    with pytest.raises(ConfigError, match="there is none to learn"):
        SMPSegmenter.task(**told)


def test_the_packages_scenes_are_what_a_training_may_begin_with(drawn):
    pytest.importorskip("segmentation_models_pytorch")
    folder = Path(smp_plugin.__file__).parents[1] / "weights/smp"
    scene, voc = (str(folder / f"{name}.safetensors") for name in ("scene", "voc"))
    (drawn / "classes.txt").unlink()
    told = {"data": str(drawn), **QUICK, "things": voc, "vocabulary": "scene"}
    task = SMPSegmenter.task(**told, init=scene)
    learnt = SMPSegmenter(weights=scene).net.state_dict()
    for name, tensor in task.net.state_dict().items():
        assert torch.equal(tensor, learnt[name]), name


def test_smp_trains_and_its_plugin_loads_it(drawn, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    timm = pytest.importorskip("timm")
    encoder = timm.create_model("resnet10t", features_only=True)
    torch.save(
        {f"a{i}": t for i, t in enumerate(encoder.state_dict().values())}, tmp_path / "e.pth"
    )
    options = {"encoder": "tu-resnet10t", "encoder_weights": str(tmp_path / "e.pth")}
    light = {"mean": [0.1, 0.2, 0.3]}
    task = SMPSegmenter.task(**{"data": str(drawn), **QUICK, **options, **light})
    want = encoder.state_dict()["conv1.0.weight"]
    assert torch.equal(task.module.encoder.state_dict()["model.conv1.0.weight"], want)
    run(task, tmp_path / "run", 2)
    tensors, metadata = task.export()
    assert json.loads(metadata["classes"]) == ["background", "square"]
    export.write(tmp_path / "net.safetensors", tensors, metadata)
    plugin = SMPSegmenter(weights=str(tmp_path / "net.safetensors")).eval()
    assert plugin.classes == ("background", "square")
    adjusted = SMPSegmenter.task(**{"data": str(drawn), **QUICK, **options, **light, "adjust": 0.5})
    adjusted.module.load_state_dict(task.module.state_dict())
    moved = adjusted.export()[0]["segmentation_head.0.bias"] - tensors["segmentation_head.0.bias"]
    found = [
        task.segmenter.eval()(torch.from_numpy(task.train.read(p)[0]).permute(2, 0, 1)[None] / 255)
        .softmax(1)
        .mean((0, 2, 3))
        for p in task.train.pairs
    ]
    want = -0.5 * torch.stack(found).mean(0).log()
    torch.testing.assert_close(moved, want.detach(), atol=1e-4, rtol=1e-4)
    told = {"init": str(tmp_path / "net.safetensors"), "encoder": "tu-resnet10t"}
    again = SMPSegmenter.task(**{"data": str(drawn), **QUICK, **told})
    assert again.trainee.mean == pytest.approx([0.1, 0.2, 0.3])
    own = {"std": [1.0, 1.0, 1.0]}
    again = SMPSegmenter.task(**{"data": str(drawn), **QUICK, **told, **own})
    assert (again.trainee.mean, again.trainee.std) == ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    with pytest.raises(ConfigError, match="multiples of 32"):
        SMPSegmenter.task(**{"data": str(drawn), **QUICK, **options, "crop": [40, 40]})


@pytest.mark.cuda
def test_held_on_a_gpu_the_views_are_the_same():
    random = np.random.default_rng(0)
    examples = [
        (random.integers(0, 256, (*shape, 3), np.uint8), random.integers(0, 21, shape, np.uint8))
        for shape in ((50, 70), (64, 40))
    ]
    index = torch.tensor([1, 0, 1])
    boxes = torch.rand(3, 4, generator=generator()) * torch.tensor([0.5, 0.5, 1.0, 1.0])
    rectangles = random_rectangles(3, 1.0, (48, 64), generator(1))
    seen = []
    for device in (CPU, torch.device("cuda")):
        held = Held(examples, (48, 64), device)
        held.soft = torch.randn(2, 2, 9, 9, generator=generator(2)).half().to(device)
        views = cutmix(held(index.to(device), boxes.to(device)), rectangles.to(device))
        seen.append([view.cpu() for view in views])
    for ours, theirs in zip(*seen, strict=True):
        near = (ours.float() - theirs.float()).abs() <= (1.01 if ours.ndim == 4 else 0)
        assert near.float().mean() > 0.999  # a place between two pixels is either's
