"""Checkpoints of transformers: each family equal to the library's own processor and net."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cbs_core.choose.registry import segmenters
from cbs_core.contract.errors import ConfigError, WeightsError, WeightsMissingError
from cbs_core.contract.interfaces import InstanceSegmenter
from cbs_core.contract.tensors import to_pixels
from cbs_core.testing.helpers import picture
from tests.tiny_transformers import MAKERS, once, save

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: the extra [huggingface]"
)

from cbs_plugins.nets.transformers import SHARPNESS  # noqa: E402

UNIVERSAL = ("maskformer", "mask2former", "oneformer", "eomt", "eomt_windows", "detr")
PADDED = ("eomt",)
SHORT = ("background", "person", "car", "sky")
SIZE = (96, 130)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Family -> its checkpoint, made when it is first asked for."""
    return once(tmp_path_factory.mktemp("transformers"), save)


def create(folder: Path, **params):
    return segmenters.create("huggingface", model=str(folder), **params)


def frame(height: int = SIZE[0], width: int = SIZE[1]):
    """A picture as bytes, and as the core gives it."""
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    pixels = to_pixels(picture(height, width) * 0.5 + 0.5 * noise)
    return pixels, pixels.permute(2, 0, 1)[None].float() / 255


def library(folder: Path, family: str, pixels):
    """What transformers makes of a picture: its processor, and its net's output."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    net = getattr(transformers, name).from_pretrained(folder).eval()
    inputs = processor(
        images=Image.fromarray(pixels.numpy()), return_tensors="pt", do_center_crop=False
    )
    offsets = inputs.pop("patch_offsets", None)
    if family == "oneformer":
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        whole = transformers.OneFormerProcessor(processor, tokenizer, task_seq_length=12)
        asked = whole(
            images=Image.fromarray(pixels.numpy()), task_inputs=["panoptic"], return_tensors="pt"
        )
        inputs = {key: asked[key] for key in ("pixel_values", "pixel_mask", "task_inputs")}
    out = net(**inputs)
    if offsets is not None:
        out["patch_offsets"] = offsets
        out.patch_offsets = offsets
    return processor, out


@torch.inference_mode()
@pytest.mark.parametrize("family", [name for name in MAKERS if name not in (*UNIVERSAL, "clipseg")])
@pytest.mark.parametrize("size", [SIZE, (150, 64)])
def test_logits_are_the_librarys(family, size, folders):
    pixels, image = frame(*size)
    processor, out = library(folders(family), family, pixels)
    segmenter = create(folders(family))
    logits = segmenter(image)
    assert segmenter.classes == SHORT
    torch.testing.assert_close(logits, out.logits, atol=1e-4, rtol=0)
    theirs = processor.post_process_semantic_segmentation(out, target_sizes=[size])[0]
    check_labels(logits, theirs)
    check_varied(logits, out.logits)


def check_labels(scores, theirs):
    """At 99.9% of pixels."""
    ours = F.interpolate(scores, theirs.shape, mode="bilinear", align_corners=False).argmax(1)[0]
    assert (ours == theirs).float().mean() >= 0.999


def check_varied(ours, theirs):
    """Of some random nets one class wins everywhere; without its lead several do, in both alike."""
    lead = theirs.flatten(2).median(2).values[..., None, None]
    labels = (theirs - lead).argmax(1)
    assert len(labels.unique()) > 1
    assert ((ours - lead).argmax(1) == labels).float().mean() >= 0.999


@torch.inference_mode()
@pytest.mark.parametrize("family", UNIVERSAL)
@pytest.mark.parametrize("size", [SIZE, (150, 64)])
def test_scores_of_universal_nets_are_the_librarys(family, size, folders):
    pixels, image = frame(*size)
    processor, out = library(folders(family), family, pixels)
    segmenter = create(folders(family))
    scores = segmenter(image) / SHARPNESS
    assert segmenter.classes == SHORT
    if family in PADDED:
        theirs = unpadded_scores(processor, out, size)
    else:
        post = processor.post_process_semantic_segmentation
        asked = {} if family == "detr" else {"return_segmentation_scores": True}
        found = post(out, target_sizes=[size], **asked)[0]
        if family == "detr":
            check_labels(scores, found)
            return
        theirs = found.segmentation_scores
    ours = F.interpolate(scores, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours[0], theirs, atol=1e-4, rtol=0)
    check_labels(scores, theirs.argmax(0))
    check_varied(ours, theirs[None])


@torch.inference_mode()
@pytest.mark.parametrize("family", PADDED)
def test_a_frame_is_prepared_once_where_it_is_padded(family, folders, monkeypatch):
    segmenter, (_, image) = create(folders(family)), frame()
    segmenter(image)  # where the frame lies is found out once a size
    ran, run = [], segmenter.prepare._run
    monkeypatch.setattr(
        segmenter.prepare, "_run", lambda *args, **given: ran.append(1) or run(*args, **given)
    )
    segmenter(image)
    segmenter.instances(image)
    assert len(ran) == 2


def unpadded_scores(processor, out, size):
    """EoMT's scores without padding, which its semantic post-processing would leave in."""
    weights = out.class_queries_logits.softmax(-1)[..., :-1]
    masks = F.interpolate(out.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
    scores = torch.einsum("bqk,bqhw->bkhw", weights, masks)
    return processor.unpad_image(scores, [size], processor.size)[0]


@torch.inference_mode()
@pytest.mark.parametrize("family", ["maskformer", "mask2former", "oneformer", "eomt"])
def test_objects_are_the_librarys(family, folders):
    pixels, image = frame()
    processor, out = library(folders(family), family, pixels)
    segmenter = create(folders(family), threshold=0.3)
    assert isinstance(segmenter, InstanceSegmenter)
    (found,) = segmenter.instances(image)
    fuse = {} if family == "eomt" else {"label_ids_to_fuse": set()}
    theirs = processor.post_process_panoptic_segmentation(
        out, target_sizes=[SIZE], threshold=0.3, **fuse
    )[0]
    # The library's background is a label as others are; ours is what is no object.
    due = [one for one in theirs["segments_info"] if one["label_id"] != 0]
    assert sorted(found.classes.tolist()) == sorted(one["label_id"] for one in due)
    for one in due:
        mask = theirs["segmentation"] == one["id"]
        # A pixel that no mask claims is in the library's map the least unlikely mask's.
        assert any(
            not ((ours > 0.5) & ~mask).any()
            for ours, label in zip(found.masks, found.classes.tolist(), strict=True)
            if label == one["label_id"]
        )


def test_nets_without_masks_and_windowed_ones_have_no_objects(folders):
    assert not isinstance(create(folders("segformer")), InstanceSegmenter)
    assert not isinstance(create(folders("eomt_windows")), InstanceSegmenter)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({0: "wall", 1: "door;double door"}, ("wall", "door")),
        ({0: "door, a", 1: "door, b"}, ("door, a", "door, b")),
        ({1: "b", 0: "a"}, ("a", "b")),
        ({0: "N/A", 1: "N/A"}, ("N/A", "N/A 2")),
        ({0: "", 1: "x"}, ("unnamed", "x")),
    ],
)
def test_names_are_of_the_configuration(labels, names):
    from cbs_plugins.segmenters.huggingface import class_names

    assert class_names(labels) == names


