from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.nets.espnetv2 import ESPNetv2
from cbs_plugins.segmenters.espnetv2 import ESPNetv2Segmenter
from cbs_plugins.sources.sample import sample_file
from PIL import Image

from cbs_core.contract.errors import WeightsKeysError, WeightsMissingError
from cbs_core.contract.interfaces import HasMemory, HasWeights, Segmenter
from cbs_core.words import vocabularies

SMALL = (16, 32, 64, 128)
"""Channels of the paper's width 0.5, which is quick to run."""


def saved(folder: Path, outputs: int) -> str:
    torch.manual_seed(0)
    torch.save(ESPNetv2(outputs, SMALL, planes=4).state_dict(), folder / "net.pth")
    return str(folder / "net.pth")


def picture(name: str) -> torch.Tensor:
    pixels = np.array(Image.open(sample_file(name)).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def test_parameter_count_is_the_released_nets():
    assert sum(p.numel() for p in ESPNetv2(21).parameters()) == 789_253


@pytest.mark.parametrize("size", [(1, 1), (33, 7), (64, 96), (79, 130)])
@torch.inference_mode()
def test_takes_any_size(tmp_path, size):
    segmenter = ESPNetv2Segmenter(saved(tmp_path, 21)).eval()
    logits = segmenter(torch.rand(2, 3, *size))
    want = [max(1, round(side / 32)) * 32 for side in size]
    assert logits.shape == (2, 21, *want)
    assert logits.isfinite().all()


def test_fills_its_interfaces(tmp_path):
    segmenter = ESPNetv2Segmenter(saved(tmp_path, 21))
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter, HasWeights)
    assert isinstance(segmenter, HasMemory)
    assert segmenter.classes == tuple(vocabularies.get("voc"))


@pytest.mark.parametrize("vocabulary", [None, "cityscapes"])
def test_the_unlabelled_output_is_dropped(tmp_path, vocabulary):
    segmenter = ESPNetv2Segmenter(saved(tmp_path, 20), vocabulary).eval()
    assert segmenter.classes == tuple(vocabularies.get("cityscapes"))
    assert segmenter(torch.rand(1, 3, 32, 32)).shape[1] == 19


def test_wrong_weights_are_refused(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE"):
        ESPNetv2Segmenter()
    with pytest.raises(WeightsKeysError, match="wrong class count"):
        ESPNetv2Segmenter(saved(tmp_path, 21), "camvid")
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsKeysError, match="another net than ESPNetv2"):
        ESPNetv2Segmenter(str(tmp_path / "other.pth"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("sample", "name", "window"),
    [
        ("astronaut", "person", (slice(60, 200), slice(170, 280))),
        ("cat", "cat", (slice(60, 250), slice(100, 300))),
        ("motorcycle", "motorbike", (slice(150, 400), slice(150, 550))),
    ],
)
@torch.inference_mode()
def test_released_voc_weights_find_the_object_of_each_sample(shared, sample, name, window):
    file = shared / "weights/espnetv2/espnetv2_s_2.0_pascal_384x384.pth"
    segmenter = ESPNetv2Segmenter(str(file)).eval()
    image = picture(sample)
    labels = F.interpolate(segmenter(image), image.shape[-2:], mode="bilinear").argmax(1)[0]
    found = labels == segmenter.classes.index(name)
    assert found[window].float().mean() > 0.6
    assert 0.15 < found.float().mean() < 0.85


@pytest.mark.shared
@torch.inference_mode()
def test_released_cityscapes_weights_find_the_street(shared):
    file = shared / "weights/espnetv2/espnetv2_s_2.0_city_1024x512.pth"
    segmenter = ESPNetv2Segmenter(str(file)).eval()
    pixels = np.array(Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB"))
    logits = segmenter(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    found = {segmenter.classes[i] for i in logits.argmax(1).unique()}
    assert {"road", "car", "sky", "vegetation"} <= found
