"""Plugins that end the process themselves: who it was is told, what is done is kept or named."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cbs_core.machine.unfinished import left_over
from tests import scenes
from tests.integration.children import FAST, Children, children
from tests.media import frames_in, make_clip

FRAMES = 40

PACKAGE = '''
"""A stranger's package whose plugins end the process in the call that is told them."""

import ctypes
import multiprocessing
import os
import signal
import threading


def end(how):
    """Ends the process."""
    if how == "exit":
        os._exit(0)
    if how == "thread":
        thread = threading.Thread(target=os._exit, args=(0,))
        thread.start()
        thread.join()
    if how == "fork":
        child = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
        child.start()
        child.join()
        assert child.exitcode == 7
    if how == "stray":
        ctypes.memset(8, 0, 1)
    if how == "elsewhere":  # where Python has no frame
        libc = ctypes.CDLL(None)
        thread = ctypes.c_ulong()
        libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.abort, ctypes.c_void_p), 0)
        libc.pthread_join(thread, None)
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))


class Dying:
    def __init__(self, how: str = "", call: int = 0, style: str | None = None):
        self.how, self.left = how, call
        if not call:
            end(how)

    def __call__(self, image):
        self.left -= 1
        if not self.left:
            end(self.how)
        return 1 - image


class Grave:
    def __init__(self, path: str, how: str = ""):
        self.path, self.how = path, how

    def open(self, info): ...

    def write(self, frame):
        if frame.index == 5:
            end(self.how)

    def close(self, *, complete=True): ...

    def abort(self): ...
'''


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """Starts commands where that package is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "cbs_dying.py").write_text(PACKAGE)
    metadata = site / "cbs_dying-0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cbs-dying\nVersion: 0.3\n")
    (metadata / "entry_points.txt").write_text(
        "[cbs.stylers]\ndying = cbs_dying:Dying\n[cbs.sinks]\ngrave = cbs_dying:Grave\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
        with children(tmp_path_factory.mktemp("told")) as started:
            yield started


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, gop=4)


WORDS = ("sink.preset=ultrafast", "quiet=true", *FAST)


def said(clip: Path, how: str, call: int = 0, *more: str) -> tuple[str, ...]:
    dying = ("styler=dying", f"+styler.how={how}", f"+styler.call={call}")
    return (f"input={clip}", "output=out.mp4", *WORDS, *dying, *more)


@pytest.mark.parametrize(
    "how", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGFPE", "stray", "elsewhere"]
)
def test_a_crash_names_the_plugin_and_the_next_run_what_is_left(
    strangers: Children, clip: Path, tmp_path: Path, how: str
) -> None:
    ran = strangers.run("run", said(clip, how, 30), place=tmp_path)
    number = {"stray": signal.SIGSEGV, "elsewhere": signal.SIGABRT}.get(how)
    assert ran.ended() == -(number or signal.Signals[how])
    assert ran.err.startswith("Fatal Python error: ")
    assert " in styler 'dying' of cbs-dying 0.3\n" in ran.err
    (left,) = left_over(tmp_path / "out.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {left.name}
    words = [word for word in said(clip, "", 1) if word != "quiet=true"]
    again = strangers.run("run", words, place=tmp_path)
    assert again.ended() == 0
    assert f"'{left.name}' is what a run that was killed left of 'out.mp4'" in again.out + again.err
    assert frames_in(tmp_path / "out.mp4") == FRAMES
    assert not left.exists()


@pytest.mark.parametrize("call", [0, 1])
def test_so_does_a_crash_before_there_is_an_output(
    strangers: Children, clip: Path, tmp_path: Path, call: int
) -> None:
    ran = strangers.run("run", said(clip, "SIGSEGV", call), place=tmp_path)
    assert ran.ended() == -signal.SIGSEGV
    assert " in styler 'dying' of cbs-dying 0.3\n" in ran.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("scene", ("input=box.glb", "output=new.glb", "routes={{material/red: x}}", "size=64")),
        ("batch", ("input={clip}", "output=restyled", "routes=[sky]")),
    ],
)
def test_so_does_one_of_another_command(
    strangers: Children, clip: Path, tmp_path: Path, command: str, words: tuple[str, ...]
) -> None:
    scenes.glb(tmp_path / "box.glb")
    dying = ("styler=dying", "+styler.how=SIGSEGV", "+styler.call=1", "accelerator=eager")
    said = [word.format(clip=clip) for word in words]
    ran = strangers.run(command, (*said, "segmenter=half_sky", *dying), place=tmp_path)
    assert ran.ended() == -signal.SIGSEGV, ran.err
    assert " in styler 'dying' of cbs-dying 0.3\n" in ran.err


def test_who_exits_at_once_is_told_and_what_is_done_is_kept(
    strangers: Children, clip: Path, tmp_path: Path
) -> None:
    ran = strangers.run("run", said(clip, "exit", 30), place=tmp_path)
    assert ran.ended() == 2
    assert "the styler 'dying' of cbs-dying 0.3 failed on a frame of" in ran.err
    assert "cbs_dying called os._exit(0)" in ran.err
    assert ran.err.count("\n") == 1
    assert 0 < frames_in(tmp_path / "out.mp4") < FRAMES


def test_so_is_a_sink_that_does(strangers: Children, clip: Path, tmp_path: Path) -> None:
    grave = ("sink=grave", "+sink.how=exit")
    words = (f"input={clip}", "output=out.grave", "quiet=true", *FAST, *grave)
    ran = strangers.run("run", words, place=tmp_path)
    assert ran.ended() == 2
    assert "cbs_dying called os._exit(0)" in ran.err
    assert ran.err.count("\n") == 1


def test_who_exits_in_a_thread_of_its_own_is_told(
    strangers: Children, clip: Path, tmp_path: Path
) -> None:
    ran = strangers.run("run", said(clip, "thread", 30), place=tmp_path)
    assert ran.ended() == 2
    assert ran.err.startswith("cbs-run: error: threading called os._exit(0), in a thread: ")
    assert ran.err.count("\n") == 1
    assert len(left_over(tmp_path / "out.mp4")) == 1


def test_a_fork_of_a_plugins_ends_as_it_likes(
    strangers: Children, clip: Path, tmp_path: Path
) -> None:
    ran = strangers.run("run", said(clip, "fork", 3), place=tmp_path)
    assert (ran.ended(), ran.err) == (0, "")
    assert frames_in(tmp_path / "out.mp4") == FRAMES
