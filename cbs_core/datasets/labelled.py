"""Labelled sets of pictures: where the files are, and what the ids in the label pictures mean.

Labels are of the picture upright, as people see it: a photograph that is stored sideways is turned
by its EXIF orientation, a label picture is taken as it is, whatever EXIF it may have.

Letters: ``H W`` the picture.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cbs_core.contract.errors import ConfigError, SourceError, closest
from cbs_core.datasets import outlines
from cbs_core.machine.inputs import decoded, picture_formats, refuse_pipe, to_8_bit
from cbs_core.words import vocabularies

IGNORE = 255
"""The label of pixels that count for nothing."""

NOT_PERSON = 254
"""The label of pixels of which only that is known; measures of other classes ignore them."""

IGNORED_IDS = {
    "camvid": (11,),  # the unlabelled class of SegNet's files
    "voc": (NOT_PERSON,),
    "scene": (NOT_PERSON,),
}
"""Vocabulary -> ids, besides 255, that are no unknown labels."""

SETS = {
    "camvid": ("camvid",),
    "cityscapes": ("cityscapes",),
    "voc": ("photos.csv", "VOCdevkit/VOC2012", "voc"),
}
"""A name that ``data=`` may give -> places to look for it."""

_USUAL = ("train", "val", "test")
"""Splits that a command may ask for by itself, also of a set without any."""


class Pair(NamedTuple):
    """A picture and its labels."""

    picture: Path
    labels: Path


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Pictures with a label for each pixel."""

    classes: tuple[str, ...]
    """Names of the ids 0, 1, ..."""

    pairs: tuple[Pair, ...]
    """Sorted by name."""

    ignored: tuple[int, ...] = ()
    """Ids, besides 255, that stand for no class."""

    layout: str = ""
    """How its files lie, as `find` names it."""

    root: Path = Path()
    """Where they lie."""

    unlabelled: tuple[str, ...] = ()
    """Pictures that have no labels, by name: they are no part of it."""

    outlines: Callable[[Path, Path], NDArray[np.uint8]] | None = None
    """Reads a pair's labels where they are outlines; None: they are pictures."""

    def read(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Returns a picture, RGB ``(H,W,3)``, and its labels ``(H,W)`` as `read_labels` does.

        Raises:
            SourceError: a file cannot be read, the labels are of another size than the picture, or
                hold an id that is no class.
        """
        picture, labels = read_rgb(pair.picture), self.read_labels(pair)
        if labels.shape != picture.shape[:2]:
            advice = "make both one size"
            if labels.shape[::-1] == picture.shape[:2]:
                advice += ", and where its EXIF orientation turns the picture, turn the labels too"
            raise SourceError(
                f"the labels '{pair.labels}' are {labels.shape[1]}x{labels.shape[0]}, their "
                f"picture is {picture.shape[1]}x{picture.shape[0]}: {advice}"
            )
        return picture, labels

    def read_labels(self, pair: Pair) -> NDArray[np.uint8]:
        """Returns the labels ``(H,W)``: ids of classes, `IGNORE` or, where used, `NOT_PERSON`.

        Raises:
            SourceError: the file cannot be read, or holds an id that is no class.
        """
        labels = self.outlines(*pair) if self.outlines else _read_ids(pair.labels)
        known = {*range(len(self.classes)), IGNORE, *self.ignored}
        if unknown := sorted(set(np.unique(labels).tolist()) - known):
            raise SourceError(
                f"'{pair.labels}' holds the label id {unknown[0]}, which is none of the "
                f"{len(self.classes)} classes (0..{len(self.classes) - 1}, {IGNORE} is ignored)"
            )
        for value in self.ignored:
            if value != NOT_PERSON:
                labels = np.where(labels == value, np.uint8(IGNORE), labels)
        return labels


def find(data: str | Path, split: str | None, vocabulary: str | None = None) -> LabelledSet:
    """Returns the labelled set that lies at a place; its layout tells what it is.

    ======================  =======================================================================
    layout                  files
    ======================  =======================================================================
    camvid                  ``SPLIT/*``, ``SPLIT_labels/*.png``
    cityscapes              ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png``,
                            ``gtFine/SPLIT/CITY/*_gtFine_labelTrainIds.png``
    voc                     ``JPEGImages``, ``SegmentationClass``,
                            ``ImageSets/Segmentation/SPLIT.txt``
    a table                 a CSV with ``file``, ``has_mask`` and ``split``; the labels of
                            ``photos/a.jpg`` are ``photo_masks/a.png``, or what a column
                            ``labels`` says, VOC's ids or those of ``vocabulary``
    coco                    ``annotations/instances_SPLIT.json`` (``train2017`` or ``train``), or
                            ``panoptic_SPLIT.json`` and its folder of segments, which goes first;
                            pictures in ``SPLIT`` or ``images/SPLIT``; or such a JSON file itself
    yolo                    ``images/SPLIT/*``, ``labels/SPLIT/*.txt`` of outlines (or ``SPLIT/``
                            first), and a ``data.yaml`` with ``names``
    any other               ``images/*``, ``labels/*.png``, and in ``classes.txt`` a name a line
    ======================  =======================================================================

    Args:
        data: a folder, a table, or a name in `SETS`, looked for in ``$CBS_DATA`` and ``./data``.
        split: ``train``, ``val``, ``test``; None for a layout without.
        vocabulary: of the ids, where the layout does not tell it.

    Raises:
        ConfigError: no such place, split or vocabulary, or no pictures with labels.
    """
    root = place(data)
    if (outlined := outlines.found(root, split)) is not None:
        drawn = tuple(sorted(Pair(*pair) for pair in outlined.pairs if pair[1].is_file()))
        _check_any(drawn, root, split)
        return LabelledSet(
            outlined.classes, drawn, (), outlined.layout, root, outlines=outlined.read
        )
    layout, pairs = _pairs(root, split)
    lies = "table" if root.is_file() else layout
    if layout == "folder" and vocabulary is None and (root / "classes.txt").is_file():
        names = _text(root / "classes.txt").splitlines()
        classes = tuple(name.strip() for name in names if name.strip())
        if not classes:
            raise ConfigError(f"'{root / 'classes.txt'}' names no class: write a line each")
    elif layout == "folder" and vocabulary is None:
        raise ConfigError(
            f"nothing names the classes of '{root}': write them into its classes.txt, a line each, "
            "or say vocabulary=NAME"
        )
    else:
        tells = layout != "folder" and not (root.is_file() and vocabulary)
        layout = layout if tells else str(vocabulary)
        classes = tuple(vocabularies.get(layout))
    listed = sorted(pairs)
    found = tuple(pair for pair in listed if pair.labels.is_file())
    _check_any(found, root, split)
    without = tuple(pair.picture.name for pair in listed if not pair.labels.is_file())
    return LabelledSet(classes, found, IGNORED_IDS.get(layout, ()), lies, root, without)


def _check_any(pairs: Sequence[Pair], root: Path, split: str | None) -> None:
    if not pairs:
        of = f" of the split '{split}'" if split else ""
        raise ConfigError(f"'{root}' holds no pictures with labels{of}: check data= and split=")


def place(data: str | Path) -> Path:
    """Returns the folder or the table that ``data`` names.

    Raises:
        ConfigError: there is none.
    """
    root = Path(data).expanduser()
    refuse_pipe(root)
    if root.exists():
        return root
    folders = [Path(p) for p in os.environ.get("CBS_DATA", "").split(os.pathsep) if p]
    for folder in (*folders, Path("data")):
        for name in SETS.get(str(data), ()):
            if (folder / name).exists():
                return folder / name
    if str(data) in SETS:
        raise ConfigError(
            f"data={data}: it was found neither in $CBS_DATA nor in ./data: give its folder"
        )
    raise ConfigError(f"no folder or table '{data}'{closest(str(data), SETS)}: check data=")


def _pairs(root: Path, split: str | None) -> tuple[str, Iterator[Pair]]:
    """Returns the vocabulary of a place, or ``folder``, and its pictures with their labels."""
    if root.is_file():
        return "voc", _of_table(root, split)
    if (root / "images").is_dir() and (root / "labels").is_dir():
        if split not in (None, *_USUAL):
            raise ConfigError(f"'{root}' has no splits, and split={split} is none: say split=null")
        return "folder", _beside(root / "images", root / "labels")
    if split is None:
        raise ConfigError(f"'{root}' has splits: say split=train, val or test")
    if (root / "gtFine").is_dir():
        return "cityscapes", _of_cityscapes(root, split)
    if (root / "SegmentationClass").is_dir():
        return "voc", _of_voc(root, split)
    if (root / split).is_dir() and (root / f"{split}_labels").is_dir():
        return "camvid", _beside(root / split, root / f"{split}_labels")
    raise ConfigError(
        f"'{root}' holds no labelled pictures of a known layout (images/ and labels/, or {split}/ "
        f"and {split}_labels/, ...): check data= and split="
    )


def _beside(pictures: Path, labels: Path) -> Iterator[Pair]:
    return (Pair(path, labels / f"{path.stem}.png") for path in pictures.iterdir())


def _of_cityscapes(root: Path, split: str) -> Iterator[Pair]:
    ending = "_leftImg8bit.png"
    for path in (root / "leftImg8bit" / split).glob(f"*/*{ending}"):
        name = path.name.removesuffix(ending) + "_gtFine_labelTrainIds.png"
        yield Pair(path, root / "gtFine" / split / path.parent.name / name)


def _of_voc(root: Path, split: str) -> Iterator[Pair]:
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.is_file():
        raise ConfigError(f"no split '{split}' in '{root}': there is no {listing.name}")
    for name in _text(listing).split():
        yield Pair(root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png")


def _of_table(table: Path, split: str | None) -> Iterator[Pair]:
    try:
        rows = list(csv.DictReader(io.StringIO(_text(table), newline="")))
    except csv.Error as error:
        raise ConfigError(f"'{table}' is no table that can be read ({error}): check it") from error
    if rows and not rows[0].keys() >= {"file", "has_mask", "split"}:
        raise ConfigError(f"'{table}' has no columns file, has_mask and split: it tells no labels")
    for row in rows:
        if row["has_mask"] == "1" and split in (None, row["split"]):
            path = table.parent / row["file"]
            labels = row.get("labels") or f"photo_masks/{path.stem}.png"
            yield Pair(path, table.parent / labels)


def _text(path: Path) -> str:
    refuse_pipe(path)
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"'{path}' is no text in UTF-8 ({error}): check data=, or save it in UTF-8"
        ) from error


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Returns a picture, RGB ``(H,W,3)``, upright after its EXIF orientation.

    Raises:
        SourceError: it cannot be read.
    """
    return _read(path, _rgb).astype(np.uint8, copy=False)


def _rgb(image: Image.Image) -> NDArray[np.generic]:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return np.stack([to_8_bit(np.asarray(image))] * 3, axis=-1)
    return np.array(image.convert("RGB"))


def _read_ids(path: Path) -> NDArray[np.uint8]:
    found = _read(path, np.array)
    if found.ndim != 2:
        raise SourceError(f"'{path}' holds colours: labels are pictures of one channel, an id each")
    labels = found.astype(np.uint8)
    if (wide := found[labels != found]).size:
        raise SourceError(f"'{path}' holds the label id {wide[0]}, and ids are 0..255")
    return labels


def _read(path: Path, made: Callable[[Image.Image], NDArray[np.generic]]) -> NDArray[np.generic]:
    refuse_pipe(path)
    try:
        with Image.open(path, formats=picture_formats()) as image:
            return made(decoded(path, image))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        reason = str(error).partition("\n")[0]
        raise SourceError(f"'{path}' is no picture that can be read ({reason})") from error


def class_map(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.int64]:
    """Returns for each class of a model the id of the set's class of that name or alias.

    A class that the set does not know is its ``background``, where it has one and the model has
    not, else ``len(theirs)``: whatever the truth, such a pixel is wrong.

    Args:
        ours: the model's names, in channel order.
        theirs: the set's names, by id.
    """
    from cbs_core.words.names import resolve

    other = len(theirs)
    if "background" in theirs and "background" not in ours:
        other = theirs.index("background")
    ids = []
    for name in ours:
        try:
            meaning = resolve(name, theirs)
        except ConfigError:
            ids.append(other)
        else:
            ids.append(other if meaning.is_group else theirs.index(meaning.classes[0]))
    return np.array(ids, dtype=np.int64)
