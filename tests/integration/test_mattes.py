"""``output_matte=`` and ``cutout=true``: what an editor lays over the source's own pictures."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from cbs_plugins.sources.video import VideoSource
from PIL import Image

from tests.integration.command import Ran
from tests.media import make_clip

TWO = "routes={building: wave, wall: {style: starry_night, strength: 0.6, keep_color: true}}"
FRAMES = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures at uneven times, with sound, of unsquare pixels, turned and tagged."""
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(
        folder / "clip.mp4",
        frames=FRAMES,
        ticks=[0, 40, 100, 130],
        time_base=Fraction(1, 1000),
        sound=0.2,
        rotation=90,
        tags={
            "sample_aspect_ratio": Fraction(4, 3),
            "colorspace": 1,
            "color_range": 1,
            "color_primaries": 1,
            "color_trc": 1,
        },
    )


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])


def frames(path: Path) -> tuple[np.ndarray, list[Fraction]]:
    with VideoSource(str(path)) as source:
        got = list(source)
    return np.stack([frame.pixels.numpy() for frame in got]), [frame.pts for frame in got]


@pytest.mark.parametrize("matte", ["argmax", "soft"])
@pytest.mark.parametrize("compositor", ["hard", "feather", "guided"])
def test_the_cutout_over_the_source_is_the_output(
    command: Callable[..., Ran], place: Path, clip: Path, compositor: str, matte: str
) -> None:
    words = (f"input={clip}", TWO, f"compositor={compositor}", f"matte={matte}", "sink=folder")
    ran = command(*words, "output=whole", "output_matte=mattes")
    assert ran.code == 0, ran.err
    assert command(*words, "output=cut", "cutout=true").code == 0
    source, whole = frames(clip)[0].astype(float), pictures(place / "whole").astype(float)
    cut = pictures(place / "cut").astype(float)
    assert cut.shape == (*whole.shape[:3], 4)
    share = cut[..., 3:] / 255
    # Two colours and a share, each to half a level; `guided` cuts an overshoot, so that where two
    # mattes meet its composite has more than one whole of style.
    off = np.abs(share * cut[..., :3] + (1 - share) * source - whole)
    assert np.quantile(off, 0.99) <= 2
    assert off.max() <= (10 if compositor == "guided" else 2)
    if compositor == "hard" and matte == "argmax":
        assert set(np.unique(cut[..., 3])) == {0, 255}
        assert np.array_equal(whole[cut[..., 3] == 255], cut[..., :3][cut[..., 3] == 255])
    mattes = [pictures(place / "mattes" / name).astype(int) for name in ("building", "wall")]
    assert all(one.shape == whole.shape[:3] and one.any() for one in mattes)
    assert np.abs(np.minimum(sum(mattes), 255) - cut[..., 3]).max() <= 1
    untouched = np.abs(whole - source).max(-1)[sum(mattes) == 0]
    assert untouched.max() <= (0 if compositor == "hard" else 1)


def test_what_lies_behind_is_nowhere_in_the_cutout(
    command: Callable[..., Ran], place: Path, clip: Path
) -> None:
    words = ("routes={building: wave}", "sink=folder", "source.end=1f")
    assert command(f"input={clip}", *words, "output=cut", "cutout=true").code == 0
    first = pictures(place / "cut")[0].astype(float)
    hidden, shown = first[first[..., 3] == 0][:, :3], first[first[..., 3] > 0][:, :3]
    assert len(hidden)
    assert len(shown)
    # Means of what is shown, never beyond it.
    assert (hidden >= shown.min(0) - 1).all()
    assert (hidden <= shown.max(0) + 1).all()


def test_mattes_lie_on_the_pictures_and_in_their_time(
    command: Callable[..., Ran], place: Path, clip: Path
) -> None:
    ran = command(
        f"input={clip}", TWO, "output=out.mp4", "output_matte=mask.mp4", "sink.size=96x128"
    )
    assert ran.code == 0, ran.err
    assert "mask.building.mp4: 4 frames" in ran.out
    assert command(f"input={clip}", TWO, "output=x", "output_matte=exact", "sink=folder").code == 0
    with av.open("out.mp4") as film:
        stream = film.streams.video[0]
        times = sorted(p.pts * p.time_base for p in film.demux(stream) if p.size)
        shape, colours = stream.sample_aspect_ratio, stream.codec_context.colorspace
        levels = stream.codec_context.color_range
    for name in ("building", "wall"):
        with av.open(f"mask.{name}.mp4") as media:
            assert [one.type for one in media.streams] == ["video"]
            mask = media.streams.video[0]
            assert (mask.width, mask.height) == (96, 128)
            assert mask.sample_aspect_ratio == shape
            assert mask.codec_context.colorspace == colours
            assert mask.codec_context.color_range == levels
            assert sorted(p.pts * p.time_base for p in media.demux(mask) if p.size) == times
        assert frames(Path(f"mask.{name}.mp4"))[1] == frames(clip)[1]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".mkv"])
