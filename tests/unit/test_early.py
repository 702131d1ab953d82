"""What is refused before torch is imported: path, suffix, place, class."""

import subprocess
import sys
from pathlib import Path

import pytest
from cbs_plugins.formats.pictures import WRITABLE
from cbs_plugins.sinks.video import SUFFIXES

from cbs_core.choose import streams
from cbs_core.choose.presets import defaults, section
from cbs_core.contract.errors import CbsError
from cbs_core.run import early


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "photo.png").write_bytes(b"a picture")
    return tmp_path / "photo.png"


def refuse(**given: object) -> None:
    config = defaults() | {"input": "photo.png", "output": "out.png"} | given
    for kind, choose, key in (
        ("source", streams.source_for, "input"),
        ("sink", streams.sink_for, "output"),
    ):
        path = str(config[key])
        config[kind] = {**section(kind, choose(path)), "path": path}
    early.refuse(config)


def test_what_is_right_passes(photo: Path) -> None:
    refuse()
    refuse(routes={"people": "wave", "rest": {"style": "udnie"}}, output="new/out.mp4")
    refuse(routes=["tiger"], segmenter={"name": "dabnet", "weights": "mine.pth"})
    refuse(input="sample:cat", output="done/")
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": "phto.png"}, "did you mean 'photo.png'"),
        ({"input": "nowhere/"}, "no file 'nowhere'"),
        ({"input": "-"}, "standard input"),
        ({"output": "-"}, "'-' is a pipe, and only files are written"),
        ({"output": "pipe:1"}, "'pipe:1' is a pipe"),
        ({"output": "out.xyz"}, r"'.xyz'.*choose one of .mp4"),
        ({"output": "out.heic"}, r"'.heic'.*choose one of .png"),
        ({"output": "photo.png"}, "would be written over"),
        ({"output": "photo.png/out.png"}, "is a file, not a folder"),
        ({"routes": {"tigr": "wave"}}, "no class 'tigr'"),
        ({"routes": {"car": {"strength": 2}}}, "strength"),
    ],
)
def test_what_is_wrong_is_refused(photo: Path, given: dict[str, object], words: str) -> None:
    before = sorted(photo.parent.rglob("*"))
    with pytest.raises(CbsError, match=words):
        refuse(**given)
    assert sorted(photo.parent.rglob("*")) == before


def test_an_output_that_is_there(photo: Path) -> None:
    (photo.parent / "out.png").touch()
    with pytest.raises(CbsError, match="overwrite=true"):
        refuse()
    refuse(overwrite=True)


def test_the_suffixes_are_those_of_the_sinks() -> None:
    for name, known in (("image", WRITABLE), ("video", SUFFIXES)):
        said = streams.by_path("sink", name)
        assert said is not None
        assert said["writes"] == list(known)


def test_neither_torch_nor_a_plugin_is_imported() -> None:
    script = (
        "import sys, cbs_core.run.early; print({*sys.modules} & {'torch', 'numpy', 'av', 'PIL'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("out.pngg", "did you mean '.png'"),
        ("out.mpp4", "did you mean '.mp4'"),
        ("my.holiday", "end it with / for a folder"),
    ],
)
def test_a_suffix_mistyped_is_told_the_near_one(photo: Path, output: str, told: str) -> None:
    with pytest.raises(CbsError, match=told):
        refuse(output=output)
