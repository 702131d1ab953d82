"""The files of a labelled set, and what a variant of each is called, in the set's own layout."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cbs_core.contract.errors import ConfigError
from cbs_core.datasets.labelled import LabelledSet, Pair, find
from cbs_core.datasets.outlines import Coco, DamagedError, coco_of, yaml_of

SPLITS = ("train", "val", "test")

ORIGINAL = 0
"""The number of the variant that is the picture itself."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a set; a variant's name has its number before ``tail``."""

    source: Path
    head: str
    """``train/0001TP_006690``, below the set's folder, with slashes."""

    tail: str
    """``.png``, ``_gtFine_labelIds.png``."""

    def named(self, variant: int) -> str:
        """Returns the name of a variant of it, below the set's folder."""
        return f"{self.head}{'' if variant == ORIGINAL else f'_v{variant}'}{self.tail}"


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a set and all files that belong to it."""

    pair: Pair
    picture: File
    labels: tuple[File, ...]
    """Copied as they are."""

    @property
    def name(self) -> str:
        """What the picture is called in its set."""
        return self.picture.named(ORIGINAL)


Index = Callable[[Sequence[tuple[Item, int]]], Mapping[str, bytes]]
"""Returns the files that list a set's pictures, by name, of all pictures and their variants."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A set as its files lie."""

    labelled: LabelledSet
    """The split whose pictures become variants."""

    items: tuple[Item, ...]
    others: tuple[Item, ...]
    """Of the other splits, which stay as they are."""

    index: Index
    common: tuple[File, ...] = ()
    """Files of the whole set, such as classes.txt."""


def opened(data: str | Path, split: str | None, vocabulary: str | None, *, others: bool) -> Layout:
    """Returns the set that lies at a place (`cbs_core.datasets.labelled.find`).

    Args:
        data: its folder, table or name.
        split: whose pictures become variants; None for a layout without.
        vocabulary: of the ids, where the layout does not tell it.
        others: whether the other splits belong to what is made.

    Raises:
        ConfigError: there is no such set.
    """
    found = find(data, split, vocabulary)
    itemised, index, common = _KINDS[found.layout](found)
    items = tuple(itemised(pair, split) for pair in found.pairs)
    taken = {item.name for item in items}
    more: dict[str, Item] = {}
    for other in SPLITS if others and split is not None else ():
        for item in _items(data, other, vocabulary, itemised):
            if item.name not in taken:
                more[item.name] = item
    return Layout(found, items, tuple(more.values()), index, common)


def _items(
    data: str | Path, split: str, vocabulary: str | None, itemised: "Itemised"
) -> Iterable[Item]:
    try:
        found = find(data, split, vocabulary)
    except DamagedError:
        raise
    except ConfigError:  # it has none such
        return
    for pair in found.pairs:
        yield itemised(pair, split)


Itemised = Callable[[Pair, str | None], Item]
Kind = Callable[[LabelledSet], tuple[Itemised, Index, tuple[File, ...]]]


def _file(path: Path, root: Path, tail: str = "") -> File:
    if not path.is_relative_to(root) or ".." in path.relative_to(root).parts:
        raise ConfigError(f"'{path}' is not in the set '{root}': put it there")
    below = PurePosixPath(path.relative_to(root).as_posix())
    tail = tail or below.suffix
    return File(path, str(below).removesuffix(tail), tail)


