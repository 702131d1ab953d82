"""What an unknown word is told: the segmenters that know it, of this project and of strangers."""

import pytest
import torch
from safetensors.torch import save_file

from cbs_core.choose import knowing
from cbs_core.contract.errors import ConfigError, UnknownClassError
from cbs_core.frame import routes


@pytest.fixture
def lacking(monkeypatch):
    """transformers is not installed."""
    monkeypatch.setattr(knowing, "find_spec", lambda name: None)


def test_sky_is_known_by_weights_of_the_package_with_their_licence(lacking):
    told = knowing.remedies("sky")
    assert told[0].startswith("segmenter=smp segmenter.vocabulary=scene (Apache-2.0")
    assert told[1].startswith("segmenter=dabnet segmenter.vocabulary=camvid (CC BY-NC")
    assert any("segformer" in one and "pip install" in one for one in told)
    assert told[-1].startswith("segmenter=prompted")


def test_what_is_installed_needs_no_command(monkeypatch):
    monkeypatch.setattr(knowing, "find_spec", lambda name: object())
    assert not any("pip install" in one for one in knowing.remedies("sky"))


def test_what_no_vocabulary_has_is_for_words_alone(lacking):
    (told,) = knowing.remedies("spaceship's door")
    assert told.startswith("segmenter=prompted")


def test_weights_of_a_strangers_tell_their_classes(tmp_path, monkeypatch):
    (tmp_path / "zoo").mkdir()
    file = tmp_path / "zoo" / "big.safetensors"
    said = {"plugin": "segmenter/zoo", "classes": '["okapi", "background"]'}
    save_file({"a": torch.zeros(1)}, file, metadata=said)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path))
    assert knowing.remedies("okapis")[0] == f"segmenter=zoo segmenter.weights={file}"


def test_routes_with_an_unknown_word_tell_them():
    with pytest.raises(UnknownClassError, match=r"no class 'sky'.*What knows it: segm") as told:
        routes.parse({"sky": "wave"}, classes=("background", "cat"), styler="johnson", params={})
    assert "\n" not in str(told.value)
    assert told.value.word == "sky"


@pytest.mark.parametrize(
    ("words", "net"),
    [
        (("person", "cat"), ("smp", "voc")),  # dabnet/voc knows them too, and is smaller
        (("people",), ("smp", "voc")),  # camvid's licence is no free one
        (("sky", "tree"), ("smp", "scene")),
        (("sky", "cat"), ("smp", "scene")),
        (("pole", "person"), ("dabnet", "camvid")),
    ],
)
def test_the_best_net_is_the_packages_own_that_knows_all(words, net):
    found = knowing.best(words)
    assert (found.plugin, found.path.stem) == net


def test_a_training_of_ones_own_is_not_chosen_by_itself(tmp_path, monkeypatch):
    (tmp_path / "zoo").mkdir()
    said = {"plugin": "segmenter/zoo", "classes": '["okapi", "background"]', "licence": "MIT"}
    save_file({"a": torch.zeros(1)}, tmp_path / "zoo" / "big.safetensors", metadata=said)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path))
    with pytest.raises(UnknownClassError, match=r"okapi.*What knows it: segmenter=zoo"):
        knowing.best(["okapi"])


def test_words_that_no_one_net_knows_together_are_told_with_a_way_on():
    with pytest.raises(ConfigError, match=r"no one net knows pole, cat.*knows cat") as told:
        knowing.best(["pole", "cat"])
    assert "in two runs" in str(told.value)
    assert "\n" not in str(told.value)
