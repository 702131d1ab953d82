"""Ctrl-C and SIGTERM: the file so far is closed and playable, or there is none."""

import os
import pty
import re
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.command import COMMAND, ROUTES, WAVE, with_net
from tests.media import frames_in, make_clip

OUTPUT = "done/out.mp4"

ENCODER = ("sink.preset=ultrafast", "sink.crf=1")
"""Large frames, written at once: that some are there can be seen from the file."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose frames take seconds together."""
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", frames=400, sound=16.0, width=192, height=144)


@pytest.fixture
def start(place: Path, clip: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``cbs-run`` over the clip, in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def call(*argv: str, **options: object) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        words = with_net((f"input={clip}", f"output={OUTPUT}", WAVE, ROUTES, *ENCODER, *argv))
        command = [COMMAND, *words]
        started.append(subprocess.Popen(command, text=True, start_new_session=True, **pipes))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(ready: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def writing(place: Path) -> Callable[[], bool]:
    """Tells whether some frames have reached the temporary file."""
    return lambda: any(f.stat().st_size > 10_000 for f in place.glob("done/.*cbs-*"))


@pytest.mark.parametrize(("number", "quiet"), [(signal.SIGINT, "true"), (signal.SIGTERM, "false")])
def test_in_the_middle_the_file_so_far_is_kept(
    start: Callable[..., subprocess.Popen[str]], place: Path, number: signal.Signals, quiet: str
) -> None:
    process = start(f"quiet={quiet}")
    wait_until(writing(place))
    os.killpg(process.pid, number)
    err = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    told = re.fullmatch(rf"interrupted: {OUTPUT} is closed, with (\d+) frames?\n", err)
    assert told, err
    assert 0 < int(told[1]) == frames_in(place / OUTPUT) < 400
    left = {path.name for path in (place / "done").iterdir()}
    assert left <= {"out.mp4", "out.report.json", "out.sheet.png"}


@pytest.mark.parametrize("seconds", [0.6, 0.7, 0.8])  # torch and the nets are being loaded
def test_before_the_first_frame_nothing_is_left(
    start: Callable[..., subprocess.Popen[str]], place: Path, seconds: float
) -> None:
    process = start()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "interrupted" in err
    assert not list(place.glob("done/*"))


@pytest.mark.alone  # takes times
def test_pressed_again_and_again_it_ends_at_once(
    start: Callable[..., subprocess.Popen[str]], place: Path
) -> None:
    process = start()
    wait_until(writing(place))
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() < begun + 20:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    err = process.communicate(timeout=20)[1]
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert not list(place.glob("done/.*"))
    if (place / OUTPUT).exists():
        assert frames_in(place / OUTPUT)


def test_a_terminal_is_left_as_it_was(
    start: Callable[..., subprocess.Popen[str]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        process = start(stdin=theirs, stdout=theirs, stderr=theirs)
        os.set_blocking(ours, False)
        shown = ""

        def read(until: Callable[[], object]) -> bool:
            nonlocal shown
            with suppress(BlockingIOError):  # nothing is there at the moment
                shown += os.read(ours, 65536).decode(errors="replace")
            return bool(until())

        wait_until(lambda: read(lambda: "FPS" in shown and writing(place)()))
        os.killpg(process.pid, signal.SIGINT)
        wait_until(lambda: read(lambda: process.poll() is not None and "interrupted" in shown), 20)
        assert process.returncode == 130
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
    assert "interrupted: " in shown
    hidden, visible = shown.rfind("\x1b[?25l"), shown.rfind("\x1b[?25h")
    assert 0 <= hidden < visible
