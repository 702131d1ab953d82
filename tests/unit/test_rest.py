"""Words for what other words leave: ``rest``, ``everything``, ``background`` and ``not person``."""

import numpy as np
import pytest
import torch

import cbs_core as cbs
from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError
from cbs_core.frame.routes import parse
from cbs_core.temporal.state import State
from cbs_core.words.shares import REST, shares
from cbs_core.words.vocabularies import VOCABULARIES

NET = ("background", "chair", "dog", "car", "person")
STREET = tuple(VOCABULARIES["cityscapes"])


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (["person", "rest"], ["person", "background chair dog car"]),
        (["rest", "person"], ["background chair dog car", "person"]),
        (["People", "Everything"], ["person", "background chair dog car"]),
        (["person", "background"], ["person", "background chair dog car"]),
        (["animals", "background"], ["dog", "background chair car person"]),
        (["background"], ["background chair"]),
        (["rest"], ["background chair dog car person"]),
        (["background", "rest"], ["background", "chair dog car person"]),
        (["everything", "background", "dog"], ["chair car person", "background", "dog"]),
        (["not person"], ["background chair dog car"]),
        (["not_person"], ["background chair dog car"]),
        (["not background"], ["dog car person"]),
        (["car", "not background", "background"], ["car", "dog person", "background chair"]),
        (["not Person", "person"], ["background chair dog car", "person"]),
        (["not animals", "chair", "rest"], ["background car person", "chair", "dog"]),
        (["vehicles", "not person", "rest"], ["car", "background chair dog", "person"]),
    ],
)
def test_what_each_word_gets(words, classes):
    found = shares(words, NET)
    assert [share.classes for share in found] == [tuple(names.split()) for names in classes]
    routes = parse(dict.fromkeys(words, "a"), classes=NET, styler="s", params={})
    assert [route.classes for route in routes] == [share.classes for share in found]


@pytest.mark.parametrize("words", [["person", "background"], ["everything"], ["not dog", "dog"]])
def test_a_list_is_one_route_of_all_that_its_words_mean(words):
    (route,) = parse(words, classes=NET, styler="s", params={})
    assert set(route.classes) == set(NET)


def test_a_net_without_a_background_has_one_too():
    (alone,) = parse(["background"], classes=STREET, styler="s", params={})
    assert set(STREET) - {*alone.classes} == {
        *("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    }
    _, beside = parse({"car": "a", "background": "b"}, classes=STREET, styler="s", params={})
    assert beside.classes == tuple(name for name in STREET if name != "car")
    assert (beside.left, beside.named()) == (REST, "background")


def test_what_is_none_is_nobodys():
    (rest,) = parse({"person": "none", "background": "b"}, classes=NET, styler="s", params={})
    assert rest.classes == ("background", "chair", "dog", "car")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rest": "a", "everything": "b"}, r"name 'background' twice \(rest and everything\)"),
        ({"not dog": "a", "not car": "b"}, r"name 'background' twice \(not dog and not car\)"),
        ({**dict.fromkeys(NET[1:], "a"), "background": "b", "rest": "c"}, "left for 'rest'"),
        (["not kar"], "no class 'kar'; did you mean 'car'"),
        (["rst"], "no class 'rst'; did you mean 'rest'"),
        (["everythng"], "did you mean 'everything'"),
        (["face"], "no class 'face'; the nearest in meaning is 'person' "),
        (["-person"], "all but person is 'not person'"),
        (["!people"], "all but people is 'not people'"),
        (["everything but person"], "all but person is 'not person'"),
        (["no dogs"], "all but dogs is 'not dogs'"),
        (["no parking sign"], "no class 'no parking sign'"),
        (["not rest"], "'not rest' names nothing"),
    ],
)
def test_one_line_for_a_contradiction(spec, message):
    with pytest.raises(ConfigError, match=message):
        parse(spec, classes=NET, styler="s", params={})


class Stripes:
    """Calls columns by the picture's red: 0 background, 50 chair, 100 dog, 150 car, 200 person."""

    classes = NET

    def __call__(self, image):
        labels = (image[:, 0] * 255 / 50).round().long()
        return 9 * torch.nn.functional.one_hot(labels, len(NET)).permute(0, 3, 1, 2).float()