def test_a_video_of_a_matte_is_black_and_white(
    command: Callable[..., Ran], place: Path, clip: Path, suffix: str
) -> None:
    words = (f"input={clip}", "routes={building: wave}", "sink.audio=false")
    assert command(*words, "output=a.mp4", f"output_matte=mask{suffix}").code == 0
    words = (f"input={clip}", "routes={building: wave}", "sink=folder")
    assert command(*words, "output=x", "output_matte=exact").code == 0
    got = frames(place / f"mask.building{suffix}")[0].astype(int)
    want = pictures(place / "exact" / "building").astype(int)
    assert np.abs(got - got[..., :1]).max() <= 1
    if suffix == ".webm":  # of square pixels
        assert got.shape == (FRAMES, 64, 36, 3)
        assert {0, 255} == {int(np.quantile(got, share)) for share in (0.05, 0.95)}
        return
    wrong = np.abs(got[..., 0] - want)
    assert np.quantile(wrong, 0.99) <= 3
    assert wrong.max() <= 24


@pytest.mark.parametrize(
    ("suffix", "decoder", "codec"),
    [(".mov", "prores", "prores"), (".webm", "libvpx-vp9", "vp9"), (".mkv", "libvpx-vp9", "vp9")],
)
def test_transparent_video_is_read_back_by_ffmpeg(
    command: Callable[..., Ran], place: Path, clip: Path, suffix: str, decoder: str, codec: str
) -> None:
    words = (f"input={clip}", "routes={building: wave}", "cutout=true")
    ran = command(*words, f"output=cut{suffix}", "sink.audio=false")
    assert ran.code == 0, ran.err
    assert command(*words, "output=exact", "sink=folder").code == 0
    want = pictures(place / "exact").astype(int)
    with av.open(f"cut{suffix}") as media:
        stream = media.streams.video[0]
        assert stream.codec_context.name.removeprefix("lib") == codec
        # VP9 holds square pixels only.
        shape = (48, 64, Fraction(3, 4)) if suffix == ".mov" else (36, 64, 1)
        aspect = stream.sample_aspect_ratio or 1
        assert (stream.width, stream.height, aspect) == shape
        assert ("square pixels" in ran.out) == (suffix != ".mov")
    got = _rgba(place / f"cut{suffix}", decoder, (len(want), 64, shape[0], 4))
    want = want[:, :, np.linspace(0, 47, shape[0]).round().astype(int)]
    opaque, clear = want[..., 3] == 255, want[..., 3] == 0
    assert np.quantile(got[..., 3][opaque], 0.02) >= 245
    assert np.quantile(got[..., 3][clear], 0.98) <= 10
    assert np.abs(got[..., :3] - want[..., :3])[opaque].mean() < 12
    assert frames(place / f"cut{suffix}")[1] == frames(clip)[1]


def _rgba(path: Path, decoder: str, shape: tuple[int, ...]) -> np.ndarray:
    """Every frame as FFmpeg's own command reads it, where it is there; else as PyAV does."""
    try:
        read = ("ffmpeg", "-v", "error", "-c:v", decoder, "-i", path)
        rest = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgba", "-")
        data = subprocess.run([*read, *rest], capture_output=True, check=True).stdout
    except FileNotFoundError:
        with VideoSource(str(path)) as source:
            both = [np.dstack([frame.pixels, frame.alpha]) for frame in source]
        return np.stack(both).astype(int)
    return np.frombuffer(data, np.uint8).reshape(shape).astype(int)


@pytest.mark.parametrize("name", ["out.mp4", "out.jpg", "out.m4v"])
def test_what_holds_no_transparency_is_refused(
    command: Callable[..., Ran], place: Path, clip: Path, name: str
) -> None:
    source = clip if name.endswith(("4", "v")) else place / "photo.png"
    if source.suffix == ".png":
        Image.fromarray(frames(clip)[0][0]).save(source)
    ran = command(f"input={source}", f"output={name}", TWO, "cutout=true")
    assert ran.code == 2
    assert "holds no transparency" in ran.err
    assert not (place / name).exists()


def test_a_picture_and_its_matte(command: Callable[..., Ran], place: Path, clip: Path) -> None:
    alpha = np.zeros((64, 48), np.uint8)
    alpha[:32] = 200
    pixels = frames(clip)[0][0]
    alpha = np.resize(alpha, pixels.shape[:2])
    Image.fromarray(np.dstack([pixels, alpha])).save("photo.png")
    words = ("input=photo.png", "routes={building: wave}")
    ran = command(*words, "output=out.png", "output_matte=mask.png", "cutout=true")
    assert ran.code == 0, ran.err
    mask = np.asarray(Image.open("mask.building.png"))
    assert Image.open("mask.building.png").mode == "L"
    got = np.asarray(Image.open("out.png"))[..., 3]
    assert np.array_equal(got, np.where(mask == 255, alpha, 0))
