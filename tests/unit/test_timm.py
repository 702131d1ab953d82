import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.segmenters.timm import LinearHeadNet, TimmSegmenter
from safetensors.torch import save_file

from cbs_core.contract.errors import (
    ConfigError,
    WeightsError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import HasMemory, HasWeights, Segmenter
from cbs_core.words import vocabularies

timm = pytest.importorskip("timm")

ARCH = "resnet18"


def probe(arch=ARCH, classes=11, **options) -> LinearHeadNet:
    torch.manual_seed(0)
    backbone = timm.create_model(arch, features_only=True, **options)
    return LinearHeadNet(backbone, classes).eval()


def save(net: torch.nn.Module, path: Path, **metadata: str) -> str:
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path, metadata=metadata)
    return str(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    """ResNet-18 with a head on all its levels."""
    return save(probe(), tmp_path_factory.mktemp("timm") / "net.safetensors", arch=ARCH)


@torch.inference_mode()
def test_is_a_linear_head_on_the_concatenated_levels(file):
    segmenter = TimmSegmenter(weights=file).eval()
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter, HasWeights)
    assert isinstance(segmenter, HasMemory)
    assert segmenter.classes == tuple(vocabularies.get("camvid"))
    image = torch.rand(1, 3, 64, 96)
    net = probe()
    x = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / segmenter.std
    levels = net.backbone(x)
    whole = torch.cat([F.interpolate(f, (32, 48), mode="bilinear") for f in levels], 1)
    torch.testing.assert_close(segmenter(image), net.head(whole), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("level", "size"), [(0, 32), (1, 16), ("2", 8), (-1, 2)])
@torch.inference_mode()
def test_a_level_by_its_number(tmp_path, level, size):
    net = probe(out_indices=(int(level) % 5,))
    file = save(net, tmp_path / "net.safetensors")
    segmenter = TimmSegmenter(ARCH, file, level=level).eval()
    image = torch.rand(1, 3, 64, 64)
    want = net((image - segmenter.mean) / segmenter.std)
    assert want.shape == (1, 11, size, size)
    torch.testing.assert_close(segmenter(image), want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("channels", "stride"), [(512, 32), (256, 16), (64, 4), (1024, 2)])
@torch.inference_mode()
def test_the_heads_channels_tell_the_level(tmp_path, channels, stride):
    tensors = {f"backbone.{k}": v for k, v in timm.create_model(ARCH).state_dict().items()}
    head = {"head.weight": torch.rand(2, channels), "head.bias": torch.rand(2)}
    metadata = {"arch": ARCH, "classes": json.dumps(["a", "b"])}
    save_file(tensors | head, tmp_path / "net.safetensors", metadata=metadata)
    segmenter = TimmSegmenter(weights=str(tmp_path / "net.safetensors")).eval()
    assert segmenter.classes == ("a", "b")
    assert segmenter(torch.rand(1, 3, 64, 64)).shape[-1] == 64 // stride


@pytest.mark.parametrize(
    "arch",
    [
        "convnext_atto",
        "swin_tiny_patch4_window7_224",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_100",
    ],
)
@torch.inference_mode()
def test_a_head_and_a_backbone_in_two_files(tmp_path, arch):
    torch.manual_seed(0)
    full = timm.create_model(arch).eval()
    save(full, tmp_path / "full.safetensors")
    channels = timm.create_model(arch, features_only=True).feature_info.channels()[-1]
    head = {"head.weight": torch.rand(11, channels, 1, 1), "head.bias": torch.rand(11)}
    torch.save(head, tmp_path / "head.pth")
    files = {
        "weights": str(tmp_path / "head.pth"),
        "backbone_weights": str(tmp_path / "full.safetensors"),
    }
    segmenter = TimmSegmenter(arch, **files).eval()
    assert [f.path.name for f in segmenter.weights_files] == ["head.pth", "full.safetensors"]
    assert segmenter.mean.flatten().tolist() == pytest.approx(timm.get_pretrained_cfg(arch).mean)
    ours, names = segmenter.net.backbone.state_dict(), full.state_dict()
    first = next(iter(ours))
    assert torch.equal(ours[first], names[first.removeprefix("model.").replace("_0.", ".0.")])
    assert segmenter(torch.rand(1, 3, 33, 70)).shape == (1, 11, 33, 70)
    with pytest.raises(WeightsMissingError, match=r"no backbone: give segmenter\.backbone_weights"):
        TimmSegmenter(arch, files["weights"])


@pytest.mark.parametrize("size", [(1, 1), (65, 131), (32, 7)])
@torch.inference_mode()
def test_any_size_is_kept_where_it_was_padded(file, size):
    logits = TimmSegmenter(weights=file).eval()(torch.rand(1, 3, *size))
    assert logits.shape == (1, 11, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "resnet81"}, "timm has no model 'resnet81'; did you mean 'resnet18'"),
        ({"arch": "hf-hub:some/model"}, "timm has no model 'hf-hub"),
        ({"arch": "mixer_s32_224"}, "pictures of its own size|gives no features"),
        ({"level": 5}, r"level=5 is no level of timm's resnet18: give 0\.\.4"),
        ({"level": "last"}, "level=last is no level"),
        ({"vocabulary": "vok"}, "did you mean 'voc'"),
        ({"mean": [0.5]}, "must be three numbers"),
    ],
)
def test_bad_values_get_one_clear_line(file, arguments, message):
    with pytest.raises(ConfigError, match=message):
        TimmSegmenter(weights=file, **arguments)


def test_the_backbone_must_be_told(tmp_path):
    with pytest.raises(ConfigError, match=r"give segmenter\.arch=NAME"):
        TimmSegmenter(weights=save(probe(), tmp_path / "net.safetensors"))


def test_weights_are_required_and_must_be_the_nets(file, tmp_path):
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE"):
        TimmSegmenter(ARCH)
    with pytest.raises(WeightsKeysError, match="another net than timm's resnet34"):
        TimmSegmenter("resnet34", file)
    with pytest.raises(WeightsKeysError, match=r"head\.weight \(11, 1024, 1, 1\) for"):
        TimmSegmenter(weights=file, level=0)
    with pytest.raises(WeightsKeysError, match="wrong class count"):
        TimmSegmenter(weights=file, vocabulary="voc")
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.rand(2, 2)}, path)
    with pytest.raises(WeightsKeysError, match="holds no linear head"):
        TimmSegmenter(ARCH, str(path))
    torch.save({"head.weight": torch.rand(2, 2, 3, 3), "head.bias": torch.rand(2)}, path)
    with pytest.raises(WeightsKeysError, match=r"shape \(2, 2, 3, 3\), where"):
        TimmSegmenter(ARCH, str(path))


def test_malformed_metadata_is_one_clear_line(tmp_path):
    file = save(probe(), tmp_path / "net.safetensors", arch=ARCH, mean="half")
    with pytest.raises(WeightsError, match="says mean = half"):
        TimmSegmenter(weights=file)
