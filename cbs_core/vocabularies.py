"""Class names and display colours of the data sets that segmenters are trained on.

Sources: Cityscapes' trainIds and palette (cityscapesScripts ``labels.py``), CamVid's 11 classes
(SegNet's split and palette), PASCAL VOC 2012 (devkit, ``VOClabelcolormap``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from cbs_core.errors import ConfigError, WeightsKeysError, closest

Colour: TypeAlias = tuple[int, int, int]
"""RGB, 0..255."""

CITYSCAPES: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

CAMVID: dict[str, Colour] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


def _voc_colour(index: int) -> Colour:
    """VOClabelcolormap: each bit triple of the index sets the next lower bit of R, G and B."""
    channels = [0, 0, 0]
    for shift in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * shift + channel) & 1) << (7 - shift)
    return channels[0], channels[1], channels[2]


VOC: dict[str, Colour] = {
    name: _voc_colour(index)
    for index, name in enumerate(
        [
            *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
            *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
            *("sheep", "sofa", "train", "tvmonitor"),
        ]
    )
}

VOCABULARIES: dict[str, dict[str, Colour]] = {
    "cityscapes": CITYSCAPES,
    "camvid": CAMVID,
    "voc": VOC,
}


def by_class_count(count: int) -> str | None:
    """Returns the vocabulary with this many classes (19, 11 or 21), or None."""
    return next((name for name, words in VOCABULARIES.items() if len(words) == count), None)


def get(name: str) -> dict[str, Colour]:
    """Returns a vocabulary by its name.

    Raises:
        ConfigError: no such vocabulary.
    """
    if name not in VOCABULARIES:
        raise ConfigError(
            f"unknown vocabulary '{name}'{closest(name, VOCABULARIES)} "
            f"(there are: {', '.join(VOCABULARIES)})"
        )
    return VOCABULARIES[name]


def of_weights(file: Path, count: int, name: str | None) -> str:
    """Returns the vocabulary that the classes of a weight file belong to.

    Args:
        file: the weight file, for the message.
        count: how many classes its tensors have.
        name: the vocabulary that the user or the file names; None is told by the count.

    Raises:
        ConfigError: no such vocabulary.
        WeightsKeysError: its number of classes is not the file's.
    """
    if name is None:
        name = by_class_count(count)
    elif len(get(name)) != count:
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, the vocabulary '{name}' "
            f"has {len(get(name))}. Give another segmenter.weights or segmenter.vocabulary"
        )
    if name is None:
        counts = ", ".join(f"{known} {len(words)}" for known, words in VOCABULARIES.items())
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, which no vocabulary has "
            f"({counts}). Give other weights"
        )
    return name


def colours(classes: Sequence[str]) -> list[Colour]:
    """Returns a display colour a class: the data set's own where the names are its, else VOC's."""
    for words in VOCABULARIES.values():
        if list(words) == list(classes):
            return list(words.values())
    return [_voc_colour(index + 1) for index in range(len(classes))]
