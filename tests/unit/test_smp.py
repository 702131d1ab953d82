import hashlib
import json
from pathlib import Path

import pytest
import torch
from cbs_plugins.nets.backbones import IMAGENET_MEAN
from cbs_plugins.nets.smp import Summed
from cbs_plugins.segmenters import smp as smp_plugin
from cbs_plugins.segmenters.smp import SMPSegmenter
from safetensors.torch import save_file

from cbs_core.contract.errors import (
    ConfigError,
    WeightsError,
    WeightsHashError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import HasMemory, HasWeights, Segmenter
from cbs_core.words import vocabularies

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
    with pytest.raises(ConfigError, match=r"no vocabulary has 1: give segmenter\.classes"):
        SMPSegmenter(**told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "unett", "encoder": "resnet18"}, "did you mean 'unet'"),
        ({"arch": "unet", "encoder": "resnet81"}, "did you mean 'resnet18'"),
        ({"arch": "unet", "encoder": "tu-tf_efficientnet_lit0"}, "mean 'tf_efficientnet_lite0'"),
        ({"arch": "unet"}, "segmenter.encoder=NAME"),
        ({}, "segmenter.arch=NAME"),
        ({"arch": "dpt", "encoder": "resnet18"}, "cannot build smp's dpt on resnet18: Only Timm"),
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


def test_weights_are_required_and_must_be_the_nets(file, tmp_path, monkeypatch):
    monkeypatch.setattr("cbs_core.choose.weights.search_folders", lambda: (tmp_path,))
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE"):
        SMPSegmenter(**ARCH)
    with pytest.raises(WeightsKeysError, match="another net than smp's fpn on resnet18"):
        SMPSegmenter("fpn", "resnet18", str(file))
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsKeysError, match=r"no tensors named segmentation_head\.\*"):
        SMPSegmenter(weights=str(tmp_path / "other.pth"), **ARCH)


@pytest.mark.parametrize(
    ("arch", "encoder", "multiple"),
    [
        *((arch, "resnet18", 32) for arch in ("linknet", "manet", "unet", "unetplusplus")),
        *((arch, "resnet18", 32) for arch in ("fpn", "segformer", "upernet")),
        ("deeplabv3", "resnet18", 8),
        ("deeplabv3plus", "resnet18", 16),
        ("pspnet", "resnet18", 8),
        ("pan", "resnet18", 128),
        ("dpt", "vit_tiny_patch16_224", 32),
        ("unet", "swin_tiny_patch4_window7_224", 32),
        ("unet", "maxvit_rmlp_pico_rw_256", 256),
        ("segformer", "mit_b0", 32),
    ],
)
@torch.inference_mode()
def test_every_architecture_takes_any_size(arch, encoder, multiple, tmp_path):
    own = encoder in smp.encoders.get_encoder_names()
    net = build(arch, encoder if own else f"tu-{encoder}", 11)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    segmenter = SMPSegmenter(arch, encoder, str(tmp_path / "net.pth")).eval()
    assert segmenter.multiple == multiple
    image = torch.rand(1, 3, 33, 70)
    assert segmenter(image).shape == (1, 11, 33, 70)


def test_an_encoder_of_one_size_is_one_clear_line(tmp_path):
    torch.save(build("fpn", "tu-coat_lite_tiny", 11).state_dict(), tmp_path / "net.pth")
    with pytest.raises(ConfigError, match=r"fpn on tu-coat_lite_tiny takes only pictures of its"):
        SMPSegmenter("fpn", "coat_lite_tiny", str(tmp_path / "net.pth"))


def hub(folder: Path, arch="unet", encoder="resnet18", **options) -> torch.nn.Module:
    """Writes a small net as a hub checkpoint."""
    torch.manual_seed(0)
    net = smp.create_model(arch, encoder, encoder_weights=None, **options).eval()
    net.save_pretrained(folder)
    return net