class Flat:
    """Paints all in one grey."""

    def __init__(self, style: str = "255"):
        self.level = int(style) / 255

    def __call__(self, image):
        return torch.full_like(image, self.level)


LOOK = {"segmenter": "stripes", "styler": "flat_grey", "accelerator": "eager", "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def plugins():
    registry.segmenters.register("stripes", Stripes)
    registry.stylers.register("flat_grey", Flat)


def picture():
    """Five columns of ten pixels, one a class; within the person's another person, of 4x4 pixels,
    would touch it, so a second one stands in the dog's column."""
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[..., 0] = np.repeat([0, 50, 100, 150, 200], 10)
    pixels[10:14, 23:27, 0] = 200
    return pixels


@pytest.mark.parametrize("matte", ["argmax", "soft"])
@pytest.mark.parametrize("word", ["rest", "background", "everything"])
def test_there_are_no_holes(matte, word):
    with cbs.Restyler({"person": "200", word: "100"}, matte=matte, **LOOK) as restyler:
        found = restyler.result(picture())
    assert list(found.mattes) == ["person", word]
    np.testing.assert_allclose(sum(found.mattes.values()), 1, atol=1e-5)
    if matte == "argmax":
        person = picture()[..., 0] == 200
        assert (found.picture[person] == 200).all()
        assert (found.picture[~person] == 100).all()


@pytest.mark.parametrize("matte", ["argmax", "soft"])
def test_of_the_object_selected_the_rest_is_all_else(matte):
    look = {**LOOK, "matte": matte, "select": "largest"}
    second = np.zeros((30, 50), bool)
    second[10:14, 23:27] = True
    for word, level in (("rest", 100), ("not person", 200)):
        with cbs.Restyler({"person": "30", word: "100"}, **look) as restyler:
            out = restyler(picture())
            kept = State.from_bytes(restyler.state.to_bytes())
            restyler.state = kept
            assert np.array_equal(restyler(picture()), out)
        if matte == "argmax":
            assert (out[:, 40:] == 30).all()
            assert (out[second][:, 0] == level).all(), "a person that was not chosen"
            assert (out[:, :40][~second[:, :40]] == 100).all()


def test_the_rest_alone_is_made_of_objects_as_any_class_is():
    with cbs.Restyler(["rest"], select="44,5", **LOOK) as restyler:
        out = restyler(picture())
    assert (out[:, 40:] == 255).all()
    assert np.array_equal(out[:, :40], picture()[:, :40])


def test_a_plan_gives_the_rest_another_style():
    with cbs.Restyler({"person": "200"}, **LOOK) as restyler:
        restyler.plan = restyler.plan.with_route("background", "100")
        assert (restyler(picture())[:, :40][0] == 100).all()
        restyler.plan = restyler.plan.with_route("rest", "50")
        out = restyler(picture())
        assert (out[:, 40:] == 200).all()
        assert (out[0, :40] == 50).all()
        restyler.plan = restyler.plan.with_route("car", "none").with_route("not dog", "7")
        out = restyler(picture())
        assert (out[0, :20] == 7).all()
        assert (out[0, 20:30] == 50).all()
        assert (out[0, 30:] == 7).all()
        restyler.plan = restyler.plan.with_route("rest", "none")
        assert np.array_equal(restyler(picture())[0, 20:30], picture()[0, 20:30])


def test_only_the_matte_is_restyled_and_it_is_the_same_picture():
    pixels = np.kron(picture(), np.ones((3, 3, 1), np.uint8))
    routes = {"person": "wave", "rest": {"style": "udnie", "strength": 0.5}}
    outs = []
    for where in ("frame", "mask"):
        styler = {"name": "johnson", "where": where, "statistics": "frozen"}
        with cbs.Restyler(routes, **{**LOOK, "styler": styler}, precision="fp32") as restyler:
            outs.append(restyler(pixels).astype(int))
    assert abs(outs[0] - outs[1]).max() <= 1
    assert (abs(outs[0] - pixels).max(-1) > 0).mean() > 0.9
