"""``resume=true``: a run that was ended anywhere and gone on with is the run in one piece."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from cbs_plugins.sources.video import VideoSource

from cbs_core.run import resuming
from tests.integration.command import COMMAND, ROUTES, WAVE, Ran, with_net
from tests.media import make_clip, sound_packets

FRAMES = 23

LOSSLESS = ("sink.crf=0", "sink.pixel_format=yuv444p")

WAYS = {
    "frames of their own": (),
    "frozen": ("styler.statistics=frozen", "matte=soft"),
    "carried": ("segment_every=3", "styler.where=mask", "styler.statistics=refresh:7"),
    "one object": ("select=largest", "scheduler=pipeline"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures at uneven times, in groups of six, with sound."""
    folder = tmp_path_factory.mktemp("clip")
    ticks = [i * 40 + (i % 3) * 7 for i in range(FRAMES)]
    base = Fraction(1, 1000)
    return make_clip(folder / "a.mp4", frames=FRAMES, ticks=ticks, time_base=base, sound=1, gop=6)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Windows of five frames, and Ctrl-C before one frame, or none."""
    monkeypatch.setattr(resuming, "WINDOW", 5)
    plain = resuming.Windows.submit

    def at(number: int | None) -> None:
        def submit(self: resuming.Windows, raw):
            if raw.index == number:
                raise KeyboardInterrupt
            plain(self, raw)

        monkeypatch.setattr(resuming.Windows, "submit", submit)

    at(None)
    return at


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as media:
        return [frame.to_ndarray().tobytes() for frame in media.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    with VideoSource(str(path)) as source:
        return [frame.pts for frame in source]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stops", [[3, 12], [10], [22]])
def test_it_is_the_run_in_one_piece(
    command: Callable[..., Ran],
    place: Path,
    clip: Path,
    ended: Callable[[int | None], None],
    way: str,
    stops: list[int],
) -> None:
    words = (f"input={clip}", ROUTES, WAVE, *LOSSLESS, *WAYS[way])
    assert command(*words, "output=whole.mp4").code == 0
    resumed = (*words, "output=out.mp4", "resume=true")
    for stop in stops:
        ended(stop)
        ran = command(*resumed)
        assert ran.code == 130
        done = stop // 5 * 5
        if done:
            want = f"interrupted: {done} frames are in 'out.mp4.parts': the same command goes on"
            assert ran.err.startswith(want)
        assert not (place / "out.mp4").exists()
        assert (place / "out.mp4.parts").is_dir() == bool(done)
    ended(None)
    ran = command(*resumed)
    assert ran.code == 0, ran.err
    assert f"{FRAMES} frames" in ran.out
    assert not list(place.glob("*.parts"))
    assert times(place / "out.mp4") == times(place / "whole.mp4") == times(clip)
    assert sound_packets(place / "out.mp4") == sound_packets(place / "whole.mp4")
    assert pictures(place / "out.mp4") == pictures(place / "whole.mp4")


def test_the_file_is_the_same_wherever_it_was_ended(
    command: Callable[..., Ran], place: Path, clip: Path, ended: Callable[[int | None], None]
) -> None:
    words = (f"input={clip}", ROUTES, WAVE, "resume=true")  # not lossless
    assert command(*words, "output=one.mp4").code == 0
    ended(8)
    assert command(*words, "output=other.mp4").code == 130
    ended(None)
    assert command(*words, "output=other.mp4").code == 0
    assert pictures(place / "one.mp4") == pictures(place / "other.mp4")


def test_another_run_is_refused_and_what_is_there_stays(
    command: Callable[..., Ran], place: Path, clip: Path, ended: Callable[[int | None], None]
) -> None:
    words = (f"input={clip}", ROUTES, "output=out.mp4", "resume=true")
    ended(12)
    assert command(*words, WAVE).code == 130
    before = {path: path.read_bytes() for path in (place / "out.mp4.parts").iterdir()}
    assert len(before) == 5  # two segments, two states, the manifest
    ended(None)
    ran = command(*words, "styler.style=starry_night")
    assert ran.code == 2
    assert "holds 10 frames of another run (styler.style was wave, and is starry_night)" in ran.err
    assert {path: path.read_bytes() for path in (place / "out.mp4.parts").iterdir()} == before
    manifest = place / "out.mp4.parts" / "manifest.json"
    kept = json.loads(manifest.read_text())
    kept["identity"]["versions"]["torch"] = "1.0"
    manifest.write_text(json.dumps(kept))
    ran = command(*words, WAVE)
    assert ran.code == 2
    assert "(versions.torch was 1.0, and is" in ran.err


def test_a_file_that_was_changed_is_refused(
    command: Callable[..., Ran], place: Path, clip: Path, ended: Callable[[int | None], None]
) -> None:
    (place / "a.mp4").write_bytes(clip.read_bytes())
    words = ("input=a.mp4", ROUTES, WAVE, "output=out.mp4", "resume=true")
    ended(12)
    assert command(*words).code == 130
    make_clip(place / "a.mp4", frames=FRAMES, width=80)
    ended(None)
    ran = command(*words)
    assert ran.code == 2
    assert "of another run (input was" in ran.err


def test_what_goes_by_the_clock_is_refused(
    command: Callable[..., Ran], place: Path, clip: Path
) -> None:
    words = (f"input={clip}", ROUTES, WAVE, "output=out.mp4", "resume=true")
    ran = command(*words, "policy=freshest")
    assert ran.code == 2
    assert "policy=freshest goes by the clock, which resume=true cannot" in ran.err


def test_a_folder_of_somebody_elses_stays(
    command: Callable[..., Ran], place: Path, clip: Path
) -> None:
    (place / "out.mp4.parts").mkdir()
    (place / "out.mp4.parts" / "mine.txt").write_text("mine")
    ran = command(f"input={clip}", ROUTES, WAVE, "output=out.mp4", "resume=true")
    assert ran.code == 2
    assert "holds other things" in ran.err
    assert (place / "out.mp4.parts" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "words", [("output=frames",), ("output=out.mp4", "output_matte=m.mp4"), ()]
)
def test_what_cannot_be_gone_on_with_is_refused(
    command: Callable[..., Ran], place: Path, clip: Path, words: tuple[str, ...]
) -> None:
    ran = command(f"input={clip}", ROUTES, WAVE, "resume=true", *words)
    assert ran.code == 2
    assert "resume=true is for" in ran.err


def test_a_run_that_was_killed_goes_on(place: Path, clip: Path) -> None:
    long = make_clip(place / "long.mp4", frames=200, sound=8, width=96, height=72)
    words = with_net((f"input={long}", ROUTES, WAVE, "resume=true", "quiet=true", *LOSSLESS))
    process = subprocess.Popen([COMMAND, *words, "output=out.mp4"], start_new_session=True)
    manifest, end = place / "out.mp4.parts" / "manifest.json", time.monotonic() + 120
    while not manifest.is_file() or '"file"' not in manifest.read_text():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place / "out.mp4").exists()
    for output in ("out.mp4", "whole.mp4"):
        subprocess.run([COMMAND, *words, f"output={output}"], check=True, timeout=200)
    assert pictures(place / "out.mp4") == pictures(place / "whole.mp4")
    assert times(place / "out.mp4") == times(long)
    assert sound_packets(place / "out.mp4") == sound_packets(place / "whole.mp4")
    assert not [path for path in place.iterdir() if "parts" in path.name or ".cbs-" in path.name]
