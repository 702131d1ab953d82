"""Classes by words: CLIPSeg equal to the library's, and the words of routes on their way to it."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from cbs_core.choose.registry import segmenters
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, WeightsError
from cbs_core.contract.tensors import to_pixels
from cbs_core.frame.routes import words_of
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop
from cbs_core.testing.helpers import picture
from tests.tiny_transformers import save

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: the extra [huggingface]"
)

from cbs_plugins.formats import hub  # noqa: E402

WORDS = ("red car", "the dog's ball", "sky")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save("clipseg", tmp_path_factory.mktemp("prompted") / "clipseg")


def create(folder: Path, **params):
    return segmenters.create("prompted", model=str(folder), **params)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(96, 130), (150, 64)])
def test_scores_are_the_librarys(size, folder):
    pixels = to_pixels(picture(*size))
    processor = transformers.AutoProcessor.from_pretrained(folder)
    net = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    pictures = [Image.fromarray(pixels.numpy())] * len(WORDS)
    inputs = processor(text=[*WORDS], images=pictures, padding=True, return_tensors="pt")
    theirs = net(**inputs).logits
    scores = create(folder).prompted(WORDS)(pixels.permute(2, 0, 1)[None].float() / 255)
    torch.testing.assert_close(scores[0, 1:], theirs, atol=1e-4, rtol=0)
    assert not scores[:, 0].any()
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-3)


@torch.inference_mode()
def test_a_threshold_of_a_word_moves_that_word(folder):
    image = picture(64, 96)
    plain = create(folder).prompted(WORDS)(image)
    moved = create(folder, thresholds={"Red_Car": 0.2}).prompted(WORDS)(image)
    torch.testing.assert_close(moved[:, 1], plain[:, 1] - torch.tensor(0.2).logit())
    assert torch.equal(moved[:, 2:], plain[:, 2:])


def test_a_pictures_features_are_computed_once(folder):
    plugin = create(folder)
    segmenter, seen = plugin.prompted(WORDS), []
    plugin.nets.net.clip.vision_model.register_forward_hook(lambda *call: seen.append(len(call[1])))
    with torch.inference_mode():
        segmenter(picture(64, 96))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"red car": "wave", "rest": "udnie"}, ("red car",)),
        ({"not the dog": "wave"}, ("the dog",)),
        (["car", "Car", "sky"], ("car", "sky")),
        ("sky", ("sky",)),
        (None, ("person", "car")),
        ({"car": "none", "background": "wave"}, ("car",)),
    ],
)
def test_words_of_routes(spec, words):
    assert words_of(spec) == words


@pytest.mark.parametrize("spec", [{"rest": "wave"}, [], {}, ["everything"]])
def test_routes_without_a_word_are_told(spec):
    with pytest.raises(ConfigError, match="names nothing to look for"):
        words_of(spec)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"threshold": 0.0}, "threshold=0.0 is no number between 0 and 1"),
        ({"thresholds": {"car": True}}, "'car'=True"),
    ],
)
def test_wrong_thresholds_are_told(params, said, folder):
    with pytest.raises(ConfigError, match=said):
        create(folder, **params)


def test_a_threshold_without_its_word_is_told(folder):
    with pytest.raises(ConfigError, match="in no route"):
        create(folder, thresholds={"cat": 0.3}).prompted(WORDS)


def test_other_nets_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="takes no words"):
        create(save("segformer", tmp_path / "net"))


def test_without_routes_there_are_no_classes(folder):
    with pytest.raises(ConfigError, match="no classes of its own"):
        _ = create(folder).classes


def test_a_plan_has_the_words_of_its_routes_and_shares_the_net(folder, monkeypatch):
    loaded = []
    load = hub.load
    monkeypatch.setattr(hub, "load", lambda *args: loaded.append(args) or load(*args))
    workshop = Workshop.on("cpu", "fp32")
    look = Look(
        segmenter=Choice("prompted", {"model": str(folder)}),
        styler=Choice("none"),
        accelerator=Choice("eager"),
        routes={"red car": {"styler": "johnson", "style": "wave"}, "rest": "none"},
    )
    plan = workshop.plan(look)
    assert plan.classes == ("background", "red car")
    assert [route.classes for route in plan.routes] == [("red car",)]
    sky = {"the sky": {"styler": "johnson", "style": "wave"}}
    other = workshop.plan(dataclasses.replace(look, routes=sky))
    assert other.classes == ("background", "the sky")
    assert workshop.plan(look).segmenter is plan.segmenter
    assert len(loaded) == 1
    assert {file.path.name for file in plan.facts.weights} >= {"model.safetensors"}
    with torch.inference_mode():
        assert plan.segmenter.call(picture(64, 96)).shape[:2] == (1, 2)
