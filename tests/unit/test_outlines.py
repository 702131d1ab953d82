"""Sets whose labels are outlines: COCO's instances and panoptic segments, YOLO's polygons."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbs_core.augment.sets import ORIGINAL, opened
from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.datasets.labelled import IGNORE, find

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "kite"}]


def picture(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco(root: Path) -> Path:
    """Makes a set of two pictures: a small kite before a car, and a kite in run lengths."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 8, "height": 6} for n in (4, 9)]
    annotations = [
        {"id": 1, "image_id": 4, "category_id": 7, "segmentation": square(2, 2, 2), "iscrowd": 0},
        {"id": 2, "image_id": 4, "category_id": 3, "segmentation": square(0, 0, 5), "iscrowd": 0},
        {
            "id": 5,
            "image_id": 9,
            "category_id": 7,
            "segmentation": {"size": [6, 8], "counts": [6, 12, 30]},
            "iscrowd": 1,
        },
    ]
    for split in ("train2017", "val2017"):
        for one in images:
            picture(root / split / one["file_name"])
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return root


def panoptic(root: Path) -> Path:
    for split in ("train2017", "val2017"):
        picture(root / split / "4.jpg")
        segments = np.zeros((6, 8, 3), np.uint8)
        segments[:, :4] = (1, 2, 3)
        segments[:, 4:6] = (9, 0, 0)
        folder = root / "annotations" / f"panoptic_{split}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(segments).save(folder / "4.png")
        told = [
            {"id": 1 + (2 << 8) + (3 << 16), "category_id": 7},
            {"id": 9, "category_id": 3},
        ]
        content = {
            "images": [{"id": 4, "file_name": "4.jpg", "width": 8, "height": 6}],
            "annotations": [{"image_id": 4, "file_name": "4.png", "segments_info": told}],
            "categories": CATEGORIES,
        }
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
    return root


def yolo(root: Path) -> Path:
    for split in ("train", "val"):
        picture(root / f"images/{split}/a.jpg")
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/a.txt").write_text(
            "1 0.25 0.3334 0.5 0.3334 0.5 0.6667 0.25 0.6667\n0 0 0 0.625 0 0.625 1 0 1\n"
        )
    (root / "data.yaml").write_text(
        "path: /elsewhere\ntrain: images/train\nnames: {0: car, 1: kite}\n"
    )
    return root


def test_cocos_instances(tmp_path) -> None:
    pytest.importorskip("pycocotools")
    found = find(coco(tmp_path), "train")
    assert found.classes == ("background", "car", "kite")
    assert [pair.picture.name for pair in found.pairs] == ["4.jpg", "9.jpg"]
    _, labels = found.read(found.pairs[0])
    assert labels[2:4, 2:4].tolist() == [[2, 2], [2, 2]]  # the smaller one is in front
    assert (labels == 1).sum() == 5 * 5 - 4
    assert (found.read(found.pairs[1])[1][:, 1:3] == 2).all()  # run lengths go down the columns
    assert (found.read(found.pairs[1])[1] == 2).sum() == 12
    alone = find(tmp_path / "annotations" / "instances_val2017.json", None)
    assert [pair.picture.parent.name for pair in alone.pairs] == ["val2017"] * 2


def test_ids_are_the_same_whatever_the_order_of_categories(tmp_path) -> None:
    pytest.importorskip("pycocotools")
    file = coco(tmp_path) / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["categories"] = [*reversed(CATEGORIES), {"id": 8, "name": "background"}]
    file.write_text(json.dumps(content))
    found = find(tmp_path, "train")
    assert found.classes == ("car", "kite", "background")
    labels = found.read(found.pairs[1])[1]
    assert ((labels == 1).sum(), (labels == 2).sum()) == (12, 48 - 12)


