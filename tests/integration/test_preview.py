"""``preview=``: one frame of the input, found without the ones before it, as the run shows it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cbs_plugins.sources.video import VideoSource
from PIL import Image

from cbs_core.contract.errors import SourceError
from cbs_core.contract.places import parse
from cbs_core.run.preview import Preview
from tests.integration.command import ROUTES, WAVE, Ran
from tests.media import make_clip

FRAMES, GOP = 300, 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds whose frames tell their number, in groups of a second."""
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", frames=FRAMES, gop=GOP, options=None)


def shown(path: Path, place: str, **params: object) -> tuple[np.ndarray, Fraction]:
    with Preview(VideoSource(str(path), **params), parse("preview", place)) as source:
        (frame,) = source
    return frame.pixels.numpy(), frame.pts


def all_frames(path: Path) -> list[tuple[np.ndarray, Fraction]]:
    with VideoSource(str(path)) as source:
        return [(frame.pixels.numpy(), frame.pts) for frame in source]


@pytest.mark.parametrize("place", ["0", "0f", "7f", "00:00:05", "137f", "11.96", "299f", "4.999"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_frame_is_the_one_that_a_whole_decoding_gives(
    clip: Path, tmp_path: Path, place: str, suffix: str
) -> None:
    path = clip if suffix == ".mp4" else make_clip(tmp_path / "a.mkv", frames=FRAMES, gop=GOP)
    want = parse("preview", place)
    frames = all_frames(path)
    pixels, pts = next(one for at, one in enumerate(frames) if want.reached(at, one[1]))
    got, time_ = shown(path, place)
    assert time_ == pts
    assert np.array_equal(got, pixels)


def test_the_place_is_the_inputs_whatever_part_the_run_takes(clip: Path) -> None:
    pixels, pts = shown(clip, "00:00:05", start="2", end="6")
    assert np.array_equal(pixels, all_frames(clip)[125][0])
    assert pts == 3


def test_only_the_group_of_pictures_is_decoded(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    plain = VideoSource._decode_packets

    def counted(self: VideoSource):
        for frame in plain(self):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(VideoSource, "_decode_packets", counted)
    for place in ("00:00:10.5", "262f"):
        decoded.clear()
        shown(clip, place)
        assert len(decoded) < 2 * GOP


def test_the_last_frame_is_there_while_it_is_shown(clip: Path) -> None:
    pixels, pts = all_frames(clip)[-1]
    for place in ("11.97", "11.999"):
        got, time_ = shown(clip, place)
        assert time_ == pts
        assert np.array_equal(got, pixels)
    with pytest.raises(SourceError, match="no frame at preview=12"):
        shown(clip, "12")


def test_a_place_behind_the_end_is_told(clip: Path) -> None:
    with pytest.raises(SourceError, match="no frame at preview=00:10:00"):
        shown(clip, "00:10:00")
    with pytest.raises(SourceError, match="no frame at preview=300f"):
        shown(clip, "300f")


def test_a_picture_and_its_sheet_and_nothing_else(
    command: Callable[..., Ran], place: Path, clip: Path
) -> None:
    (place / "out.mp4").write_bytes(b"mine")
    for name in ("out.preview.png", "out.preview.2.png"):
        ran = command(f"input={clip}", "output=out.mp4", "preview=00:00:05", ROUTES, WAVE)
        assert ran.code == 0, ran.err
        assert name in ran.out
    assert (place / "out.mp4").read_bytes() == b"mine"
    names = sorted(path.name for path in place.iterdir() if path.is_file())
    want = ["out.preview.png", "out.preview.sheet.png"]
    want += ["out.preview.2.png", "out.preview.2.sheet.png"]
    assert names == sorted(["out.mp4", *want])


@pytest.mark.parametrize("statistics", ["frame", "frozen"])
def test_it_is_the_frame_of_the_run(
    command: Callable[..., Ran], place: Path, clip: Path, statistics: str
) -> None:
    words = (f"input={clip}", ROUTES, WAVE, f"styler.statistics={statistics}", "source.end=1")
    words += ("steady=off",)
    assert command(*words, "output=run", "sink=folder").code == 0
    ran = command(*words, "output=run", "sink=folder", "preview=20f")
    assert ran.code == 0, ran.err
    got = np.asarray(Image.open(place / "run.preview.png"))
    assert np.array_equal(got, np.asarray(Image.open(place / "run" / "000020.png")))
    assert ("the run's first frame" in ran.out) == (statistics == "frozen")
