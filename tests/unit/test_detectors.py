"""Objects by words: Grounding DINO with SAM, and SAM 3, equal to the library's own."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cbs_core.choose.registry import segmenters
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, WeightsError
from cbs_core.contract.interfaces import InstanceSegmenter
from cbs_core.contract.tensors import to_pixels
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop
from cbs_core.testing.helpers import picture
from tests import tiny_transformers
from tests.tiny_sam import save

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: the extra [huggingface]"
)

from cbs_plugins.nets.detectors import _apart  # noqa: E402

WORDS = ("red car", "the dog's ball")
SIZE = (96, 130)
LEAST = 1e-4
"""Confidence below which random nets have hardly anything."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family -> its checkpoint, made when it is first asked for."""
    return tiny_transformers.once(tmp_path_factory.mktemp("detectors"), save)


def create(folders, family: str, **params):
    if family != "sam3":
        params.setdefault("masks", str(folders("sam")))
    return segmenters.create("prompted", model=str(folders(family)), **params)


def frame():
    pixels = to_pixels(picture(*SIZE))
    return Image.fromarray(pixels.numpy()), pixels.permute(2, 0, 1)[None].float() / 255


@torch.inference_mode()
@pytest.mark.parametrize("family", ["grounding-dino", "mm-grounding-dino"])
def test_boxes_are_the_librarys(family, folders):
    shown, image = frame()
    processor = transformers.AutoProcessor.from_pretrained(folders(family))
    net = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folders(family)).eval()
    inputs = processor(images=shown, text=[[*WORDS]], return_tensors="pt")
    out = net(**inputs)
    theirs = processor.post_process_grounded_object_detection(
        out, threshold=LEAST, text_threshold=LEAST, target_sizes=[SIZE]
    )[0]["boxes"]
    # Words end at full stops, whose number is BERT's 1012.
    ends = (inputs.input_ids[0] == 1012).nonzero().flatten().tolist()
    scores = out.logits[0].sigmoid()
    due = torch.stack([scores[:, 1 : ends[0]].amax(1), scores[:, ends[0] + 1 : ends[1]].amax(1)], 1)
    segmenter = create(folders, family, threshold=LEAST).prompted(WORDS)
    boxes, words, found = segmenter.boxes(image)
    assert len(boxes) >= 8
    assert {*words.tolist()} == {0, 1}
    for box, word, score in zip(boxes, words, found, strict=True):
        distance, query = (theirs - box).abs().amax(1).min(0)
        assert distance < 1e-3
        torch.testing.assert_close(score, due[query].max(), atol=1e-4, rtol=0)
        assert word == due[query].argmax()


@torch.inference_mode()
def test_objects_of_boxes_are_sams_masks(folders):
    _, image = frame()
    plugin = create(folders, "grounding-dino", threshold=LEAST)
    segmenter = plugin.prompted(WORDS)
    assert isinstance(segmenter, InstanceSegmenter)
    assert segmenter.classes == ("background", *WORDS)
    boxes, words, _ = segmenter.boxes(image)
    masks, classes, _ = segmenter.found(image)
    logits, _ = plugin.nets.masks(image, boxes=boxes[2:3])
    torch.testing.assert_close(masks[2], logits[0, 0].sigmoid(), atol=1e-4, rtol=0)
    assert torch.equal(classes, words + 1)
    (found,) = segmenter.instances(image)
    assert len(found.masks)
    assert segmenter(image).shape == (1, 3, *SIZE)
    assert {file.path.parent.name for file in segmenter.weights_files} == {"grounding-dino", "sam"}


@torch.inference_mode()
def test_sam3s_objects_are_the_librarys(folders):
    shown, image = frame()
    processor = transformers.Sam3Processor.from_pretrained(folders("sam3"))
    net = transformers.Sam3Model.from_pretrained(folders("sam3")).eval()
    segmenter = create(folders, "sam3", threshold=0.1).prompted(WORDS)
    masks, classes, scores = segmenter.found(image)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    for number, word in enumerate(WORDS, 1):
        inputs = processor(images=shown, text=word, return_tensors="pt")
        sizes = inputs.pop("original_sizes").tolist()
        due = processor.image_processor.post_process_instance_segmentation(
            net(**inputs), threshold=0.1, mask_threshold=0.5, target_sizes=sizes
        )[0]
        order = due["scores"].argsort(descending=True)
        torch.testing.assert_close(
            scores[classes == number], due["scores"][order], atol=1e-4, rtol=0
        )
        same = (masks[classes == number] > 0.5) == due["masks"][order].bool()
        assert same.float().mean() >= 0.999
        assert len(order) > 2


