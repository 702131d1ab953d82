"""Every signal that ends a command, once and twice: what is done is kept, and one line says so."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbs_core.machine.signals import ENDING
from tests import scenes
from tests.integration.children import FAST, Children
from tests.media import frames_in, make_clip

FRAMES = 400
SLOW = 0.01
"""Seconds that a call takes, so that whoever tests is in time on a machine that is slow itself."""

SLOWER = {"scene": 5.0, "augment": 0.2}
"""Kind of run -> the same, where few calls are due."""

NETS = tuple(
    word
    for word in FAST
    if not word.startswith(("scheduler", "steady", "segmenter", "routes", "precision"))
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", frames=FRAMES, sound=FRAMES / 25, gop=8)


def hidden(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if ".cbs-" in path.name]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_video(
    server: Children, clip: Path, tmp_path: Path, number: signal.Signals, times: int
) -> None:
    words = (f"input={clip}", "output=out.mp4", "sink.preset=ultrafast", *FAST)
    child = server.start("run", words, place=tmp_path, here=6, slow=SLOW)
    assert child.wait_until_here()
    for _ in range(times):
        child.send(number)
    assert child.ended() == 130
    assert child.err.count("\n") == 1
    told = re.match(r"interrupted: out.mp4 is closed, with (\d+) frames?\n", child.err)
    if told is None:  # Ctrl-C twice gives up
        assert (number, times) == (signal.SIGINT, 2)
        assert child.err == "cbs-run: interrupted\n"
        assert not [*tmp_path.iterdir()]
        return
    assert 0 < int(told[1]) == frames_in(tmp_path / "out.mp4") < FRAMES
    assert {path.name for path in tmp_path.iterdir()} <= {
        *("out.mp4", "out.report.json", "out.sheet.png"),
    }


def kept_folder(place: Path, err: str) -> None:
    told = re.search(r"pictures is closed, with (\d+) frames?\n", err)
    assert told, err
    names = sorted(path.name for path in (place / "pictures").glob("*.png"))
    assert names == [f"{index:06d}.png" for index in range(int(told[1]))]
    for name in names:
        Image.open(place / "pictures" / name).load()


def kept_live(place: Path, err: str) -> None:
    told = re.search(r"live.mkv is closed, with (\d+) frames?\n", err)
    assert told, err
    assert frames_in(place / "live.mkv") == int(told[1]) > 0


def kept_matte(place: Path, err: str) -> None:
    assert "out.mp4 is closed, with " in err
    assert frames_in(place / "out.mp4") == frames_in(place / "mask.sky.mp4") > 0


def kept_resume(place: Path, err: str) -> None:
    told = re.match(r"interrupted: (\d+) frames are in 'out.mp4.parts'", err)
    assert told, err
    whole = [frames_in(path) for path in (place / "out.mp4.parts").glob("*.mp4")]
    assert sum(whole) == int(told[1]) > 0


def kept_batch(place: Path, err: str) -> None:
    assert err == "interrupted: 1 of 3 are done: the same command goes on\n"
    assert frames_in(place / "restyled/a.mp4") == 4
    assert (place / "restyled.batch/journal.jsonl").is_file()


def kept_training(place: Path, err: str) -> None:
    told = re.match(r"cbs-train: interrupted; step (\d+) of 5000 is saved", err)
    assert told, err
    run = json.loads((place / "weights/slow_invert/toy.train/curves.json").read_text())
    assert run
    assert (place / "weights/slow_invert/toy.train/last.pt").is_file()


def kept_augmented(place: Path, err: str) -> None:
    told = re.match(r"cbs-augment: interrupted: (\d+) of 20 pictures are made", err)
    assert told, err
    made = [*(place / "restyled/images").iterdir()]
    for path in made:
        Image.open(path).load()
    assert 0 < int(told[1]) <= len(made) < 40


def kept_nothing(place: Path, err: str) -> None:
    assert err == "cbs-scene: interrupted\n"
    assert {path.name for path in place.iterdir()} == {"box.glb"}


def closed_studio(place: Path, err: str) -> None:
    assert not err


def labelled(place: Path) -> None:
    chance = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (place / "set" / folder).mkdir(parents=True)
    (place / "set/classes.txt").write_text("ground\nsky\n")
    labels = np.zeros((32, 32), np.uint8)
    labels[:16] = 1
    for number in range(20):
        pixels = chance.integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"set/images/{number:02d}.png")
        Image.fromarray(labels).save(place / f"set/labels/{number:02d}.png")


def batch_of(place: Path) -> None:
    (place / "films").mkdir()
    make_clip(place / "films/a.mp4", frames=4)
    for name in "bc":
        make_clip(place / f"films/{name}.mp4", frames=FRAMES, gop=8)


def box(place: Path) -> None:
    scenes.glb(place / "box.glb")


def nothing(place: Path) -> None:
    pass


KINDS: dict[str, tuple[str, tuple[str, ...], int, Callable[..., None], Callable[..., None]]] = {
    "folder": ("run", ("input={clip}", "output=pictures/", *FAST), 6, nothing, kept_folder),
    "live": ("run", ("source=desk", "output=live.mkv", *FAST), 6, nothing, kept_live),
    "matte": (
        "run",
        ("input={clip}", "output=out.mp4", "output_matte=mask.mp4", *FAST),
        *(6, nothing, kept_matte),
    ),
    "resume": (
        "run",
        ("input={clip}", "output=out.mp4", "resume=true", *FAST),
        *(20, nothing, kept_resume),
    ),
    "batch": (
        "batch",
        ("input=films", "output=restyled", *FAST),
        *(9, batch_of, kept_batch),
    ),
    "train": (
        "train",
        ("styler=slow_invert", "data=photos", "steps=5000", "compile=false"),  # or torch warns
        *(20, nothing, kept_training),
    ),
    "augment": (
        "augment",
        (
            *("data=set", "output=restyled", "variants=2", "engine=local", "threads=1"),
            *("routes={{sky: {{styles: [dark]}}}}", *NETS),
        ),
        *(6, labelled, kept_augmented),
    ),
    "scene": (
        "scene",
        ("input=box.glb", "output=new.glb", "routes={{material/red: x}}", "size=64", *NETS),
        *(2, box, kept_nothing),
    ),
    "live page": (
        "live",
        ("source=desk", "port=0", *(w for w in FAST if not w.startswith(("scheduler", "steady")))),
        *(4, nothing, closed_studio),
    ),
}


@pytest.mark.parametrize(("number", "times"), [(signal.SIGHUP, 2), (signal.SIGQUIT, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run(
    server: Children, clip: Path, tmp_path: Path, kind: str, number: signal.Signals, times: int
) -> None:
    command, words, here, prepare, kept = KINDS[kind]
    prepare(tmp_path)
    said = [word.format(clip=clip) for word in words]
    slow = SLOWER.get(kind, SLOW)
    child = server.start(command, said, place=tmp_path, here=here, slow=slow, window=8)
    assert child.wait_until_here(), child.err
    for _ in range(times):
        child.send(number)
    assert child.ended() == (0 if command == "live" else 130), child.err
    assert child.err.count("\n") <= 1, child.err
    assert not hidden(tmp_path)
    kept(tmp_path, child.err)
