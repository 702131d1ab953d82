"""Finding labelled sets by their layout, and reading them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from cbs_plugins.formats.pictures import read_picture
from cbs_plugins.training.style import read_picture_chw
from PIL import Image

from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.datasets.labelled import IGNORE, NOT_PERSON, class_map, find, read_rgb
from cbs_core.words import vocabularies


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pair(picture: Path, labels: Path, ids: list[list[int]]) -> None:
    save(picture, np.zeros((len(ids), len(ids[0]), 3), np.uint8))
    save(labels, np.array(ids, np.uint8))


def test_camvids_unlabelled_class_is_ignored(tmp_path):
    for name in "ba":
        pair(tmp_path / f"test/{name}.jpg", tmp_path / f"test_labels/{name}.png", [[0, 10, 11]])
    found = find(tmp_path, "test")
    assert [p.picture.name for p in found.pairs] == ["a.jpg", "b.jpg"]
    assert found.classes == tuple(vocabularies.get("camvid"))
    assert found.read(found.pairs[0])[1].tolist() == [[0, 10, IGNORE]]


def test_a_table_keeps_what_is_known_not_to_be_a_person(tmp_path):
    for name, ids in (("a", [[15, 254, 255]]), ("b", [[0, 0, 0]])):
        pair(tmp_path / f"photos/{name}.png", tmp_path / f"photo_masks/{name}.png", ids)
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "has_mask", "split"])
        rows.writerows([["photos/a.png", "1", "val"], ["photos/b.png", "1", "train"]])
    found = find(tmp_path / "photos.csv", "val")
    assert len(found.pairs) == 1
    assert found.read(found.pairs[0])[1].tolist() == [[15, NOT_PERSON, IGNORE]]


def test_a_table_may_tell_other_labels_of_another_vocabulary(tmp_path):
    pair(tmp_path / "photos/a.png", tmp_path / "more/a_scene.png", [[22, 254, 255]])
    with (tmp_path / "scene.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "labels", "has_mask", "split"])
        rows.writerow(["photos/a.png", "more/a_scene.png", "1", "val"])
    found = find(tmp_path / "scene.csv", "val", "scene")
    assert found.classes == tuple(vocabularies.get("scene"))
    assert found.read(found.pairs[0])[1].tolist() == [[22, NOT_PERSON, IGNORE]]


def test_cityscapes_and_voc_layouts(tmp_path):
    city = tmp_path / "city"
    pair(
        city / "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png",
        city / "gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png",
        [[18, 255]],
    )
    assert len(find(city, "val").pairs) == 1
    voc = tmp_path / "voc"
    pair(voc / "JPEGImages/a.jpg", voc / "SegmentationClass/a.png", [[20, 255]])
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("a\n")
    assert find(voc, "val").classes == tuple(vocabularies.get("voc"))
    with pytest.raises(ConfigError, match="no split 'tset'"):
        find(voc, "tset")


def test_a_folder_names_its_classes(tmp_path):
    pair(tmp_path / "images/a.png", tmp_path / "labels/a.png", [[0, 1]])
    with pytest.raises(ConfigError, match=r"classes\.txt"):
        find(tmp_path, None)
    assert find(tmp_path, None, "voc").classes == tuple(vocabularies.get("voc"))
    (tmp_path / "classes.txt").write_text("sky\nkite\n")
    assert find(tmp_path, None).classes == ("sky", "kite")


def test_a_split_mistyped_is_refused_where_there_are_none(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ConfigError, match="has no splits, and split=trian is none"):
        find(tmp_path, "trian")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 2]], r"a\.png' holds the label id 2, which is none of the 2 classes"),
        ([[0, 1], [0, 1]], r"a\.png' are 2x2, their picture is 2x1"),
    ],
)
def test_wrong_labels_name_the_file(tmp_path, ids, message):
    pair(tmp_path / "images/a.png", tmp_path / "labels/a.png", ids)
    save(tmp_path / "images/a.png", np.zeros((1, 2, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("sky\nkite\n")
    found = find(tmp_path, None)
    with pytest.raises(SourceError, match=message):
        found.read(found.pairs[0])


def test_labels_of_16_bits_are_told_where_8_do_not_hold_them(tmp_path):
    pair(tmp_path / "images/a.png", tmp_path / "labels/a.png", [[0, 1]])
    (tmp_path / "classes.txt").write_text("sky\nkite\n")
    found = find(tmp_path, None)
    save(tmp_path / "labels/a.png", np.array([[0, 1]], np.uint16))
    assert found.read(found.pairs[0])[1].tolist() == [[0, 1]]
    save(tmp_path / "labels/a.png", np.array([[0, 257]], np.uint16))  # 1, in 8 bits
    with pytest.raises(SourceError, match=r"a\.png' holds the label id 257, and ids are 0\.\.255"):
        found.read(found.pairs[0])


def test_names_of_sets_are_looked_for_in_the_data_folders(tmp_path, monkeypatch):
    pair(tmp_path / "camvid/val/a.png", tmp_path / "camvid/val_labels/a.png", [[0]])
    with pytest.raises(ConfigError, match="CBS_DATA"):
        find("camvid", "val")
    monkeypatch.setenv("CBS_DATA", str(tmp_path))
    assert len(find("camvid", "val").pairs) == 1
    with pytest.raises(ConfigError, match="did you mean 'camvid'"):
        find("canvid", "val")


def test_classes_are_translated_by_name_and_alias():
    voc = tuple(vocabularies.get("voc"))
    ours = ("road", "person", "motorcycle", "car")
    assert [voc[i] for i in class_map(ours, voc)] == ["background", "person", "motorbike", "car"]
    # A model with a background of its own has no excuse for the other classes.
    assert class_map(("background", "road"), voc).tolist() == [0, len(voc)]
    assert class_map(voc, voc).tolist() == list(range(21))
    assert class_map(("car", "cat"), ("sky", "car")).tolist() == [1, 2]


def stored_sideways(path: Path, upright: np.ndarray, orientation: int) -> None:
    """Writes a JPEG whose pixels lie as the orientation says, with the tag that turns them back."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(upright).transpose(undo).save(path, quality=100, subsampling=0, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6])
