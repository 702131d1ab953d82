"""The data sets' classes and colours, and what people call them."""

import subprocess
import sys
from pathlib import Path

import pytest

from cbs_core.contract.errors import ConfigError, UnknownClassError, WeightsKeysError
from cbs_core.words import names, vocabularies
from cbs_core.words.names import aliases_of, groups_of, plain, resolve
from cbs_core.words.vocabularies import VOCABULARIES

COUNTS = {
    "cityscapes": 19,
    "camvid": 11,
    "voc": 21,
    "ade20k": 150,
    "coco": 80,
    "coco_panoptic": 133,
    "coco_stuff": 171,
    "scene": 32,
}


def meant(name, vocabulary):
    return resolve(name, tuple(VOCABULARIES[vocabulary])).classes


def test_every_vocabulary_has_its_classes_once():
    assert {name: len(words) for name, words in VOCABULARIES.items()} == COUNTS
    for words in VOCABULARIES.values():
        assert len(set(map(plain, words))) == len(words)


@pytest.mark.parametrize(
    ("name", "index", "word", "colour"),
    [
        ("cityscapes", 11, "person", (220, 20, 60)),
        ("camvid", 9, "pedestrian", (64, 64, 0)),
        ("voc", 20, "tvmonitor", (0, 64, 128)),
        ("ade20k", 0, "wall", (120, 120, 120)),
        ("ade20k", 12, "person", (150, 5, 61)),
        ("ade20k", 89, "television receiver", (0, 255, 194)),
        ("ade20k", 149, "flag", (92, 0, 255)),
        ("coco", 79, "toothbrush", (191, 162, 208)),
        ("coco_panoptic", 80, "banner", (255, 255, 128)),
        ("coco_panoptic", 132, "rug-merged", (250, 141, 255)),
        ("coco_stuff", 80, "banner", vocabularies.generated_colour(81)),
        ("coco_stuff", 170, "wood", vocabularies.generated_colour(171)),
        ("scene", 14, "person", (192, 128, 128)),
        ("scene", 22, "sky", (120, 200, 255)),
    ],
)
def test_order_and_colours_are_the_data_sets(name, index, word, colour):
    vocabulary = vocabularies.get(name)
    assert list(vocabulary)[index] == word
    assert vocabulary[word].colour == colour


def test_the_things_of_the_three_coco_vocabularies_are_the_same():
    things = list(VOCABULARIES["coco"])
    assert list(VOCABULARIES["coco_panoptic"])[:80] == things
    assert list(VOCABULARIES["coco_stuff"])[:80] == things


def test_voc_colours_follow_the_devkits_formula():
    colours = [entry.colour for entry in VOCABULARIES["voc"].values()]
    assert colours == [vocabularies.generated_colour(index) for index in range(21)]


def test_sets_of_synonyms_do_not_overlap():
    words = [plain(w) for line in vocabularies.read_lines("aliases") for w in line.split(";")]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_the_class_count_tells_a_data_sets_vocabulary(name, count):
    assert vocabularies.by_class_count(count) == (None if name in vocabularies.OURS else name)


def test_a_count_of_two_vocabularies_tells_none(monkeypatch):
    monkeypatch.setattr(vocabularies, "VOCABULARIES", {"a": {"x": None}, "b": {"y": None}})
    assert vocabularies.by_class_count(1) is None


def test_names_of_weights():
    file = Path("net.pth")
    assert vocabularies.names_of_weights(file, 2, vocabulary=None, classes=["a", "b"]) == ("a", "b")
    assert len(vocabularies.names_of_weights(file, 150, vocabulary=None, classes=None)) == 150
    with pytest.raises(WeightsKeysError, match=r"for 2 classes, segmenter\.classes has 1"):
        vocabularies.names_of_weights(file, 2, vocabulary=None, classes=["a"])
    with pytest.raises(ConfigError, match="names 'a' twice"):
        vocabularies.names_of_weights(file, 2, vocabulary=None, classes=["a", "a"])
    with pytest.raises(WeightsKeysError, match=r"which no vocabulary has.*ade20k 150"):
        vocabularies.of_weights(file, 2, None)
    with pytest.raises(ConfigError, match=r"no vocabulary has 2: give segmenter\.classes=\[NAME"):
        vocabularies.names_of_weights(file, 2, vocabulary=None, classes=None)
    with pytest.raises(ConfigError, match="did you mean 'ade20k'"):
        vocabularies.names_of_weights(file, 2, vocabulary="ade20", classes=None)


def test_colours_are_the_data_sets_or_all_different():
    assert vocabularies.colours(list(VOCABULARIES["ade20k"]))[2] == (6, 230, 230)
    assert len(set(vocabularies.colours([str(i) for i in range(200)]))) == 200


