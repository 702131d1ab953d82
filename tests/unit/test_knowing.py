"""What an unknown word is told: the segmenters that know it, of this project and of strangers."""

import pytest
import torch
from safetensors.torch import save_file

from cbs_core.choose import knowing
from cbs_core.contract.errors import UnknownClassError
from cbs_core.frame import routes


@pytest.fixture
def lacking(monkeypatch):
    """transformers is not installed."""
    monkeypatch.setattr(knowing, "find_spec", lambda name: None)


def test_sky_is_known_by_weights_of_the_package_with_their_licence(lacking):
    told = knowing.remedies("sky")
    assert told[0].startswith("segmenter=dabnet segmenter.vocabulary=camvid (CC BY-NC")
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