def test_names_of_coco_that_begin_with_the_folder_itself(tmp_path) -> None:
    file = panoptic(tmp_path / "old") / "annotations/panoptic_train2017.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "./4.jpg"
    file.write_text(json.dumps(content))
    (item,) = opened(tmp_path / "old", "train", None, others=False).items
    assert (item.name, len(item.labels)) == ("train2017/4.jpg", 1)
    picture(tmp_path / "4.jpg")
    for outside in ("../../4.jpg", str(tmp_path / "4.jpg")):
        content["images"][0]["file_name"] = outside
        file.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="is not in the set"):
            opened(tmp_path / "old", "train", None, others=False)


def test_another_split_that_is_damaged_is_told(tmp_path) -> None:
    (coco(tmp_path) / "annotations/instances_val2017.json").write_text("{}")
    assert opened(tmp_path, "train", None, others=False).items
    with pytest.raises(ConfigError, match=r"instances_val2017.*holds no annotations"):
        opened(tmp_path, "train", None, others=True)


def test_vocs_variants_are_of_the_split_that_was_asked_for(tmp_path) -> None:
    for name in "ab":
        picture(tmp_path / f"JPEGImages/{name}.jpg")
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        Image.new("L", (8, 6)).save(tmp_path / f"SegmentationClass/{name}.png")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, names in (("trainval", "a\nb\n"), ("train", "a\n"), ("val", "b\n")):
        (lists / f"{split}.txt").write_text(names)
    layout = opened(tmp_path, "trainval", None, others=True)
    made = [(item, variant) for item in layout.items for variant in (ORIGINAL, 1)]
    assert layout.index(made) == {
        "ImageSets/Segmentation/trainval.txt": b"a\na_v1\nb\nb_v1\n",
        "ImageSets/Segmentation/train.txt": b"a\n",
        "ImageSets/Segmentation/val.txt": b"b\n",
    }


def test_a_tables_names_may_begin_with_the_folder_itself(tmp_path) -> None:
    picture(tmp_path / "photos/a.jpg")
    (tmp_path / "photo_masks").mkdir()
    Image.new("L", (8, 6)).save(tmp_path / "photo_masks/a.png")
    (tmp_path / "photos.csv").write_text("file,has_mask,split\n./photos/a.jpg,1,train\n")
    layout = opened(tmp_path / "photos.csv", "train", None, others=False)
    written = layout.index([(layout.items[0], 1)])
    assert written == {"photos.csv": b"file,has_mask,split\nphotos/a_v1.jpg,1,train\n"}


def test_cityscapes_own_files_go_with_a_picture(tmp_path) -> None:
    for name in ("x_000000_000001", "x_000000_000002"):
        picture(tmp_path / f"leftImg8bit/train/x/{name}_leftImg8bit.png")
        for kind in ("labelTrainIds.png", "polygons.json"):
            path = tmp_path / f"gtFine/train/x/{name}_gtFine_{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    item = opened(tmp_path, "train", None, others=False).items[1]
    assert [file.named(1) for file in item.labels] == [
        "gtFine/train/x/x_000000_000002_v1_gtFine_labelTrainIds.png",
        "gtFine/train/x/x_000000_000002_v1_gtFine_polygons.json",
    ]


def test_cocos_panoptic_segments_go_first(tmp_path) -> None:
    found = find(panoptic(coco(tmp_path)), "train")
    assert (found.layout, found.classes) == ("panoptic", ("car", "kite"))
    assert found.read(found.pairs[0])[1][0].tolist() == [1, 1, 1, 1, 0, 0, IGNORE, IGNORE]


