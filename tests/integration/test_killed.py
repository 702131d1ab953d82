"""``kill -9`` at random moments at which files are being written, and then the same again.

``CBS_KILLS=30`` tries as many moments of each kind of output.
"""

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.children import FAST, Child, Children
from tests.media import frames_in, make_clip

KILLS = int(os.environ.get("CBS_KILLS", "3"))
FRAMES = 48
SLOW = 0.004

HIDDEN = re.compile(r"\.(?P<of>.+)\.cbs-(tmp-)?[0-9a-f]{16}(?P<suffix>\.\w+)?")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with sound, one whose sound WebM holds, and a picture that takes long to compress."""
    folder = tmp_path_factory.mktemp("inputs")
    sound = FRAMES / 25
    make_clip(folder / "clip.mp4", frames=FRAMES, sound=sound, width=96, height=72, gop=8)
    make_clip(folder / "clip.mkv", frames=FRAMES, sound=sound, sound_codec="libopus", gop=8)
    chance = np.random.default_rng(16)
    Image.fromarray(chance.integers(0, 255, (700, 900, 3), np.uint8)).save(folder / "photo.png")
    return folder


def pictures_in(folder: Path) -> int:
    """Decodes the pictures of a folder, which are the first of the stream."""
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [f"{index:06d}.png" for index in range(len(names))]
    for name in names:
        Image.open(folder / name).load()
    return len(names)


def check(place: Path, name: str) -> int:
    """Checks what stands under a final name; returns how many frames that has, or -1."""
    path = place / name
    if not os.path.lexists(path):
        return -1
    if path.is_dir():
        return pictures_in(path)
    if path.suffix == ".png":
        Image.open(path).load()
        return 1
    return frames_in(path)


def left_in(place: Path) -> list[Path]:
    """What a process that was killed left, each named after what it was to be."""
    found = [path for path in place.rglob("*") if ".cbs-" in path.name]
    for path in found:
        assert HIDDEN.fullmatch(path.name), path.name
    return found


def playable(path: Path) -> int | None:
    """Plays what is left to its end; None where nothing can be shown of it."""
    if path.is_dir():
        return pictures_in(path)
    if path.suffix in (".mp4", ".mov", ".mkv", ".webm"):
        return frames_in(path)
    return None


FILM = ("input={clip}", "sheet_frames=2", *FAST)

KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, int]]] = {
    "mp4": ("run", (*FILM, "output=out.mp4", "sink.preset=ultrafast"), {"out.mp4": FRAMES}),
    "mkv": ("run", (*FILM, "output=out.mkv", "sink.preset=ultrafast"), {"out.mkv": FRAMES}),
    "mov": ("run", (*FILM, "output=out.mov", "sink.preset=ultrafast"), {"out.mov": FRAMES}),
    "webm": ("run", ("input={opus}", *FAST, "output=out.webm"), {"out.webm": FRAMES}),
    "prores": ("run", (*FILM, "sink=prores", "output=out.mov"), {"out.mov": FRAMES}),
    "folder": ("run", (*FILM, "output=out/"), {"out": FRAMES}),
    "picture": ("run", ("input={photo}", *FAST, "output=out.png"), {"out.png": 1}),
    "matte": (
        "run",
        (*FILM, "output=out.mkv", "output_matte=mask.mp4", "sink.preset=ultrafast"),
        {"out.mkv": FRAMES, "mask.sky.mp4": FRAMES},
    ),
    "resume": (
        "run",
        (*FILM, "output=out.mp4", "resume=true", "sink.preset=ultrafast"),
        {"out.mp4": FRAMES},
    ),
    "batch": (
        "batch",
        ("input=[{clip},{photo}]", "output=done", "window=8", *FAST),
        {"done/clip.mp4": FRAMES, "done/photo.png": 1},
    ),
}
"""Command, words, and how many frames are due under each final name."""

REPORTS = {"out.report.json", "out.sheet.png", "done.report.json", "done.batch"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_nothing_broken_has_the_outputs_name(
    server: Children,
    inputs: Path,
    tmp_path: Path,
    kind: str,
    record_property: Callable[[str, object], None],
) -> None:
    before = {path: path.read_bytes() for path in inputs.iterdir()}
    command, words, finals = KINDS[kind]
    names = {"clip": "clip.mp4", "opus": "clip.mkv", "photo": "photo.png"}
    said = [word.format(**{key: inputs / name for key, name in names.items()}) for word in words]
    chance = random.Random(f"16 {kind}")
    calls = sum(finals.values()) if kind != "matte" else FRAMES
    met, kept = 0, []
    for number in range(KILLS):
        place = tmp_path / f"kill{number}"
        place.mkdir()
        # A third of the moments are at the end, where files are closed, joined and renamed.
        here = calls if number % 3 == 2 else chance.randint(1, calls)
        child = server.start(command, said, place=place, here=here, slow=SLOW, window=8)
        assert child.wait_until_here(), child.err
        time.sleep(chance.uniform(0, 0.08 if here == calls else 0.02))
        child.send(signal.SIGKILL)
        child.ended()
        whole = {name: check(place, name) for name in finals}
        assert all(frames in (-1, finals[name]) for name, frames in whole.items())
        left = left_in(place)
        kept += [playable(path) for path in left]
        for path in left:  # what has the output's suffix is said to be whole as far as it goes
            told = HIDDEN.fullmatch(path.name)
            assert told is None or not told["suffix"] or playable(path), path.name
        met += bool(left or [*place.glob("*.parts"), *place.glob("*.batch")])
        again = run_again(server, command, said, place, {name for name in whole if whole[name] > 0})
        check_told(again, left, place)
        assert {name: check(place, name) for name in finals} == finals
        there = {path.name for path in place.iterdir()}
        assert there - REPORTS == {Path(name).parts[0] for name in finals}
        assert not [*place.glob("*.parts")]
        assert {path.name for path in place.glob("*.batch/*")} <= {"journal.jsonl"}
        assert not left_in(place)
        for report in place.glob("*.json"):
            json.loads(report.read_text())
        for sheet in place.glob("*.sheet.png"):
            Image.open(sheet).load()
    assert {path: path.read_bytes() for path in inputs.iterdir()} == before
    assert met >= KILLS // 3  # else the moments miss what is written
    record_property("frames kept", kept)
    print(f"\n{kind}: {met} of {KILLS} kills met a file; frames in what was left: {kept}")


def run_again(
    server: Children, command: str, said: list[str], place: Path, there: set[str]
) -> Child:
    """Says the same again; what was whole already is refused first, and then replaced."""
    again = server.run(command, said, place=place, window=8)
    if command == "run" and (there or [*place.glob("*.report.json")]) and again.ended() == 2:
        assert "is there already" in again.err
        again = server.run(command, [*said, "overwrite=true"], place=place, window=8)
    assert again.ended() == 0, again.err
    return again


def check_told(again: Child, left: list[Path], place: Path) -> None:
    """Checks that what lay beside the output is named."""
    for path in left:
        beside = path.parent == place and "cbs-tmp-" not in path.name
        assert not beside or f"'{path.name}'" in again.out.replace(f"{place}/", ""), again.out
