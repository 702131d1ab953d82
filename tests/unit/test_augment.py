"""A labelled set restyled: its pictures, its labels as they are, and how it is gone on with."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbs_core.augment.journal import JOURNAL, MANIFEST, Journal
from cbs_core.augment.session import augment_session
from cbs_core.choose import presets, registry, weights
from cbs_core.contract.engines import Outcome, Start, Task
from cbs_core.contract.errors import ConfigError
from cbs_core.datasets.labelled import find

ROUTES = {"road": {"styles": ["wave", "udnie"], "strength": [0.5, 1.0]}, "car": ["the_scream"]}


class Crowd:
    """An engine of several workers, whose tasks end in an order of chance."""

    def __init__(self, start: Start, workers: int = 3, seed: int = 0, last: int = 10**9) -> None:
        self.workers = workers
        self._start, self._by, self._left = start, random.Random(seed), last
        self._tasks: list[Task] = []

    def __enter__(self) -> "Crowd":
        self._crew = [self._start() for _ in range(self.workers)]
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._crew:
            worker.close()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self) -> Outcome:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        task = self._tasks.pop(self._by.randrange(len(self._tasks)))
        try:
            return Outcome(task, self._by.choice(self._crew).do(task))
        except Exception as error:
            return Outcome(task, error=error)


registry.engines.register("crowd", Crowd)


def config(data: Path, output: Path, **more: object) -> dict:
    own = presets.loaded(presets.conf_dir() / "augment.yaml")
    kinds = ("segmenter", "styler", "compositor", "accelerator")
    names = {
        key: value for one in own["defaults"] if isinstance(one, dict) for key, value in one.items()
    }
    found = {key: value for key, value in own.items() if key not in ("defaults", "hydra")}
    found |= {kind: presets.section(kind, names[kind]) for kind in kinds}
    found |= {"data": str(data), "output": str(output), "routes": ROUTES, "quiet": True}
    return found | {"engine": {"name": "crowd", "workers": 1}} | more


def camvid(root: Path) -> Path:
    """Makes a set of CamVid's layout: three pictures to train on, one that validates."""
    by = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("val", "d")):
        for name in names:
            labels = np.full((48, 64), 0, np.uint8)
            labels[24:] = 3  # road
            labels[20:40, 10:30] = 8  # car
            labels[:4, :4] = 11  # unlabelled
            for folder, pixels in (
                (split, by.integers(0, 255, (48, 64, 3), np.uint8)),
                (f"{split}_labels", labels),
            ):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return camvid(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def made(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("made") / "new"
    assert augment_session(config(data, output, variants=2)) == 0
    return output


def test_the_new_set_is_laid_out_as_the_old_one(data, made) -> None:
    names = {f"{name}{more}" for name in "abc" for more in ("", "_v1", "_v2")}
    assert {path.stem for path in (made / "train").iterdir()} == names
    assert {pair.picture.stem for pair in find(made, "train").pairs} == names
    assert [pair.picture.name for pair in find(made, "val").pairs] == ["d.png"]


def test_labels_and_pictures_that_stay_are_copied_bit_for_bit(data, made) -> None:
    for name, whole in tree(made).items():
        if name == MANIFEST:
            continue
        folder, stem = name.removesuffix(".png").split("/")
        if folder.endswith("_labels") or "_v" not in stem:
            assert whole == (data / folder / f"{stem.split('_v')[0]}.png").read_bytes()


def test_only_the_classes_of_the_rules_change(data, made) -> None:
    before = np.asarray(Image.open(data / "train/a.png")).astype(int)
    after = np.asarray(Image.open(made / "train/a_v1.png")).astype(int)
    labels = np.asarray(Image.open(data / "train_labels/a.png"))
    changed = (before != after).any(2)
    assert not changed[(labels != 3) & (labels != 8)].any()
    assert changed[labels == 3].mean() > 0.9
    assert changed[labels == 8].mean() > 0.9


def test_other_workers_make_the_same_bytes(data, made, tmp_path) -> None:
    for workers, seed in ((1, 3), (3, 1)):
        output = tmp_path / f"{workers}"
        engine = {"name": "crowd", "workers": workers, "seed": seed}
        assert augment_session(config(data, output, variants=2, engine=engine)) == 0
        assert tree(output) == tree(made)
    other = tmp_path / "seed"
    assert augment_session(config(data, other, variants=2, seed=1)) == 0
    assert tree(other)["train/a_v1.png"] != tree(made)["train/a_v1.png"]


def test_a_run_that_was_ended_is_gone_on_with(data, made, tmp_path) -> None:
    output = tmp_path / "new"
    ended = {"name": "crowd", "workers": 2, "last": 2}
    assert augment_session(config(data, output, variants=2, engine=ended)) == 130
    assert not (output / MANIFEST).exists()
    journal = output / JOURNAL
    told = journal.read_bytes()
    assert len(told.splitlines()) > 2
    journal.write_bytes(told[:-20])  # as a process that was killed leaves it
    with pytest.raises(ConfigError, match="begun with another config"):
        augment_session(config(data, output, variants=2, quality=50))
    assert augment_session(config(data, output, variants=2)) == 0
    assert tree(output) == tree(made)
    assert augment_session(config(data, output, variants=2)) == 0  # and there is nothing to do
    assert tree(output) == tree(made)


def test_nothing_is_written_over(data, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        augment_session(config(data, tmp_path / "mine"))
    with pytest.raises(ConfigError, match="is not apart"):
        augment_session(config(data, data / "new"))
    output = tmp_path / "new"
    ended = {"name": "crowd", "last": 0}
    assert augment_session(config(data, output, engine=ended)) == 130
    (output / "train").mkdir()
    (output / "train" / "a_v1.png").write_text("mine")
    assert augment_session(config(data, output)) == 2
    assert (output / "train" / "a_v1.png").read_text() == "mine"


@pytest.mark.parametrize("text", ['{"a": 1}\n{"b": 2}', "[]\n[1", "mine"])
def test_a_manifest_of_somebody_elses_loses_no_byte(text, tmp_path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="name another output="):
        Journal(tmp_path, {"data": "set"})
    assert (tmp_path / MANIFEST).read_text() == text


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path, capsys) -> None:
    data = camvid(tmp_path / "set")
    (data / "train" / "b.png").write_bytes(b"no picture")
    output = tmp_path / "new"
    assert augment_session(config(data, output, quiet=False)) == 2
    assert "not made: train/b.png:" in capsys.readouterr().err
    assert {path.stem for path in (output / "train").iterdir()} >= {"a_v1", "c_v1"}
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(data / "train" / "b.png")
    assert augment_session(config(data, output)) == 0
    assert (output / MANIFEST).is_file()


def test_a_set_that_changed_meanwhile_is_not_gone_on_with(tmp_path) -> None:
    data, output = camvid(tmp_path / "set"), tmp_path / "new"
    ended = {"name": "crowd", "last": 2}
    assert augment_session(config(data, output, engine=ended)) == 130
    of = [one[0]["of"] for one in map(json.loads, (output / JOURNAL).read_text().splitlines()[1:])]
    for path in (data / of[0], data / of[0].replace("/", "_labels/")):
        path.rename(tmp_path / f"{path.parent.name}.png")
    with pytest.raises(ConfigError, match=f"made of other pictures.*{of[0]}"):
        augment_session(config(data, output))
    for path in (data / of[0], data / of[0].replace("/", "_labels/")):
        (tmp_path / f"{path.parent.name}.png").rename(path)
    assert augment_session(config(data, output)) == 0
    whole = tree(output)
    for folder in ("train", "train_labels"):
        (data / folder / "z.png").write_bytes((data / folder / "a.png").read_bytes())
    with pytest.raises(ConfigError, match=r"made of other pictures.*train/z\.png"):
        augment_session(config(data, output))
    assert tree(output) == whole


def test_styles_that_came_meanwhile_are_not_drawn(data, tmp_path, monkeypatch) -> None:
    output = tmp_path / "new"
    one = {"routes": {"road": {}}, "others": False}
    assert augment_session(config(data, output, **one, engine={"name": "crowd", "last": 1})) == 130
    (tmp_path / "weights" / "johnson").mkdir(parents=True)
    known = weights.available("johnson")["wave"]
    (tmp_path / "weights" / "johnson" / "zoo.safetensors").write_bytes(known.read_bytes())
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(ConfigError, match="begun with another styles"):
        augment_session(config(data, output, **one))


def test_a_variant_that_would_have_a_pictures_name_is_refused_at_once(made, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"'train/a\.png' would be called 'train/a_v1\.png'"):
        augment_session(config(made, tmp_path / "twice"))
    assert not (tmp_path / "twice").exists()


def test_pictures_that_are_but_copied_go_together(tmp_path, capsys) -> None:
    data, output = camvid(tmp_path / "set"), tmp_path / "new"
    for number in range(40):
        for folder in ("val", "val_labels"):
            (data / folder / f"{number}.png").write_bytes((data / folder / "d.png").read_bytes())
    # Each task is an outcome: three that are painted, one of 32 copies.
    ended = {"name": "crowd", "workers": 1, "last": 4}
    assert augment_session(config(data, output, engine=ended)) == 130
    assert len((output / JOURNAL).read_text().splitlines()) == 1 + 3 + 32
    (data / "val" / "9.png").unlink()
    (data / "val" / "9.png").mkdir()  # found, and cannot be read
    assert augment_session(config(data, output)) == 2
    told = capsys.readouterr().err  # quiet, too
    assert told.count("not made:") == 1
    assert "not made: val/9.png:" in told
    (data / "val" / "9.png").rmdir()
    (data / "val" / "9.png").write_bytes((data / "val" / "d.png").read_bytes())
    assert augment_session(config(data, output)) == 0
    assert len(find(output, "val").pairs) == 41


def test_the_manifest_makes_the_pictures_again(made, tmp_path) -> None:
    again = tmp_path / "again"
    one = config(made, again, remake=str(made / MANIFEST), routes=None) | {"data": None}
    assert augment_session(one) == 0
    assert tree(again) == tree(made)
    _, *records = [json.loads(line) for line in (made / MANIFEST).read_text().splitlines()]
    (drawn,) = [one for one in records if one["picture"] == "train/a_v2.png"]
    assert {tuple(one["classes"]) for one in drawn["drawn"]} == {("road",), ("car",)}
    assert drawn["drawn"][1]["share"] == pytest.approx(20 * 20 / (48 * 64), abs=1e-6)
    assert {"wave.safetensors", "udnie.safetensors"} & drawn["weights"].keys()


def test_a_layout_without_splits_and_rules_for_pixels_of_no_class(tmp_path) -> None:
    root = tmp_path / "set"
    for folder, pixels in (
        ("images", np.full((32, 32, 3), 90, np.uint8)),
        ("labels", np.full((32, 32), 255, np.uint8)),
    ):
        (root / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(root / folder / "a.png")
    (root / "classes.txt").write_text("sky\nkite\n")
    output = tmp_path / "new"
    assert augment_session(config(root, output, routes={"rest": "wave"}, split=None)) == 0
    assert (output / "classes.txt").read_text() == "sky\nkite\n"
    assert (np.asarray(Image.open(output / "images" / "a_v1.png")) != 90).any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"mattes": "masks"}, "neither labels nor segmenter"),
        ({"variants": -1}, "variants=-1 is no whole number"),
        ({"routes": {"raod": "wave"}}, "road"),
        ({"data": None}, "names no labelled set"),
        ({"remake": "nothing.jsonl"}, "is no manifest"),
        ({"routes": {"road": "wvae"}}, "wave"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(data, tmp_path, more, message) -> None:
    with pytest.raises(Exception, match=message):
        augment_session({**config(data, tmp_path / "new"), **more})
    assert not (tmp_path / "new").exists()


@pytest.mark.shared
def test_camvid_is_the_same_by_any_workers_and_keeps_its_labels(shared, tmp_path) -> None:
    data = shared / "data" / "camvid"
    routes = {"road": {"styles": ["wave"], "strength": [0.3, 1.0]}}
    for workers in (1, 3):
        engine = {"name": "crowd", "workers": workers, "seed": workers}
        one = config(data, tmp_path / f"{workers}", routes=routes, limit=2, others=False)
        assert augment_session({**one, "engine": engine}) == 0
    whole = tree(tmp_path / "1")
    assert whole == tree(tmp_path / "3")
    labels = [name for name in whole if name.startswith("train_labels/")]
    assert len(labels) == 369
    for name in labels:
        assert whole[name] == (data / name.replace("_v1", "")).read_bytes()


def folder_set(root: Path) -> Path:
    """A set of `images` and `labels` with odd pictures."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    by = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    pixels = by.integers(0, 255, (32, 48, 4), np.uint8)
    Image.fromarray(pixels[..., :3]).save(root / "images/turned.jpg", exif=exif, dpi=(300, 300))
    Image.fromarray(pixels).save(root / "images/glass.png")
    frames = [Image.fromarray(np.roll(pixels[..., :3], n, 0)) for n in range(3)]
    frames[0].save(root / "images/moving.webp", save_all=True, append_images=frames[1:])
    (root / "images/phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    Image.fromarray(pixels[..., :3]).save(root / "images/alone.png")
    for name, size in (("turned", (48, 32)), ("glass", (32, 48)), ("moving", (32, 48))):
        Image.fromarray(np.full(size, 1, np.uint8)).save(root / f"labels/{name}.png")
    Image.fromarray(np.full((32, 48), 1, np.uint8)).save(root / "labels/phone.png")
    return root


def test_what_pictures_hold_beside_their_colours_is_kept_or_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, new = folder_set(tmp_path / "set"), tmp_path / "new"
    asked = config(data, new, split=None, routes={"road": "wave"}, quiet=False, others=False)
    assert augment_session(asked) == 2
    with Image.open(new / "images/turned_v1.jpg") as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get(0x0112, 1) == 1
        assert image.size == (32, 48)
        assert np.allclose(image.info["dpi"], 300)
    with (
        Image.open(new / "images/glass_v1.png") as image,
        Image.open(data / "images/glass.png") as old,
    ):
        assert np.array_equal(np.asarray(image.getchannel("A")), np.asarray(old.getchannel("A")))
        assert not np.array_equal(np.asarray(image)[..., :3], np.asarray(old)[..., :3])
    told = capsys.readouterr()
    assert told.out.count("of several frames the first is taken: moving.webp\n") == 1
    assert told.out.count("left out, for they have no labels: alone.png\n") == 1
    (line,) = [line for line in told.err.splitlines() if "phone" in line]
    assert "'.heic' are not written" in line
    assert "save it as" in line