def test_yolos_outlines(tmp_path) -> None:
    found = find(yolo(tmp_path), "val")
    assert found.classes == ("background", "car", "kite")
    labels = found.read(found.pairs[0])[1]
    assert labels[2:4, 2:4].tolist() == [[2, 2], [2, 2]]
    assert (labels[0, :5] == 1).all()
    assert (labels[:, 6:] == 0).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1: a box, where an outline is due"),
        ("2 0 0 1 0 1 1", "a class below 2"),
        ("0 0 0 1 0 1", "x y of three points or more"),
        ("0 a b", "no outline"),
    ],
)
def test_what_is_no_outline_is_told(tmp_path, line, message) -> None:
    found = find(yolo(tmp_path), "val")
    (tmp_path / "labels/val/a.txt").write_text(line)
    with pytest.raises(SourceError, match=message):
        found.read(found.pairs[0])


def test_damaged_annotations_are_told(tmp_path) -> None:
    coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no annotations of COCO"):
        find(tmp_path, "train")
    (tmp_path / "names").mkdir()
    root = yolo(tmp_path / "names")
    (root / "data.yaml").write_text("train: images/train\n")
    with pytest.raises(ConfigError, match="nothing names the classes"):
        find(root, "train")


BOMB = "names: [x]\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "stands for more than"),
        ("names: &a [*a]", "alias of what it lies in"),
        (f"names: {'[' * 5000}", "deep|nesting depth"),
        ("names: 3", "names no classes"),
        ("names: {a: b}", "names no classes"),
        ("'names:': 3", "names no classes"),
    ],
)
def test_a_description_of_a_strangers_is_bounded(tmp_path, text, told) -> None:
    root = yolo(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        find(root, "train")


def test_a_pipe_beside_a_description_is_not_waited_for(tmp_path) -> None:
    root = yolo(tmp_path)
    os.mkfifo(root / "a.yaml")
    assert find(root, "train").classes == ("background", "car", "kite")


@pytest.mark.parametrize("make", [coco, panoptic, yolo])
def test_a_variant_has_the_labels_of_its_picture(tmp_path, make) -> None:
    pytest.importorskip("pycocotools")
    old, new = make(tmp_path / "old"), tmp_path / "new"
    layout = opened(old, "train", None, others=True)
    made = [(item, variant) for item in layout.items for variant in (ORIGINAL, 1)]
    made += [(item, ORIGINAL) for item in layout.others]
    for item, variant in made:
        for file in (item.picture, *item.labels):
            target = new / file.named(variant)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.source.read_bytes())
    for name, data in layout.index(made).items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_bytes(data)
    before, after = find(old, "train"), find(new, "train")
    assert after.classes == before.classes
    assert len(after.pairs) == 2 * len(before.pairs)
    for pair in after.pairs:
        name = pair.picture.name.replace("_v1", "")
        (same,) = [one for one in before.pairs if one.picture.name == name]
        assert (after.read(pair)[1] == before.read(same)[1]).all()
    assert len(find(new, "val").pairs) == len(find(old, "val").pairs)


def test_cocos_other_splits_and_numbers(tmp_path) -> None:
    layout = opened(coco(tmp_path), "train", None, others=True)
    made = [(item, variant) for item in layout.items for variant in (ORIGINAL, 1, 2)]
    written = layout.index([*made, *((item, ORIGINAL) for item in layout.others)])
    old = (tmp_path / "annotations/instances_val2017.json").read_bytes()
    assert written["annotations/instances_val2017.json"] == old
    content = json.loads(written["annotations/instances_train2017.json"])
    assert [one["id"] for one in content["images"]] == [4, 10, 11, 9, 12, 13]
    ids = [one["id"] for one in content["annotations"]]
    assert len(set(ids)) == len(ids) == 9
    assert content["annotations"][-1]["segmentation"] == {"size": [6, 8], "counts": [6, 12, 30]}
    assert content["annotations"][-1]["image_id"] == 13


def test_a_yolo_set_is_found_where_it_lies(tmp_path) -> None:
    layout = opened(yolo(tmp_path), "train", None, others=True)
    assert layout.index([])["data.yaml"] == b"train: images/train\nnames: {0: car, 1: kite}\n"
    assert layout.items[0].labels[0].named(1) == "labels/train/a_v1.txt"
