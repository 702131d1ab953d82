import builtins
import json
from pathlib import Path

import pytest
import torch
from cbs_plugins.segmenters.smp import IMAGENET_MEAN, SMPSegmenter
from safetensors.torch import save_file

from cbs_core import vocabularies
from cbs_core.errors import ConfigError, PluginLoadError, WeightsKeysError, WeightsMissingError
from cbs_core.interfaces import HasMemory, HasWeights, Segmenter

smp = pytest.importorskip("segmentation_models_pytorch")

ARCH = {"arch": "unet", "encoder": "tf_efficientnet_lite0"}


def build(arch="unet", encoder="tu-tf_efficientnet_lite0", classes=21):
    torch.manual_seed(0)
    return smp.create_model(arch, encoder, encoder_weights=None, classes=classes).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("smp") / "net.pth"
    torch.save(build().state_dict(), path)
    return path


@torch.inference_mode()
def test_round_trip_without_metadata(file):
    segmenter = SMPSegmenter(weights=str(file), **ARCH).eval()
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter, HasWeights)
    assert isinstance(segmenter, HasMemory)
    assert segmenter.classes == tuple(vocabularies.get("voc"))
    image = torch.rand(1, 3, 64, 96)
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    want = build()((image - mean) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    torch.testing.assert_close(segmenter(image), want, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_round_trip_with_metadata(tmp_path):
    path = tmp_path / "net.safetensors"
    metadata = {
        "arch": "fpn",
        "encoder": "resnet18",
        "classes": json.dumps(["cat", "dog", "rest"]),
        "mean": json.dumps([0.5, 0.5, 0.5]),
        "std": json.dumps([0.25, 0.25, 0.25]),
    }
    net = build("fpn", "resnet18", 3)
    save_file(net.state_dict(), path, metadata=metadata)
    segmenter = SMPSegmenter(weights=str(path)).eval()
    assert segmenter.classes == ("cat", "dog", "rest")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(segmenter(image), net((image - 0.5) / 0.25), atol=1e-4, rtol=1e-4)
    named = SMPSegmenter(weights=str(path), classes=["a", "b", "c"], mean=[0, 0, 0])
    assert named.classes == ("a", "b", "c")
    assert not named.mean.any()


@pytest.mark.parametrize("size", [(1, 1), (65, 131), (65, 130), (32, 7)])
@torch.inference_mode()
def test_any_size_is_kept(file, size):
    segmenter = SMPSegmenter(weights=str(file), **ARCH).eval()
    logits = segmenter(torch.rand(1, 3, *size))
    assert logits.shape == (1, 21, *size)
    assert logits.isfinite().all()


@torch.inference_mode()
def test_one_output_gets_a_background_that_makes_softmax_its_sigmoid(tmp_path):
    net = build("fpn", "resnet18", 1)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    told = {"arch": "FPN", "encoder": "resnet18", "weights": str(tmp_path / "net.pth")}
    segmenter = SMPSegmenter(classes=["sky"], **told).eval()
    assert segmenter.classes == ("background", "sky")
    image = torch.rand(1, 3, 32, 32)
    probability = segmenter(image).softmax(1)[:, 1:]
    want = net((image - segmenter.mean) / segmenter.std).sigmoid()
    torch.testing.assert_close(probability, want)
    with pytest.raises(ConfigError, match="one class without a name"):
        SMPSegmenter(**told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "unett", "encoder": "resnet18"}, "did you mean 'unet'"),
        ({"arch": "unet", "encoder": "resnet81"}, "did you mean 'resnet18'"),
        ({"arch": "unet", "encoder": "tu-tf_efficientnet_lit0"}, "mean 'tf_efficientnet_lite0'"),
        ({"arch": "unet"}, "segmenter.encoder=NAME"),
        ({}, "segmenter.arch=NAME"),
        ({"arch": "dpt", "encoder": "resnet18"}, "cannot build dpt on resnet18"),
        (ARCH | {"vocabulary": "vok"}, "did you mean 'voc'"),
    ],
)
def test_bad_values_get_one_clear_line(file, arguments, message):
    with pytest.raises(ConfigError, match=message):
        SMPSegmenter(weights=str(file), **arguments)


@pytest.mark.parametrize("arguments", [{"vocabulary": "camvid"}, {"classes": ["a", "b"]}])
def test_wrong_class_count_is_refused(file, arguments):
    with pytest.raises(WeightsKeysError, match=r"wrong class count.*21"):
        SMPSegmenter(weights=str(file), **ARCH, **arguments)


def test_weights_are_required_and_must_be_the_nets(file, tmp_path):
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE"):
        SMPSegmenter(**ARCH)
    with pytest.raises(WeightsKeysError, match="another net than smp's fpn on resnet18"):
        SMPSegmenter("fpn", "resnet18", str(file))
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsKeysError, match=r"no tensors named segmentation_head\.\*"):
        SMPSegmenter(weights=str(tmp_path / "other.pth"), **ARCH)


def test_missing_library_tells_its_extra(file, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "segmentation_models_pytorch":
            raise ImportError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(PluginLoadError, match=r"pip install 'class-based-styling\[smp\]'"):
        SMPSegmenter(weights=str(file), **ARCH)