@torch.inference_mode()
def test_sam3s_checkpoint_for_films_is_read(folders, tmp_path):
    folder = shutil.copytree(folders("sam3"), tmp_path / "films")
    tensors = load_file(folder / "model.safetensors")
    films = {f"detector_model.{name}": one for name, one in tensors.items()}
    films["tracker_model.mask"] = torch.zeros(1)
    save_file(films, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config = {"model_type": "sam3_video", "detector_config": config, "architectures": ["Sam3Video"]}
    (folder / "config.json").write_text(json.dumps(config))
    ours, theirs = (
        segmenters.create("prompted", model=str(one), threshold=0.1)
        .prompted(WORDS)
        .found(frame()[1])
        for one in (folder, folders("sam3"))
    )
    assert torch.equal(ours[0], theirs[0])


@torch.inference_mode()
def test_sam3_sees_a_frame_once_for_all_words(folders):
    plugin = create(folders, "sam3")
    segmenter, seen = plugin.prompted(WORDS), []
    plugin.nets.net.vision_encoder.register_forward_hook(lambda *call: seen.append(1))
    segmenter(frame()[1])
    assert len(seen) == 1


@torch.inference_mode()
def test_a_threshold_of_a_word_holds_for_that_word(folders):
    _, image = frame()
    few = create(folders, "sam3", threshold=0.1, thresholds={"red car": 0.99}).prompted(WORDS)
    assert {*few.found(image)[1].tolist()} == {2}


@torch.inference_mode()
def test_nothing_found_is_background(folders):
    segmenter = create(folders, "mm-grounding-dino", threshold=0.99).prompted(WORDS)
    _, image = frame()
    assert not len(segmenter.instances(image)[0].masks)
    assert (segmenter(image).argmax(1) == 0).all()


def test_a_pixel_is_the_surest_objects():
    masks = torch.zeros(3, 4, 4)
    masks[0, :2], masks[1, 1:], masks[2, 1, 1] = 0.9, 0.9, 0.9
    found = _apart(masks, torch.tensor([1, 2, 1]), torch.tensor([0.8, 0.4, 0.3]))
    assert found.classes.tolist() == [1, 2]
    assert (found.masks[0] > 0.5).sum() == 8
    assert (found.masks[1] > 0.5).sum() == 8


def test_full_stops_and_marks_end_no_word(folders):
    segmenter = create(folders, "grounding-dino").prompted(["St. Bernard?", "cat"])
    ids = segmenter.text_input_ids[0].tolist()
    assert (ids.count(1012), ids.count(1029)) == (2, 0)


def test_too_many_words_are_told(folders):
    words = [f"thing number {chr(97 + one)}" for one in range(12)]
    with pytest.raises(ConfigError, match=r"12 names of .* and this net reads 60: name fewer"):
        create(folders, "grounding-dino").prompted(words)


def test_masks_are_for_boxes_alone(folders):
    with pytest.raises(ConfigError, match="is for a Grounding DINO"):
        create(folders, "sam3", masks=str(folders("sam")))
    with pytest.raises(WeightsError, match="makes no masks of points and boxes"):
        create(folders, "grounding-dino", masks=str(folders("sam3")))


def test_one_object_can_be_selected(folders):
    look = Look(
        segmenter=Choice("prompted", {"model": str(folders("sam3")), "threshold": 0.1}),
        styler=Choice("johnson", {"style": "wave"}),
        accelerator=Choice("eager"),
        routes={"red car": "wave"},
        select=1,
    )
    plan = Workshop.on("cpu", "fp32").plan(look)
    assert plan.classes == ("background", "red car")
    assert plan.detector is not None
    with torch.inference_mode():
        assert len(plan.detector.run(frame()[1])) == 1