def change(folder: Path, **entries) -> None:
    """Sets entries of the folder's config.json; those that are None are taken out."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@torch.inference_mode()
def test_a_hub_folder_tells_the_whole_architecture(tmp_path):
    channels = [32, 16, 16, 8]
    net = hub(tmp_path, classes=11, decoder_channels=channels, encoder_depth=4)
    segmenter = SMPSegmenter(weights=str(tmp_path)).eval()
    assert segmenter.classes == tuple(vocabularies.get("camvid"))
    assert segmenter.multiple == 16
    image = torch.rand(1, 3, 32, 48)
    want = net((image - segmenter.mean) / segmenter.std)
    torch.testing.assert_close(segmenter(image), want, atol=1e-4, rtol=1e-4)
    files = {file.path.name: file.sha256 for file in segmenter.weights_files}
    assert files == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "config.json")
    }


@torch.inference_mode()
def test_a_hub_folder_with_activation_and_classifier_gives_logits(tmp_path):
    net = hub(tmp_path, classes=2, activation="softmax2d", aux_params={"classes": 5})
    segmenter = SMPSegmenter(weights=str(tmp_path), classes=["a", "b"]).eval()
    image = torch.rand(1, 3, 32, 32)
    probabilities, _ = net((image - segmenter.mean) / segmenter.std)
    torch.testing.assert_close(segmenter(image).softmax(1), probabilities)


@torch.inference_mode()
def test_a_hub_folder_of_a_vision_transformer(tmp_path):
    options = {"decoder_fusion_channels": 16, "decoder_intermediate_channels": (8, 8, 8, 8)}
    hub(tmp_path, "dpt", "tu-vit_tiny_patch16_224", classes=11, **options)
    assert SMPSegmenter(weights=str(tmp_path)).eval()(torch.rand(1, 3, 20, 40)).shape[-1] == 40


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"_model_class": None}, "tells no _model_class"),
        ({"encoder_name": 3}, "tells no encoder_name"),
        ({"in_channels": 4}, "4 channels: only RGB"),
        ({"checkpoint_path": "/etc/passwd"}, "does not take: checkpoint_path"),
        ({"pretrained_cfg_overlay": {}}, "does not take: pretrained_cfg_overlay"),
        ({"_model_class": "os"}, "smp has no architecture 'os'"),
        ({"encoder_name": "hf-hub:some/model"}, "smp has no encoder 'hf-hub:some/model'"),
        ({"decoder_channels": [1, 2]}, "cannot build smp's Unet on resnet18"),
        ({"decoder_channels": [8, 8, 8, 8, 8]}, "another net than smp's Unet on resnet18"),
    ],
)
def test_a_wrong_config_is_one_clear_line(tmp_path, entries, message):
    hub(tmp_path, classes=11)
    change(tmp_path, **entries)
    with pytest.raises((ConfigError, WeightsError), match=message):
        SMPSegmenter(weights=str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"x"', "\udcff", "[" * 100_000])
def test_a_damaged_config_is_one_clear_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(WeightsError, match=r"config\.json") as error:
        SMPSegmenter(weights=str(tmp_path))
    assert "\n" not in str(error.value)


def test_an_incomplete_folder_is_one_clear_line(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"has no config\.json"):
        SMPSegmenter(weights=str(tmp_path))
    hub(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsMissingError, match=r"model\.safetensors"):
        SMPSegmenter(weights=str(tmp_path))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("mean", "0.5"),
        ("mean", "[0.5, 0.5"),
        ("mean", "[0.5, 0.5]"),
        ("std", '["a", "b", "c"]'),
        ("std", "[NaN, 1, 1]"),
        ("classes", "cat, dog"),
        ("classes", "[1, 2]"),
    ],
)
def test_malformed_metadata_is_one_clear_line(tmp_path, key, text):
    path = tmp_path / "net.safetensors"
    metadata = {"arch": "fpn", "encoder": "resnet18", "classes": '["a", "b"]', key: text}
    save_file(build("fpn", "resnet18", 2).state_dict(), path, metadata=metadata)
    with pytest.raises(WeightsError, match=rf"says {key} = .* a JSON list of "):
        SMPSegmenter(weights=str(path))


@pytest.mark.parametrize("given", [{"mean": [1, 2]}, {"std": [1, 0, 1]}, {"std": ["a", 1, 1]}])
def test_wrong_normalisation_is_refused(file, given):
    with pytest.raises(ConfigError, match="must be three numbers"):
        SMPSegmenter(weights=str(file), **ARCH, **given)


@pytest.mark.parametrize("upsampling", [1, 4])
@torch.inference_mode()
def test_an_fpn_that_sums_before_it_enlarges_gives_the_same_logits(tmp_path, upsampling):
    options = {
        "decoder_pyramid_channels": 96,
        "decoder_segmentation_channels": 64,
        "upsampling": upsampling,
    }
    torch.manual_seed(0)
    net = smp.create_model("fpn", "resnet18", encoder_weights=None, classes=3, **options).eval()
    for norm in (m for m in net.decoder.modules() if isinstance(m, torch.nn.GroupNorm)):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    path = tmp_path / "net.safetensors"
    told = {"arch": "fpn", "encoder": "resnet18", "classes": json.dumps(["a", "b", "c"])}
    save_file(net.state_dict(), path, metadata=told | {"options": json.dumps(options)})
    segmenter = SMPSegmenter(weights=str(path)).eval()
    assert isinstance(segmenter.net, Summed)
    image = torch.rand(2, 3, 64, 96)
    want = net.double()((image.double() - segmenter.mean) / segmenter.std)
    assert want.std() > 0.1
    torch.testing.assert_close(segmenter(image).double(), want, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_an_fpn_that_joins_its_levels_is_left_as_it_is(tmp_path):
    options = {"decoder_merge_policy": "cat"}
    net = smp.create_model("fpn", "resnet18", encoder_weights=None, classes=3, **options).eval()
    path = tmp_path / "net.safetensors"
    told = {"arch": "fpn", "encoder": "resnet18", "classes": json.dumps(["a", "b", "c"])}
    save_file(net.state_dict(), path, metadata=told | {"options": json.dumps(options)})
    segmenter = SMPSegmenter(weights=str(path)).eval()
    image = torch.rand(1, 3, 64, 64)
    want = net((image - segmenter.mean) / segmenter.std)
    torch.testing.assert_close(segmenter(image), want, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_stuff_in_a_file_of_its_own_goes_with_the_things_it_was_learnt_beside(tmp_path):
    weights = Path(smp_plugin.__file__).parents[1] / "weights/smp"
    for name in ("scene", "voc"):
        (tmp_path / f"{name}.safetensors").write_bytes(
            (weights / f"{name}.safetensors").read_bytes()
        )
    segmenter = SMPSegmenter(weights=str(tmp_path / "scene.safetensors")).eval()
    assert [file.path.stem for file in segmenter.weights_files] == ["scene", "voc"]
    image = torch.rand(1, 3, 64, 64)
    things = SMPSegmenter(weights=str(tmp_path / "voc.safetensors")).eval()(image)
    torch.testing.assert_close(segmenter(image)[:, :20], things[:, 1:])
    net = build("fpn", classes=21)
    save_file(net.state_dict(), tmp_path / "voc.safetensors", metadata={"vocabulary": "voc"})
    with pytest.raises(WeightsHashError, match="get the file again"):
        SMPSegmenter(weights=str(tmp_path / "scene.safetensors"))
    (tmp_path / "voc.safetensors").unlink()
    with pytest.raises(WeightsMissingError, match=r"no weight file '.*voc\.safetensors'"):
        SMPSegmenter(weights=str(tmp_path / "scene.safetensors"))