def test_the_report_has_tensors_configuration_and_licence(folders, tmp_path):
    folder = shutil.copytree(folders("segformer"), tmp_path / "net")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: nvidia\n---\nA net.\n")
    files = create(folder).weights_files
    assert [file.path.name for file in files] == ["model.safetensors", "config.json"]
    assert {file.licence for file in files} == {"other (nvidia)"}


def changed(folder: Path, into: Path, **config) -> Path:
    shutil.copytree(folder, into)
    told = json.loads((into / "config.json").read_text())
    (into / "config.json").write_text(json.dumps(told | config))
    return into


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, "code of its own"),
        ({"model_type": "detr", "architectures": ["DetrForObjectDetection"]}, "does not segment"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "does not segment"),
        ({"architectures": ["SegformerForImageClassification"]}, "does not segment"),
        ({"hidden_sizes": [8, 8, 16, 32]}, "cannot be loaded"),
        ({"depths": [1, 1, 1, 2]}, "lacks"),
        ({"num_attention_heads": "two"}, "config.json that transformers does not take"),
    ],
)
def test_other_models_are_refused(config, said, folders, tmp_path):
    folder = changed(folders("segformer"), tmp_path / "net", **config)
    with pytest.raises(WeightsError, match=said) as told:
        create(folder)
    assert "\n" not in str(told.value)


def test_code_of_a_checkpoint_is_not_run(folders, tmp_path):
    ran = tmp_path / "ran"
    folder = changed(folders("segformer"), tmp_path / "net", auto_map={"AutoConfig": "mine.Config"})
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    create(folder)
    assert not ran.exists()


def test_pickles_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders("segformer"), tmp_path / "net")
    pickled(folder)
    with pytest.raises(WeightsError, match="could run code"):
        create(folder)


def test_a_lost_processor_is_told(folders, tmp_path):
    folder = shutil.copytree(folders("segformer"), tmp_path / "net")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="image processor"):
        create(folder)


def test_damaged_tensors_are_told(folders, tmp_path):
    folder = shutil.copytree(folders("segformer"), tmp_path / "net")
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        create(folder)


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        ({}, ConfigError, "segmenter.model=NAME"),
        ({"model": "./nowhere"}, WeightsMissingError, "no folder"),
        ({"model": "a/b", "threshold": 2.0}, ConfigError, "outside 0..1"),
        ({"model": "a/b", "task": "guess"}, ConfigError, "none of semantic"),
    ],
)
def test_wrong_values_are_told(params, error, said):
    with pytest.raises(error, match=said):
        segmenters.create("huggingface", **params)


def test_a_folder_has_no_revision(folders):
    with pytest.raises(ConfigError, match="no revision"):
        create(folders("segformer"), revision="main")


def test_loading_leaves_the_librarys_settings_alone(folders):
    from huggingface_hub import constants
    from transformers.utils import logging

    before = logging.get_verbosity(), constants.HF_HUB_OFFLINE
    create(folders("segformer"))
    assert (logging.get_verbosity(), constants.HF_HUB_OFFLINE) == before
