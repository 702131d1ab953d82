"""Training data: which files, in which order, and broken ones."""

import logging
import time

import pytest
import torch
from PIL import Image

from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.datasets.chance import mixed
from cbs_core.datasets.photos import find_photos, has_split
from cbs_core.datasets.samples import Samples, Shuffled, generator, prefetch


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return tmp_path / "photos"


def test_a_folder_is_searched_to_the_bottom_and_sorted(folder):
    names = [str(path.relative_to(folder)) for path in find_photos(folder)]
    assert names == ["a.PNG", "b.jpg", "deep/er/c.webp"]


def test_a_table_has_splits(folder):
    table = folder / "list.csv"
    table.write_text("file,split\nb.jpg,train\na.PNG,val\ndeep/er/c.webp,train\n")
    assert [p.name for p in find_photos(table, split="train")] == ["b.jpg", "c.webp"]
    assert [p.name for p in find_photos(table, split="val")] == ["a.PNG"]
    assert len(find_photos(table)) == 3
    assert has_split(table, "val")
    assert not has_split(table, "test")
    assert not has_split(folder, "val")
    with pytest.raises(ConfigError, match="no photographs of the split 'test'"):
        find_photos(table, split="test")


def test_a_table_without_splits_and_a_text_file_beside_a_folder(folder):
    table = folder.parent / "photos.csv"
    table.write_text("image\nb.jpg\n")
    assert find_photos(table, split="train") == [folder / "b.jpg"]
    assert not has_split(table, "train")
    text = folder.parent / "some.txt"
    text.write_text("photos/b.jpg\n\nphotos/a.PNG\n")
    assert [p.name for p in find_photos(text)] == ["a.PNG", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("name\nb.jpg\n", "no column file, path"), ("file\nz.jpg\n", "lists 'z.jpg'")],
)
def test_wrong_tables(folder, content, message):
    (folder / "list.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        find_photos(folder / "list.csv")


def test_an_empty_folder_and_none(tmp_path):
    with pytest.raises(ConfigError, match="holds no photographs"):
        find_photos(tmp_path)
    with pytest.raises(ConfigError, match="no folder or list"):
        find_photos(tmp_path / "none")


def test_an_epoch_has_every_sample_once_and_each_is_another():
    order = Shuffled(50, seed=3)
    epochs = [[order(50 * epoch + n) for n in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert Shuffled(50, seed=3)(120) == order(120)
    assert [Shuffled(50, seed=4)(n) for n in range(50)] != epochs[0]


def test_generators_of_nearby_steps_have_nothing_in_common():
    seeds = {mixed(seed, step) for seed in range(20) for step in range(-20, 20)}
    assert len(seeds) == 800
    draws = torch.stack([torch.rand(1000, generator=generator(0, step)) for step in range(4)])
    assert (torch.corrcoef(draws) - torch.eye(4)).abs().max() < 0.15
    assert torch.equal(
        torch.rand(5, generator=generator(7, 9)), torch.rand(5, generator=generator(7, 9))
    )


def test_a_broken_sample_is_named_once_and_the_next_taken(caplog):
    def read(item):
        if item == "broken":
            raise SourceError("'broken.jpg' is no picture")
        return item

    items = ["a", "broken", "c"]
    samples = Samples(items, read, lambda number: number % 3)
    with caplog.at_level(logging.WARNING, "cbs"):
        assert [samples(n) for n in range(6)] == ["a", "c", "c"] * 2
    assert caplog.messages == ["passed over: 'broken.jpg' is no picture"]
    with pytest.raises(ConfigError, match="none of the 1"):
        Samples(["broken"], read, lambda number: 0)(0)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_prefetch_keeps_the_order_and_passes_errors_on(workers):
    def make(step):
        time.sleep(0.003 * (step % 3))
        if step == 17:
            raise SourceError("seventeen")
        return step

    assert list(prefetch(make, range(5, 15), workers=workers)) == list(range(5, 15))
    found = []
    with pytest.raises(SourceError, match="seventeen"):
        found.extend(iter_into(prefetch(make, range(12, 20), workers=workers), found))
    assert found == list(range(12, 17))


def iter_into(results, found):
    for result in results:
        found.append(result)
    return []
