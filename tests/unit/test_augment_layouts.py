"""Whole runs of ``cbs-augment`` on a set of each layout, which is read again as the old one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbs_core.augment.session import augment_session
from cbs_core.augment.sets import ORIGINAL, opened
from cbs_core.choose.presets import defaults
from cbs_core.datasets.labelled import find
from tests.unit.test_outlines import coco, panoptic, yolo

SIZE = (24, 16)


def pair(picture: Path, labels: Path, number: int) -> None:
    """Writes a picture of chance, and labels of two classes and of none."""
    pixels = np.random.default_rng(number).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    ids = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    ids[2:9, 1:20], ids[9:] = 7, 0
    for path, content in ((picture, pixels), (labels, ids)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path)


def cityscapes(root: Path) -> Path:
    for number, split in enumerate(("train", "train", "val")):
        name = f"x_000000_00000{number}"
        labels = root / f"gtFine/{split}/x/{name}_gtFine_labelTrainIds.png"
        pair(root / f"leftImg8bit/{split}/x/{name}_leftImg8bit.png", labels, number)
        labels.with_name(f"{name}_gtFine_polygons.json").write_text('{"objects": []}')
    return root


def voc(root: Path) -> Path:
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for number, name in enumerate("abc"):
        pair(root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png", number)
    (root / "SegmentationObject").mkdir()
    (root / "SegmentationObject/a.png").write_bytes((root / "SegmentationClass/a.png").read_bytes())
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    return root


def folder(root: Path) -> Path:
    for number, name in enumerate("ab"):
        pair(root / f"images/{name}.jpg", root / f"labels/{name}.png", number)
    (root / "classes.txt").write_text("\n".join(["road", *"123456", "car"]) + "\n")
    return root


def table(root: Path) -> Path:
    rows = ["file,has_mask,split"]
    for number, name in enumerate("abc"):
        pair(root / f"photos/{name}.jpg", root / f"photo_masks/{name}.png", number)
        rows.append(f"photos/{name}.jpg,1,{'val' if name == 'c' else 'train'}")
    (root / "photos.csv").write_text("\n".join(rows) + "\n")
    return root / "photos.csv"


@pytest.mark.parametrize(
    ("make", "split", "route"),
    [
        (cityscapes, "train", "road"),
        (voc, "train", "car"),
        (coco, "train", "car"),
        (panoptic, "train", "car"),
        (yolo, "train", "car"),
        (folder, None, "road"),
        (table, "train", "car"),
    ],
)
def test_a_set_of_each_layout_is_restyled_and_read_again(
    make: Callable[[Path], Path], split: str | None, route: str, tmp_path: Path
) -> None:
    if make in (coco, panoptic):
        pytest.importorskip("pycocotools")
    old, new = make(tmp_path / "old"), tmp_path / "new"
    said = {**defaults("augment"), "data": str(old), "output": str(new), "quiet": True}
    said |= {"routes": {route: ["wave"]}, "split": split}
    assert augment_session(said) == 0
    again = new / old.name if old.is_file() else new
    before, after = find(old, split), find(again, split)
    assert (after.layout, after.classes) == (before.layout, before.classes)
    assert len(after.pairs) == 2 * len(before.pairs)
    painted = 0
    for one in after.pairs:
        (same,) = [it for it in before.pairs if it.picture.name == _plain(one.picture.name)]
        picture, labels = after.read(one)
        original, ids = before.read(same)
        assert (labels == ids).all()
        varied = one.picture.name != same.picture.name
        assert one.picture.read_bytes() == same.picture.read_bytes() or varied
        painted += varied and bool((picture != original).any())
    assert painted  # what has a pixel of the class
    _check_files(opened(old, split, None, others=True), new)
    if make in (coco, panoptic):
        _check_by_pycocotools(new, len(after.pairs))


def _plain(name: str) -> str:
    return name.replace("_v1", "")


def _check_files(layout: object, new: Path) -> None:
    """Looks whether label files are the source's to the bit, for originals and variants."""
    for item in layout.items:  # type: ignore[attr-defined]
        for variant in (ORIGINAL, 1):
            for file in item.labels:
                assert (new / file.named(variant)).read_bytes() == file.source.read_bytes()
    for item in layout.others:  # type: ignore[attr-defined]
        for file in (item.picture, *item.labels):
            assert (new / file.named(ORIGINAL)).read_bytes() == file.source.read_bytes()


def _check_by_pycocotools(new: Path, count: int) -> None:
    from pycocotools.coco import COCO

    file = next((new / "annotations").glob("*train2017.json"))
    if file.name.startswith("panoptic"):
        told = json.loads(file.read_text())
        assert len({one["id"] for one in told["images"]}) == len(told["images"]) == count
        for one in told["annotations"]:
            png = np.asarray(Image.open(new / "annotations/panoptic_train2017" / one["file_name"]))
            ids = png.astype(int) @ (1, 256, 65536)
            assert {segment["id"] for segment in one["segments_info"]} <= set(ids.flat)
        return
    read = COCO(str(file))
    assert len(read.getImgIds()) == count
    for one in read.loadAnns(read.getAnnIds()):
        assert read.annToMask(one).any()
