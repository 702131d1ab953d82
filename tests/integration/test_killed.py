"""``kill -9`` at random moments of a video's run, and then the run again.

``CBS_KILLS=30`` tries as many moments.
"""

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.integration.command import ROUTES, WAVE, with_net
from tests.media import make_clip

KILLS = int(os.environ.get("CBS_KILLS", "3"))
FRAMES = 60


def child(words: tuple[str, ...], told: Path) -> int:
    """Runs `cbs-run` in a child of this process, where all is imported already."""
    from hydra.core.global_hydra import GlobalHydra

    from cbs_core.cli import run

    pid = os.fork()
    if pid:
        return pid
    try:
        handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.argv = ["cbs-run", *with_net(words)]
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        run.main()
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def ended(pid: int, seconds: float = 120) -> int:
    """Waits for a child; returns its exit code."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        assert time.monotonic() < until
        time.sleep(0.01)


def frames_in(path: Path) -> int:
    """Decodes a film to its end."""
    with av.open(str(path)) as media:
        return sum(1 for _ in media.decode(video=0))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suffix", [".mp4"])
def test_killed_at_any_moment_nothing_broken_has_the_outputs_name(
    place: Path, suffix: str, record_property: Callable[[str, object], None]
) -> None:
    clip = make_clip(place / "clip.mp4", frames=FRAMES, sound=FRAMES / 25, width=96, height=72)
    before = clip.read_bytes()
    chance = random.Random(16)
    kept: list[int] = []

    def run(name: str, told: str) -> int:
        words = (f"input={clip}", f"output={name}", WAVE, ROUTES, "sink.preset=ultrafast")
        return child((*words, "sheet=null", "hydra.run.dir=run"), place / told)

    begun = time.monotonic()
    assert ended(run(f"whole{suffix}", "told.txt")) == 0, (place / "told.txt").read_text()
    lasts = time.monotonic() - begun
    for number in range(KILLS):
        output = place / f"out{number}{suffix}"
        pid = run(output.name, "killed.txt")
        time.sleep(chance.uniform(0, lasts))
        os.kill(pid, signal.SIGKILL)
        whole = ended(pid) == 0
        assert whole or not output.exists() or frames_in(output) == FRAMES
        left = list(place.glob(".*cbs-*"))
        for path in left:
            assert re.fullmatch(
                rf"\.{re.escape(output.name)}\.cbs-[0-9a-f]{{16}}({suffix})?", path.name
            )
            kept.append(frames_in(path) if path.suffix == suffix else 0)
        if output.exists():
            output.unlink()
            output.with_suffix(".report.json").unlink(missing_ok=True)
        assert ended(run(output.name, "again.txt")) == 0
        told = (place / "again.txt").read_text()
        assert all(f"'{path.name}'" in told.replace(f"{place}/", "") for path in left), told
        assert frames_in(output) == FRAMES
        assert not list(place.glob(".*cbs-*"))
    assert clip.read_bytes() == before
    record_property("frames kept", kept)
    print(f"\n{KILLS} kills within {lasts:.1f} s; frames in what was left: {kept}")
