import inspect
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from cbs_meadow.scenes import CLASSES, scene
from cbs_meadow.segmenter import Meadow, check
from cbs_meadow.source import Hills
from cbs_meadow.task import HELD_OUT, MeadowTask

from cbs_core.contract.errors import ConfigError, SourceError, WeightsError
from cbs_core.testing import SegmenterSuite, SourceSuite

PACKAGE = Path(find_spec("cbs_meadow").submodule_search_locations[0])


class TestMeadow(SegmenterSuite):
    def create(self):
        return Meadow()


class TestHills(SourceSuite):
    def create(self, folder):
        return Hills(frames=5, width=64, height=48)

    def create_missing(self, folder):
        return Hills("nowhere")


@pytest.mark.parametrize(("kind", "plugin"), [("segmenter", Meadow), ("source", Hills)])
def test_the_preset_states_the_defaults(kind, plugin):
    (preset,) = (PACKAGE / "conf" / kind).glob("*.yaml")
    params = yaml.safe_load(preset.read_text())
    defaults = {key: p.default for key, p in inspect.signature(plugin).parameters.items()}
    assert params.pop("name") == preset.stem
    assert params == defaults | ({"path": "${input}"} if kind == "source" else {})


def test_the_weights_are_the_packages_own_and_small():
    (file,) = Meadow().weights_files
    assert file.path == PACKAGE / "weights" / "meadow" / "scenes.safetensors"
    assert file.licence == "Apache-2.0"
    assert file.path.stat().st_size < 100_000
    assert file.path.with_suffix(".md").is_file()
    assert [level for level, *_ in check()] == ["ok"]


def test_weights_of_another_net_are_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="another net than Meadow"):
        Meadow(str(tmp_path / "other.pth"))


def test_it_is_as_right_as_its_card_says():
    right = total = 0
    segmenter = Meadow().eval()
    for seed in HELD_OUT:
        picture, labels = scene(seed, 96, 96)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            logits = torch.nn.functional.interpolate(segmenter(image), (96, 96), mode="bilinear")
        right += int((logits.argmax(1)[0].numpy() == labels).sum())
        total += labels.size
    assert right / total == pytest.approx(0.981, abs=0.002)


def test_every_class_is_in_the_clip_and_the_balloon_moves():
    with Hills(frames=4) as source:
        first, *_, last = source
    assert not torch.equal(first.pixels, last.pixels)
    _, labels = scene(0, 192, 320)
    assert {*labels.flatten().tolist()} == set(range(len(CLASSES)))


def test_it_learns_and_the_same_seed_learns_the_same():
    def trained():
        task = MeadowTask(seed=3, steps=30, batch=4)
        task.prepare(torch.device("cpu"))
        for step in range(30):
            task.optimizer.zero_grad()
            task.step(*task.batch(step, torch.Generator().manual_seed(step)))["loss"].backward()
            task.optimizer.step()
            task.scheduler.step()
        with torch.no_grad():
            return task, task.validate()["accuracy"]

    (task, accuracy), (again, same) = trained(), trained()
    assert accuracy > 0.8
    assert accuracy == same
    weights, _ = task.export()
    assert all(torch.equal(value, again.export()[0][name]) for name, value in weights.items())
    with torch.no_grad():
        assert task.preview().shape == (96, 192, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: Hills("nowhere"), SourceError, "say input=hills:7"),
        (lambda: Hills(frames=0), ValueError, "frames=0"),
        (lambda: MeadowTask(data="photos"), ConfigError, "say data=scenes"),
    ],
)
def test_what_is_wrong_is_told(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()
