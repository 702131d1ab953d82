import json
from pathlib import Path

import numpy as np
import pytest
import straight_line
import torch
import torch.nn.functional as F
from cbs_plugins.nets.dabnet import DABNet, depthwise
from cbs_plugins.segmenters.dabnet import DABNetSegmenter
from PIL import Image
from safetensors.torch import save_file

from cbs_core.choose.knowing import find_weights
from cbs_core.choose.weights import origin
from cbs_core.cli.export import describe
from cbs_core.contract.errors import (
    ConfigError,
    WeightsError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import HasMemory, HasWeights, Segmenter
from cbs_core.words import vocabularies


def randomised(classes: int, seed: int = 0) -> DABNet:
    """A net in which no part is the identity, batch statistics and slopes included."""
    generator = torch.Generator().manual_seed(seed)
    net = DABNet(classes).eval()
    for name, tensor in net.state_dict().items():
        if "running_var" in name or (".bn." in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif "running_mean" in name or name.endswith((".bias", "acti.weight")):
            tensor.uniform_(-0.5, 0.5, generator=generator)
    return net


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    torch.save({"epoch": 1, "model": randomised(19).state_dict()}, path)
    return path


@pytest.mark.parametrize(("classes", "count"), [(19, 756_643), (11, 754_571)])
def test_parameter_counts_are_the_papers(classes, count):
    assert sum(p.numel() for p in DABNet(classes).parameters()) == count


@pytest.mark.parametrize("size", [(64, 128), (65, 131), (65, 130), (33, 7), (1, 1), (90, 121)])
@torch.inference_mode()
def test_equals_the_straight_line_net_at_any_size(file, size):
    segmenter = DABNetSegmenter(str(file)).eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    logits = segmenter(image)
    assert logits.shape == (2, 19, -(-size[0] // 8), -(-size[1] // 8))
    want = straight_line.dabnet(segmenter.net.state_dict(), image)
    torch.testing.assert_close(logits, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "dilation"), [((3, 1), (4, 1)), ((1, 3), (1, 2)), ((3, 3), (1, 2))]
)
def test_shifted_sums_are_the_depthwise_convolution_with_its_gradients(kernel, dilation):
    x = torch.randn(2, 5, 9, 11, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 1, *kernel, dtype=torch.float64, requires_grad=True)
    padding = [(size // 2) * step for size, step in zip(kernel, dilation, strict=True)]
    want = F.conv2d(x, weight, None, 1, padding, dilation, groups=5)
    out = depthwise(x, weight, dilation)
    torch.testing.assert_close(out, want)
    grads = [torch.autograd.grad(y.square().sum(), (x, weight)) for y in (out, want)]
    torch.testing.assert_close(*grads)


@pytest.mark.shared
@torch.inference_mode()
def test_official_weights_equal_the_straight_line_net_on_a_highway_frame(shared):
    segmenter = DABNetSegmenter(str(shared / "weights/dabnet/dabnet_cityscapes.pth")).eval()
    picture = Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB")
    for width, height in ((960, 540), (331, 187)):
        pixels = np.array(picture.resize((width, height)))
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        logits = segmenter(image)
        want = straight_line.dabnet(segmenter.net.state_dict(), image)
        assert (logits - want).abs().max() < 1e-4
    found = {segmenter.classes[i] for i in logits.argmax(1).unique()}
    assert {"road", "car", "sky", "vegetation"} <= found
    assert segmenter.classes == tuple(vocabularies.get("cityscapes"))


def test_fills_its_interfaces(file):
    segmenter = DABNetSegmenter(str(file))
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter, HasWeights)
    assert isinstance(segmenter, HasMemory)
    assert segmenter.weights_files[0].path == file
    assert "mean" not in segmenter.state_dict()


@pytest.mark.parametrize(
    ("name", "mean"),
    [("camvid", 99.625), ("cityscapes", 73.158325), ("voc", 123.675), ("ade20k", 123.675)],
)
def test_class_count_tells_vocabulary_and_mean(tmp_path, name, mean):
    words = vocabularies.get(name)
    torch.save(DABNet(len(words)).state_dict(), tmp_path / "net.pth")
    segmenter = DABNetSegmenter(str(tmp_path / "net.pth"))
    assert segmenter.classes == tuple(words)
    assert segmenter.mean.flatten()[0].item() == pytest.approx(mean)


def test_metadata_goes_before_the_class_count(tmp_path):
    path = tmp_path / "net.safetensors"
    metadata = {"vocabulary": "cityscapes", "mean": json.dumps([1, 2, 3])}
    save_file(DABNet(19).state_dict(), path, metadata=metadata)
    segmenter = DABNetSegmenter(str(path))
    assert segmenter.classes == tuple(vocabularies.get("cityscapes"))
    assert segmenter.mean.flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("arguments", [{"vocabulary": "voc"}, {"vocabulary": "camvid"}])
def test_wrong_class_count_is_refused(file, arguments):
    with pytest.raises(WeightsKeysError, match=r"wrong class count.*19"):
        DABNetSegmenter(str(file), **arguments)


def test_class_count_of_no_vocabulary_is_refused(tmp_path):
    torch.save(DABNet(7).state_dict(), tmp_path / "net.pth")
    with pytest.raises(WeightsKeysError, match="7 classes, which no vocabulary has"):
        DABNetSegmenter(str(tmp_path / "net.pth"))


@pytest.mark.parametrize("weights", [True, False])
def test_unknown_vocabulary_gets_the_closest(file, weights):
    with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
        DABNetSegmenter(str(file) if weights else None, vocabulary="cityscape")


def test_truncated_weights_are_refused(file):
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        DABNetSegmenter(str(file))


def test_another_nets_weights_are_refused(tmp_path):
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "net.pth")
    with pytest.raises(WeightsKeysError, match="another net than DABNet"):
        DABNetSegmenter(str(tmp_path / "net.pth"))


def test_missing_weights_are_never_random(tmp_path, monkeypatch):
    monkeypatch.setattr("cbs_core.choose.weights.search_folders", lambda: (tmp_path,))
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE"):
        DABNetSegmenter()
    with pytest.raises(WeightsMissingError, match="no weight file"):
        DABNetSegmenter(str(tmp_path / "absent.pth"))


def test_named_weights_are_found_in_the_order_voc_cityscapes_camvid(tmp_path, monkeypatch):
    monkeypatch.setattr("cbs_core.choose.weights.search_folders", lambda: (tmp_path,))
    (tmp_path / "dabnet").mkdir()
    torch.save(DABNet(11).state_dict(), tmp_path / "dabnet/camvid.pth")
    assert len(DABNetSegmenter().classes) == 11
    torch.save(DABNet(19).state_dict(), tmp_path / "dabnet/dabnet_cityscapes.pth")
    assert len(DABNetSegmenter().classes) == 19
    torch.save(DABNet(21).state_dict(), tmp_path / "dabnet/voc.pth")
    assert len(DABNetSegmenter().classes) == 21
    assert len(DABNetSegmenter(vocabulary="camvid").classes) == 11


def test_a_folder_named_first_goes_first_however_its_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path / "mine"))
    for path in ("mine/dabnet/dabnet_cityscapes.pth", "weights/dabnet/cityscapes.pth"):
        (tmp_path / path).parent.mkdir(parents=True)
        torch.save(randomised(19).state_dict(), tmp_path / path)
    (file,) = DABNetSegmenter(vocabulary="cityscapes").weights_files
    assert file.path == tmp_path / "mine/dabnet/dabnet_cityscapes.pth"


@pytest.mark.parametrize(
    ("classes", "said", "size"),
    [
        (19, {}, (512, 1024)),
        (11, {}, (360, 480)),
        (21, {}, (384, 512)),
        (21, {"good_size": "[200, 300]"}, (200, 300)),
        (2, {"classes": '["a", "b"]'}, None),
    ],
)
def test_it_says_what_pictures_it_is_good_at(tmp_path, classes, said, size):
    save_file(randomised(classes).state_dict(), tmp_path / "net.safetensors", metadata=said)
    net = DABNetSegmenter(str(tmp_path / "net.safetensors"))
    assert net.good_size == size
    assert describe(net.classes, net.good_size).get("good_size") == (size and list(size))


def test_a_size_in_the_metadata_that_is_none_is_told(tmp_path):
    save_file(
        randomised(19).state_dict(), tmp_path / "net.safetensors", metadata={"good_size": "[0, 3]"}
    )
    with pytest.raises(WeightsError, match="good_size"):
        DABNetSegmenter(str(tmp_path / "net.safetensors"))


def test_a_trainings_output_stands_in_for_nothing_of_a_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CBS_WEIGHTS", raising=False)
    for name in ("dabnet/camvid", "dabnet/voc", "dabnet/cityscapes", "smp/camvid", "smp/voc"):
        (tmp_path / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / f"{name}.safetensors").touch()
    for room, vocabulary in (("dabnet", "camvid"), ("dabnet", None), ("smp", None)):
        assert origin(find_weights(room, vocabulary)) == "package cbs_plugins"
    own = find_weights("dabnet", "cityscapes")
    assert own == Path("weights/dabnet/cityscapes.safetensors"), "a name that no package has"
    monkeypatch.setenv("CBS_WEIGHTS", "weights")
    assert find_weights("dabnet", None) == Path("weights/dabnet/voc.safetensors")


@pytest.mark.cuda
@pytest.mark.slow
@torch.inference_mode()
def test_compiled_on_cuda_it_is_the_net():
    torch.manual_seed(0)
    net = DABNet(19).eval()
    image = torch.rand(1, 3, 128, 256) * 255 - 100
    want = net.double()(image.double())
    compiled = torch.compile(net.float().cuda())
    torch.testing.assert_close(compiled(image.cuda()).cpu().double(), want, atol=2e-2, rtol=2e-2)