@pytest.mark.parametrize(
    ("name", "vocabulary", "classes"),
    [
        ("people", "cityscapes", ("person",)),
        ("pedestrian", "cityscapes", ("person",)),
        ("person", "camvid", ("pedestrian",)),
        ("human", "camvid", ("pedestrian",)),
        ("rider", "camvid", ("bicyclist",)),
        ("cyclist", "cityscapes", ("rider",)),
        ("auto", "ade20k", ("car",)),
        ("Cars", "voc", ("car",)),
        ("buses", "voc", ("bus",)),
        ("motorcycle", "voc", ("motorbike",)),
        ("motorbike", "cityscapes", ("motorcycle",)),
        ("motorcycle", "ade20k", ("minibike",)),
        ("plane", "voc", ("aeroplane",)),
        ("aeroplane", "coco", ("airplane",)),
        ("couch", "voc", ("sofa",)),
        ("sofa", "coco", ("couch",)),
        ("tv", "voc", ("tvmonitor",)),
        ("tv monitor", "ade20k", ("television receiver",)),
        ("Dining Table", "voc", ("diningtable",)),
        ("potted_plant", "voc", ("pottedplant",)),
        ("cattle", "voc", ("cow",)),
        ("bikes", "cityscapes", ("bicycle",)),
        ("vegetation", "camvid", ("tree",)),
        ("vegetation", "coco_panoptic", ("tree-merged",)),
        ("tree", "cityscapes", ("vegetation",)),
        ("sidewalk", "camvid", ("pavement",)),
        ("pavement", "ade20k", ("sidewalk",)),
        ("sky", "coco_stuff", ("sky-other",)),
        ("screen", "ade20k", ("screen",)),
        ("counter", "ade20k", ("counter",)),
        ("vehicles", "cityscapes", ("car", "truck", "bus", "train", "motorcycle", "bicycle")),
        ("animals", "voc", ("bird", "cat", "cow", "dog", "horse", "sheep")),
        ("animals", "ade20k", ("animal",)),
        ("nature", "cityscapes", ("vegetation", "terrain")),
        ("furniture", "voc", ("chair", "diningtable", "sofa")),
        ("Buildings", "ade20k", ("building", "house", "skyscraper", "hovel", "tower")),
        ("buildings", "coco_panoptic", ("house", "roof", "building-other-merged")),
        ("lorries", "cityscapes", ("truck",)),
        ("skies", "camvid", ("sky",)),
        ("plants", "voc", ("pottedplant",)),
        ("plants", "cityscapes", ("vegetation",)),
        ("ground", "camvid", ("road", "pavement")),
        ("ground", "cityscapes", ("road", "sidewalk", "terrain")),
        ("water", "coco_panoptic", ("river", "sea", "water-other")),
        ("ocean", "ade20k", ("sea",)),
    ],
)
def test_names_mean_classes(name, vocabulary, classes):
    assert meant(name, vocabulary) == classes


def test_an_alias_of_several_classes_is_no_guess():
    with pytest.raises(ConfigError, match="wall-brick or wall-concrete"):
        meant("wall", "coco_stuff")
    with pytest.raises(ConfigError, match="could mean person or pedestrian"):
        resolve("people", ("person", "pedestrian"))


@pytest.mark.parametrize("vocabulary", COUNTS)
def test_every_class_is_itself(vocabulary):
    classes = tuple(VOCABULARIES[vocabulary])
    assert [resolve(name, classes).classes for name in classes] == [(name,) for name in classes]


@pytest.mark.parametrize("vocabulary", COUNTS)
def test_people_animals_vehicles_furniture_and_buildings_share_nothing(vocabulary):
    groups = groups_of(tuple(VOCABULARIES[vocabulary]))
    names = [
        n
        for group in ("animals", "vehicles", "furniture", "buildings", "nature")
        for n in groups.get(group, ())
    ]
    assert len(names) == len(set(names))


def test_a_data_sets_synonyms_hold_for_its_segmenters_only():
    assert meant("dustbin", "ade20k") == ("ashcan",)
    assert "dustbin" not in aliases_of(("ashcan", "car"))


def test_names_are_read_without_torch():
    code = "import sys; from cbs_core.words import names, vocabularies as v; v.get('ade20k'); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("word", "classes", "said"),
    [
        ("child", ("background", "chair", "person"), "the nearest in meaning is 'person' "),
        ("Clouds", ("sky", "couch"), "the nearest in meaning is 'sky' "),
        ("puppies", ("cat", "dog"), "the nearest in meaning is 'dog' "),
        ("laptop", ("car", "television"), "the nearest in meaning is 'television' "),
        ("house", ("horse", "car"), "no class 'house' ("),  # a word that others know is no slip
        ("hosre", ("horse", "car"), "did you mean 'horse'?"),
        ("all", ("wall", "car"), "the nearest in meaning is 'everything' "),
        ("others", ("wall", "car"), "the nearest in meaning is 'rest' "),
        ("foreground", ("ground", "car"), "the nearest in meaning is 'not background' "),
    ],
)
def test_an_unknown_word_is_offered_what_is_near_in_meaning(word, classes, said):
    with pytest.raises(UnknownClassError) as error:
        resolve(word, classes)
    assert said in str(error.value)
    # Of a slip alone it is known which word was meant.
    assert error.value.near == ("did you mean" in said)


def test_what_words_are_near_to_is_a_class_somewhere():
    every = {name for table in VOCABULARIES.values() for name in table}
    every |= {*names.LEFT, names.SUBJECTS}
    for near, _ in names._near():
        assert plain(near) in map(plain, every)
