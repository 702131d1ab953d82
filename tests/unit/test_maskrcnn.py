"""Mask R-CNN: torchvision's net, its weights under every name, and a small one that was trained."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cbs_core.contract.errors import (
    ConfigError,
    WeightsHashError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import HasMemory, HasWeights, InstanceSegmenter
from cbs_core.words.vocabularies import VOCABULARIES
from tests.shapes import NAMES, scene

detection = pytest.importorskip("torchvision.models.detection")

from cbs_plugins.segmenters import maskrcnn  # noqa: E402
from cbs_plugins.segmenters.maskrcnn import DetectionSegmenter, MaskRCNNSegmenter  # noqa: E402

SMALL = {"backbone": "resnet18", "max_size": 64}


def random_net(count=21):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = maskrcnn.create(
            "v1", "resnet18", num_classes=count, min_size=64, max_size=64, box_score_thresh=0.05
        )
    return net.eval()


@pytest.fixture(scope="module")
def net():
    return random_net()


@pytest.fixture(scope="module")
def file(net, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("maskrcnn") / "net.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """No weights anywhere, and no internet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    def offline(url, *args):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path


def old_names(tensors):
    """torchvision's names until 0.12, without the counters of normalisation layers."""
    renamed = {}
    for name, tensor in tensors.items():
        name = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(
            r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name
        )
        if not name.endswith("num_batches_tracked"):
            renamed[name] = tensor
    return renamed


@torch.inference_mode()
@pytest.mark.parametrize("names", ["today's", "old"])
def test_the_net_is_torchvisions(net, tmp_path, names):
    tensors = net.state_dict() if names == "today's" else old_names(net.state_dict())
    torch.save(tensors, tmp_path / "net.pth")
    segmenter = MaskRCNNSegmenter(str(tmp_path / "net.pth"), score_threshold=0.05, **SMALL).eval()
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    (want,), (have,) = net(list(image)), segmenter.net(list(image))
    assert len(want["labels"])
    for key in want:
        assert torch.equal(have[key], want[key])
    (found,) = segmenter.instances(image)
    assert torch.equal(found.masks, want["masks"][:, 0])
    assert torch.equal(found.classes, want["labels"])
    assert torch.equal(found.scores, want["scores"])


def test_old_names_are_those_that_torchvision_itself_renames(net):
    random_net().load_state_dict(
        old_names(net.state_dict())
        | {name: tensor for name, tensor in net.state_dict().items() if "num_batches" in name}
    )


def test_it_fills_the_protocols(file):
    segmenter = MaskRCNNSegmenter(str(file), **SMALL)
    assert isinstance(segmenter, InstanceSegmenter)
    assert isinstance(segmenter, HasWeights)
    assert isinstance(segmenter, HasMemory)
    assert segmenter.weights_files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("arch", ["v1", "v2"])
def test_both_architectures_have_torchvisions_tensors(arch):
    make = {"v1": detection.maskrcnn_resnet50_fpn, "v2": detection.maskrcnn_resnet50_fpn_v2}[arch]
    with torch.device("meta"):
        want = make(weights=None, weights_backbone=None, num_classes=5).state_dict()
        have = maskrcnn.create(arch, "resnet50", num_classes=5).state_dict()
    assert {n: t.shape for n, t in have.items()} == {n: t.shape for n, t in want.items()}


def test_names_by_count_by_parameter_and_by_the_file(net, file, tmp_path):
    assert MaskRCNNSegmenter(str(file), **SMALL).classes == tuple(VOCABULARIES["voc"])
    given = [f"thing {i}" for i in range(20)]
    named = MaskRCNNSegmenter(str(file), classes=given, **SMALL)
    assert named.classes == ("background", *given)
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path, metadata={"classes": json.dumps(given)})
    assert MaskRCNNSegmenter(str(path), **SMALL).classes == ("background", *given)
    assert MaskRCNNSegmenter(str(path), vocabulary="voc", **SMALL).classes == tuple(
        VOCABULARIES["voc"]
    )


def test_cocos_unused_categories_are_no_classes(tmp_path):
    torch.save(random_net(91).state_dict(), tmp_path / "net.pth")
    segmenter = MaskRCNNSegmenter(str(tmp_path / "net.pth"), **SMALL)
    assert len(segmenter.classes) == len(set(segmenter.classes)) == 81
    categories = detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    for label in (1, 3, 13, 90):
        assert segmenter.classes[segmenter.index[label]] == categories[label]
    assert segmenter.index[12] == -1