def test_labels_are_those_of_the_picture_upright(tmp_path, orientation):
    labels = np.zeros((16, 32), np.uint8)
    labels[:8, :8] = 1
    upright = np.stack([labels * 200] * 3, -1)
    stored_sideways(tmp_path / "images/a.jpg", upright, orientation)
    save(tmp_path / "labels/a.png", labels)
    (tmp_path / "classes.txt").write_text("sky\nkite\n")
    found = find(tmp_path, None)
    picture, ids = found.read(found.pairs[0])
    assert picture.shape == (16, 32, 3)
    assert np.abs(picture.astype(int) - upright).max() <= 8
    assert np.array_equal(ids, labels)


def test_labels_drawn_on_the_pixels_as_they_are_stored_are_told_apart(tmp_path):
    stored_sideways(tmp_path / "images/a.jpg", np.zeros((16, 32, 3), np.uint8), 6)
    save(tmp_path / "labels/a.png", np.zeros((32, 16), np.uint8))
    (tmp_path / "classes.txt").write_text("sky\nkite\n")
    found = find(tmp_path, None)
    with pytest.raises(SourceError, match=r"are 16x32, .* is 32x16: .* EXIF orientation turns"):
        found.read(found.pairs[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_reader_of_photographs_turns_them_alike(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    have = read_rgb(tmp_path / "a.png")
    assert have.shape == ((6, 4, 3) if orientation >= 5 else (4, 6, 3))
    assert np.array_equal(have, pixels) == (orientation == 1)
    assert np.array_equal(have, read_picture(tmp_path / "a.png")[0].numpy())
    assert np.array_equal(have, read_picture_chw(tmp_path / "a.png").permute(1, 2, 0).numpy())


def test_photographs_are_read_as_runs_read_them(tmp_path):
    """A JPEG without its end marker, and grey of 16 bits, which Pillow cuts off at 255."""
    whole = save(tmp_path / "a.jpg", np.full((16, 16, 3), 90, np.uint8))
    (tmp_path / "b.jpg").write_bytes(whole.read_bytes()[:-2])
    save(tmp_path / "c.png", np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16))
    for name in ("b.jpg", "c.png"):
        have = read_rgb(tmp_path / name)
        assert np.array_equal(have, read_picture(tmp_path / name)[0].numpy())
    assert len(np.unique(have)) == 256
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(SourceError, match="no picture that can be read"):
        read_rgb(whole)


def test_what_is_no_text_in_utf_8_is_told_by_its_name(tmp_path):
    for content in (b"\x89PNG\r\n\x1a\n\0\0", "file,has_mask\nü.png,1\n".encode("latin-1")):
        (tmp_path / "set.csv").write_bytes(content)
        with pytest.raises(ConfigError, match=r"set\.csv' is no text in UTF-8"):
            find(tmp_path / "set.csv", "val")
    pair(tmp_path / "set/images/a.png", tmp_path / "set/labels/a.png", [[0]])
    for content, words in ((b"stra\xdfe\n", "is no text in UTF-8"), (b"\n", "names no class")):
        (tmp_path / "set/classes.txt").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"classes\.txt' {words}"):
            find(tmp_path / "set", None)