def _plain(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    """Of ``camvid`` and ``folder``: a picture, and a label picture of its name."""
    root = found.root

    def itemised(pair: Pair, split: str | None) -> Item:
        return Item(pair, _file(pair.picture, root), (_file(pair.labels, root),))

    names = root / "classes.txt"
    return itemised, lambda made: {}, (_file(names, root),) if names.is_file() else ()


def _cityscapes(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    root = found.root
    listed: dict[Path, dict[str, list[Path]]] = {}

    def itemised(pair: Pair, split: str | None) -> Item:
        stem = pair.picture.name.removesuffix("_leftImg8bit.png")
        folder = pair.labels.parent
        if folder not in listed:  # once: a city may have thousands
            listed[folder] = {}
            for path in sorted(folder.iterdir()):
                listed[folder].setdefault(path.name.partition("_gtFine_")[0], []).append(path)
        of_it = listed[folder][stem]
        labels = tuple(_file(path, root, path.name.removeprefix(stem)) for path in of_it)
        return Item(pair, _file(pair.picture, root, "_leftImg8bit.png"), labels)

    return itemised, lambda made: {}, ()


def _voc(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    root = found.root
    splits: dict[str, dict[str, None]] = {}
    """Of each picture; its variants belong to the first, which is the one that was asked for."""

    def itemised(pair: Pair, split: str | None) -> Item:
        stem = pair.picture.stem
        more = (f"SegmentationObject/{stem}.png", f"Annotations/{stem}.xml")
        labels = (pair.labels, *(root / name for name in more if (root / name).is_file()))
        item = Item(pair, _file(pair.picture, root), tuple(_file(path, root) for path in labels))
        splits.setdefault(item.name, {})[str(split)] = None
        return item

    def index(made: Sequence[tuple[Item, int]]) -> Mapping[str, bytes]:
        listed: dict[str, list[str]] = {}
        for item, variant in made:
            name = PurePosixPath(item.picture.named(variant)).stem
            for split in [*splits[item.name]][: None if variant == ORIGINAL else 1]:
                listed.setdefault(split, []).append(name)
        return {
            f"ImageSets/Segmentation/{split}.txt": "".join(f"{n}\n" for n in names).encode()
            for split, names in listed.items()
        }

    return itemised, index, ()


def _table(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    root = found.root.parent
    with found.root.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = {PurePosixPath(row["file"]).as_posix(): row for row in reader}
        columns = reader.fieldnames or ()

    def itemised(pair: Pair, split: str | None) -> Item:
        return Item(pair, _file(pair.picture, root), (_file(pair.labels, root),))

    def index(made: Sequence[tuple[Item, int]]) -> Mapping[str, bytes]:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for item, variant in made:
            writer.writerow({**rows[item.name], "file": item.picture.named(variant)})
        return {found.root.name: text.getvalue().encode()}

    return itemised, index, ()


def _coco(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    """Of ``coco`` and ``panoptic``: annotations are in a file a split, which a variant is added to.

    What they say of a picture is the same in it, but for the numbers of picture and annotation.
    """
    root = found.root if found.root.is_dir() else found.root.parent.parent

    def itemised(pair: Pair, split: str | None) -> Item:
        picture, coco = _file(pair.picture, root), coco_of(pair.labels)
        of_it = [coco.segment_file(_number(coco, pair, root))] if coco.panoptic else []
        return Item(pair, picture, tuple(_file(segments, root) for segments in of_it))

    def index(made: Sequence[tuple[Item, int]]) -> Mapping[str, bytes]:
        files: dict[Path, list[tuple[Item, int]]] = {}
        for item, variant in made:
            files.setdefault(item.pair.labels, []).append((item, variant))
        return {
            file.relative_to(root).as_posix(): _annotations(coco_of(file), of_it, root)
            for file, of_it in files.items()
        }

    return itemised, index, ()


def _number(coco: Coco, pair: Pair, root: Path) -> int:
    """Returns COCO's number of a picture."""
    below = pair.picture.relative_to(root).as_posix()
    known = coco.by_name
    while below not in known:  # names begin at the folder of the split, or deeper
        below = below.partition("/")[2]
        assert below
    return known[below]


def _annotations(coco: Coco, made: Sequence[tuple[Item, int]], root: Path) -> bytes:
    """Returns the annotations of pictures and their variants, in COCO's own form."""
    if all(variant == ORIGINAL for _, variant in made) and len(made) == len(coco.images):
        return coco.file.read_bytes()
    images, annotations = [], []
    last = max(coco.images)
    ids = (one["id"] for own in coco.annotations.values() for one in own if "id" in one)
    last_annotation = max(ids, default=0)
    for item, variant in made:
        number = _number(coco, item.pair, root)
        image, own = dict(coco.images[number]), coco.annotations.get(number, [])
        if variant != ORIGINAL:
            last += 1
            image |= {"id": last, "file_name": _variant_name(str(image["file_name"]), variant)}
        images.append(image)
        for one in own:
            new = {**one, "image_id": image["id"]}
            if variant != ORIGINAL and "id" in one:
                last_annotation += 1
                new["id"] = last_annotation
            if variant != ORIGINAL and "file_name" in one:
                new["file_name"] = _variant_name(str(one["file_name"]), variant)
            annotations.append(new)
    return json.dumps({**coco.content, "images": images, "annotations": annotations}).encode()


def _variant_name(name: str, variant: int) -> str:
    path = PurePosixPath(name)
    return File(Path(), str(path).removesuffix(path.suffix), path.suffix).named(variant)


def _yolo(found: LabelledSet) -> tuple[Itemised, Index, tuple[File, ...]]:
    """Of ``yolo``: an outline file a picture, and ``data.yaml`` without the old folder's path."""
    root, names = found.root, yaml_of(found.root)

    def itemised(pair: Pair, split: str | None) -> Item:
        return Item(pair, _file(pair.picture, root), (_file(pair.labels, root),))

    def index(made: Sequence[tuple[Item, int]]) -> Mapping[str, bytes]:
        lines = names.read_bytes().splitlines(keepends=True)
        return {names.name: b"".join(line for line in lines if not line.startswith(b"path:"))}

    return itemised, index, ()


_KINDS: dict[str, Kind] = {
    "camvid": _plain,
    "folder": _plain,
    "cityscapes": _cityscapes,
    "voc": _voc,
    "table": _table,
    "coco": _coco,
    "panoptic": _coco,
    "yolo": _yolo,
}
"""By `LabelledSet.layout`."""