def test_labels_without_a_class_are_left_out():
    def net(images):
        masks = torch.stack([torch.full((1, 4, 4), 0.1 * i) for i in range(3)])
        return [{"labels": torch.tensor([1, 2, 3]), "scores": torch.ones(3), "masks": masks}]

    (found,) = DetectionSegmenter(net, ["background", "a", "N/A", "b"]).instances(
        torch.ones(1, 3, 4, 4)
    )
    assert found.classes.tolist() == [1, 2]
    assert found.masks[:, 0, 0].tolist() == pytest.approx([0, 0.2])


@torch.inference_mode()
def test_the_trained_net_finds_every_shape(mask_rcnn):
    segmenter = DetectionSegmenter(mask_rcnn, NAMES).eval()
    for seed in range(10_000, 10_040):
        image, target = scene(seed)
        (found,) = segmenter.instances(image[None])
        assert sorted(found.classes.tolist()) == sorted(target["labels"].tolist())
        for label, mask in zip(target["labels"], target["masks"].bool(), strict=True):
            ious = [
                ((one > 0.5) & mask).sum() / ((one > 0.5) | mask).sum()
                for one, index in zip(found.masks, found.classes, strict=True)
                if index == label
            ]
            assert max(ious) > 0.6
        labels = segmenter(image[None]).argmax(1)[0]
        painted = sum(
            m.bool() * int(n) for n, m in zip(target["labels"], target["masks"], strict=True)
        )
        assert (labels == painted).float().mean() > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "v3"}, r"no arch 'v3'.*there are: v1, v2"),
        ({"backbone": "resnet19"}, "did you mean 'resnet1"),
        ({"arch": "v2", "backbone": "resnet18"}, r"no backbone 'resnet18'.*there are: resnet50\)"),
        ({"score_threshold": 1.5}, "score_threshold=1.5 is outside 0..1"),
        ({"max_size": 0}, "max_size=0 must be at least 1"),
        ({"vocabulary": "vok", "backbone": "resnet18"}, "did you mean 'voc'"),
    ],
)
def test_bad_values_get_one_clear_line(file, arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        MaskRCNNSegmenter(str(file), **arguments)
    assert "\n" not in str(error.value)


def test_classes_that_do_not_fit_the_file(file, tmp_path):
    for arguments in ({"vocabulary": "camvid"}, {"classes": ["a", "b"]}):
        with pytest.raises(WeightsKeysError, match=r"wrong class count.*20 classes beside the"):
            MaskRCNNSegmenter(str(file), **arguments, **SMALL)
    torch.save(random_net(4).state_dict(), tmp_path / "net.pth")
    with pytest.raises(ConfigError, match=r"3 classes without names: give segmenter\.classes="):
        MaskRCNNSegmenter(str(tmp_path / "net.pth"), **SMALL)


def test_weights_of_another_net(file, tmp_path):
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsKeysError, match=r"no tensor roi_heads\.box_predictor"):
        MaskRCNNSegmenter(str(tmp_path / "other.pth"))
    with pytest.raises(WeightsKeysError, match="another net than torchvision's Mask R-CNN v1 on r"):
        MaskRCNNSegmenter(str(file), backbone="resnet34")


COCO_V1 = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"


def test_offline_the_line_says_where_the_file_belongs(folders):
    with pytest.raises(WeightsMissingError, match="no route to host") as error:
        MaskRCNNSegmenter()
    told = str(error.value)
    assert f"https://download.pytorch.org/models/{COCO_V1}" in told
    assert f"put it as maskrcnn/{COCO_V1} into one of: {folders / 'weights'}" in told
    assert "segmenter.weights=FILE" in told
    assert "\n" not in told
    with pytest.raises(WeightsMissingError, match="maskrcnn_resnet50_fpn_v2_coco-73cbd019"):
        MaskRCNNSegmenter(arch="v2")


@pytest.mark.parametrize("place", [f"weights/maskrcnn/{COCO_V1}", f"hub/checkpoints/{COCO_V1}"])
def test_torchvisions_file_is_checked_wherever_it_lies(folders, place):
    path = folders / place
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsHashError, match=r"is damaged: its SHA-256"):
        MaskRCNNSegmenter()


@pytest.mark.parametrize("given", ["coco", "file"])
def test_torchvisions_own_v1_file_is_normalised_as_it_was_trained(
    folders, file, monkeypatch, given
):
    """A file of the same digest as the name says stands for torchvision's own."""
    path = folders / "weights/maskrcnn" / COCO_V1
    path.parent.mkdir(parents=True)
    path.write_bytes(file.read_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert _eps(MaskRCNNSegmenter(str(path), **SMALL)) == {1e-5}
    monkeypatch.setattr(maskrcnn, "_digest", lambda url: digest)
    segmenter = MaskRCNNSegmenter("coco" if given == "coco" else str(path), **SMALL)
    assert _eps(segmenter) == {0.0}


def _eps(segmenter):
    return {m.eps for m in segmenter.modules() if isinstance(m, torch.nn.BatchNorm2d)}
