"""Sweeps: one output named is told apart, and folders that Hydra made are not left empty."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cbs_core.cli import sweeps
from tests.integration.command import ROUTES, WAVE, Ran
from tests.media import picture

Command = Callable[..., Ran]

QUICK = ("quiet=true", "sheet=null", ROUTES)


@pytest.fixture
def photo(place: Path) -> Path:
    """A small picture in the working folder."""
    Image.fromarray(picture(0)).save(place / "photo.png")
    return place / "photo.png"


def files(place: Path) -> dict[str, str]:
    """Every file below, hidden ones too, and its content's digest."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_one_output_of_a_sweep_is_told_apart(command: Command, photo: Path) -> None:
    ran = command("-m", "input=photo.png", "output=out.png", "styler.style=wave,starry_night")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in photo.parent.iterdir()) == [
        *("out.starry_night.png", "out.starry_night.report.json", "out.starry_night.sheet.png"),
        *("out.wave.png", "out.wave.report.json", "out.wave.sheet.png", "photo.png"),
    ]
    told = json.loads((photo.parent / "out.wave.report.json").read_text())
    assert told["output"] == "out.wave.png"
    assert told["config"]["styler"]["style"] == "wave"


def test_a_folder_of_a_sweep_has_a_folder_for_each(command: Command, photo: Path) -> None:
    words = ("-m", "input=photo.png", "output=done/", "matte=soft,argmax", WAVE, *QUICK)
    assert command(*words, "report=null").code == 0
    done = photo.parent / "done"
    assert files(done).keys() == {"argmax/photo.png", "soft/photo.png"}
    ran = command(*words, "report=null")
    assert ran.code == 2
    assert "is there already" in ran.err


def test_a_repeated_command_is_refused_and_nothing_changes(command: Command, photo: Path) -> None:
    words = ("input=photo.png", "output=out.png", WAVE, *QUICK)
    assert command(*words).code == 0
    before = files(photo.parent)
    assert before.keys() == {"photo.png", "out.png", "out.report.json"}
    ran = command(*words)
    assert ran.code == 2
    assert "'out.png' is there already" in ran.err
    assert "overwrite=true" in ran.err
    assert files(photo.parent) == before
    assert command(*words, "overwrite=true").code == 0
    assert files(photo.parent).keys() == before.keys()


def test_runs_that_name_no_output_are_told_apart(command: Command, photo: Path) -> None:
    for _ in range(2):
        assert command("input=photo.png", "hydra.run.dir=run", WAVE, *QUICK).code == 0
    assert files(photo.parent / "run").keys() == {
        *("photo.png", "photo.report.json", "photo.2.png", "photo.2.report.json")
    }


USERS = (
    *("report.json", "sheet.png", "out.report.json", "out.sheet.png", "notes.txt", "job.log"),
    *("mine/a.jpg", "mine/sheet.png", "mine/out.sheet.png", "done/photo.txt", "done/old.png"),
    *("done.report.json", "eval.json", "eval.png", ".hydra/config.yaml", "multirun.yaml"),
    "cbs-run.log",
)


@pytest.mark.parametrize(
    "words",
    [
        ("input=photo.png",),
        ("input=photo.png", "hydra.run.dir=."),
        ("input=photo.png", "output=new.png"),
        ("input=photo.png", "output=out.png"),
        ("input=photo.png", "output=out.png", "overwrite=true"),
        ("input=photo.png", "output=old/new.mp4"),
        ("input=mine", "output=done/"),
        ("input=mine", "output=mine/"),
        ("input=mine", "output=mine/out/"),
        ("input=mine", "output=done/", "overwrite=true"),
        ("input=photo.png", "output=done/", "report=old.png"),
        ("input=photo.png", "sink=null", "hydra.run.dir=."),
        ("input=photo.png", "output=new.png", "report=notes.txt", "overwrite=true"),
        ("-m", "input=photo.png", "output=x.png", "matte=soft,argmax", "hydra.sweep.dir=old"),
    ],
    ids=" ".join,
)
def test_files_of_the_users_are_unchanged(
    command: Command, photo: Path, words: tuple[str, ...]
) -> None:
    for place, name in enumerate(USERS):
        file = photo.parent / name
        file.parent.mkdir(exist_ok=True)
        if file.suffix in (".png", ".jpg"):
            Image.fromarray(picture(place)).save(file)
        else:
            file.write_text(f"{{}}  # {name}")
    before = files(photo.parent)
    ran = command(*words, WAVE, ROUTES, "quiet=true")
    after = files(photo.parent)
    assert {name: after.get(name) for name in before} == before
    assert ran.code in (0, 2)
    assert ran.code or after.keys() > before.keys()
    if ran.code:
        assert after == before
        assert ran.err.count("\n") == 1


def test_an_output_by_its_sinks_name_is_not_written_over(command: Command, photo: Path) -> None:
    words = ("input=photo.png", "output=image:out.png", WAVE, *QUICK)
    assert command(*words).code == 0
    before = files(photo.parent)
    ran = command(*words)
    assert ran.code == 2
    assert "'out.png' is there already" in ran.err
    ran = command("input=image:photo.png", "output=photo.png", "overwrite=true", WAVE, *QUICK)
    assert ran.code == 2
    assert files(photo.parent) == before


def test_what_hydra_keeps_of_a_sweep_shows_no_password_and_no_key(
    command: Command, photo: Path
) -> None:
    words = ("output=rtmp://h/app/SECRET", "sink=null", "hydra.sweep.dir=sweep", *QUICK)
    ran = command("-m", "input=photo.png", "matte=soft,argmax", WAVE, *words)
    assert ran.code == 0, ran.err
    assert "rtmp://h/app/..." in (photo.parent / "sweep/multirun.yaml").read_text()
    files_left = [path for path in photo.parent.rglob("*") if path.is_file()]
    assert not [path for path in files_left if b"SECRET" in path.read_bytes()]


@pytest.mark.parametrize(
    ("output", "sink", "own"),
    [
        ("out.mp4", "video", "out.wave.mp4"),
        ("video:out.mp4", "video", "video:out.wave.mp4"),
        ("done/", "folder", "done/wave"),
        ("rtmp://h/app/key", "stream", "rtmp://h/app/key"),
        ("window", "window", "window"),
        ("net.safetensors", None, "net.wave.safetensors"),
    ],
)
def test_what_an_output_of_a_sweep_is_called(output: str, sink: str | None, own: str) -> None:
    assert sweeps._own(output, "wave", sink) == own
