"""How a video file is written: what a kill leaves, sizes, formats, the last frame's time."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.unfinished import Unfinished, left_over
from tests.integration.test_video_rest import restyle
from tests.media import make_clip, picture, sound_packets

KILLED = """
import os, signal, sys, torch
from fractions import Fraction
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.sinks.video import VideoSink
from pathlib import Path
sink = VideoSink(sys.argv[1])
media = Path(sys.argv[2])
sink.open(StreamInfo(320, 240, media=media))
noise = torch.Generator().manual_seed(0)
for index in range(150):
    pixels = torch.randint(0, 255, (240, 320, 3), generator=noise, dtype=torch.uint8)
    sink.write(RawFrame(pixels, index, Fraction(index, 25)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_kill_leaves_a_playable_file_that_the_next_run_tells_of_and_removes(
    tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"out{suffix}"
    source = make_clip(tmp_path / "a.mp4", frames=150, width=320, height=240, sound=6)
    ended = subprocess.run([sys.executable, "-c", KILLED, target, source], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = left_over(target)
    assert left.name.startswith(f".out{suffix}.cbs-")
    with av.open(str(left)) as media:
        frames = sum(1 for _ in media.decode(video=0))
        assert frames > 60
    assert len(sound_packets(left)) > 60
    mine = tmp_path / f".out{suffix}.cbs-mine{suffix}"
    mine.write_bytes(b"a user's own")
    sink = restyle(source, target)
    (line,) = sink.notes
    assert str(left) in line
    assert "killed" in line
    assert not left.exists()
    assert mine.read_bytes() == b"a user's own"
    with av.open(str(target)) as media:
        assert sum(1 for _ in media.decode(video=0)) == 150


def test_a_file_that_is_being_written_is_not_left_over(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    unfinished = Unfinished(target)
    os.symlink(tmp_path / "elsewhere", tmp_path / ".out.mp4.cbs-0123456789abcdef.mp4")
    assert left_over(target) == []
    unfinished.discard()
    assert not unfinished.path.exists()


def test_the_longest_name_has_room_for_chance(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 125 + ".mp4")
    restyle(make_clip(tmp_path / "a.mp4"), target)
    assert target.exists()


def test_an_ordinary_mp4_comes_out(tmp_path: Path) -> None:
    restyle(make_clip(tmp_path / "a.mp4", frames=60), tmp_path / "b.mp4")
    data, boxes, place = (tmp_path / "b.mp4").read_bytes(), [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        size = size if size != 1 else int.from_bytes(data[place + 8 : place + 16], "big")
        boxes.append(data[place + 4 : place + 8])
        place += size
    assert b"moov" in boxes
    assert b"moof" not in boxes


def sized(index: int, width: int, height: int) -> RawFrame:
    return RawFrame(torch.from_numpy(picture(index, width, height)), index, Fraction(index, 25))


def changing(target: Path, **options: object) -> VideoSink:
    sink = VideoSink(str(target), **options)
    sink.open(StreamInfo(64, 48))
    for index in range(20):
        sink.write(sized(index, *((64, 48) if index < 12 else (96, 72))))
    sink.close()
    return sink


def frames_of(path: Path) -> list[RawFrame]:
    with VideoSource(str(path)) as source:
        return list(source)


def test_frames_that_change_their_size_are_scaled(tmp_path: Path) -> None:
    (line,) = changing(tmp_path / "b.mp4").notes
    assert "64x48 to 96x72 at frame 12" in line
    assert "sink.on_resize=split" in line
    frames = frames_of(tmp_path / "b.mp4")
    assert [frame.pixels.shape[:2] for frame in frames] == [(48, 64)] * 20


def test_frames_that_change_their_size_go_on_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "b.2.mp4").write_bytes(b"a user's own")
    (line,) = changing(tmp_path / "b.mp4", on_resize="split").notes
    assert "'b.3.mp4'" in line
    assert (tmp_path / "b.2.mp4").read_bytes() == b"a user's own"
    first, second = frames_of(tmp_path / "b.mp4"), frames_of(tmp_path / "b.3.mp4")
    assert [frame.pixels.shape[:2] for frame in first] == [(48, 64)] * 12
    assert [frame.pixels.shape[:2] for frame in second] == [(72, 96)] * 8
    assert second[0].pts == 0
    with pytest.raises(SinkError, match="choose scale or split"):
        VideoSink("b.mp4", on_resize="crop")


def test_a_split_video_has_its_sound_in_parts(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=50, sound=2)
    sink = VideoSink(str(tmp_path / "b.mp4"), on_resize="split")
    sink.open(StreamInfo(64, 48, media=source))
    for index in range(50):
        sink.write(sized(index, *((64, 48) if index < 25 else (96, 72))))
    sink.close()
    for name in ("b.mp4", "b.2.mp4"):
        with av.open(str(tmp_path / name)) as media:
            assert abs(media.duration / av.time_base - 1) < 0.05
    last = sound_packets(tmp_path / "b.mp4")[-1][0]
    first = sound_packets(tmp_path / "b.2.mp4")
    assert last < 1
    assert first[0][0] <= 0, "what comes before the cut is decoded too, and not played"
    assert min(time for time, *_ in first if time > 0) < 0.05


@pytest.mark.parametrize(
    ("size", "expected", "aspect"),
    [
        ("32x24", (32, 24), None),
        ("128x", (128, 96), None),
        ("x96", (128, 96), None),
        ("64x24", (64, 24), Fraction(1, 2)),
    ],
)
def test_a_chosen_size(
    tmp_path: Path, size: str, expected: tuple[int, int], aspect: Fraction | None
) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3)
    restyle(source, tmp_path / "b.mp4", size=size)
    with av.open(str(tmp_path / "b.mp4")) as media:
        stream = media.streams.video[0]
        assert (stream.width, stream.height) == expected
        assert (stream.sample_aspect_ratio or 1) == (aspect or 1)
    with pytest.raises(SinkError, match="1280x720"):
        VideoSink("b.mp4", size="big")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path: Path, suffix: str) -> None:
    sink = VideoSink(str(tmp_path / f"b{suffix}"))
    sink.open(StreamInfo(64, 48, rate=Fraction(2)))
    for index in range(4):
        frame = sized(index, 64, 48)
        lasts = Fraction(3) if index == 3 else None
        sink.write(RawFrame(frame.pixels, index, Fraction(index, 2), duration=lasts))
    sink.close()
    with av.open(str(tmp_path / f"b{suffix}")) as media:
        assert abs(media.duration / av.time_base - 4.5) < 0.01
    frames = frames_of(tmp_path / f"b{suffix}")
    assert abs(float(frames[-1].pts + frames[-1].duration) - 4.5) < 0.01


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "ticks",
    [
        (0, 10769, 18689, 26715, 37779, 45925, 59017, 65137, 71974, 77371, 83136),
        (0, 4000, 90000),
        (0, 90000, 94000, 99000),
        tuple(range(0, 39600, 3600)),
    ],
    ids=["live", "late", "early", "steady"],
)
def test_frames_at_odd_times_are_all_shown(
    tmp_path: Path, suffix: str, ticks: tuple[int, ...]
) -> None:
    """B-frames are decoded before frames that are shown later: an MP4 told to end with one."""
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(str(path))
    sink.open(StreamInfo(160, 96, rate=Fraction(25), live=True))
    for index, tick in enumerate(ticks):
        pixels = torch.from_numpy(picture(index, 160, 96))
        sink.write(RawFrame(pixels, index, Fraction(tick, 90_000)))
    sink.close()
    with av.open(str(path)) as media:
        shown = [frame.time for frame in media.decode(video=0)]
    assert shown == pytest.approx([tick / 90_000 for tick in ticks], abs=0.002)


def test_a_square_clip_that_is_turned_has_its_aspect_turned(tmp_path: Path) -> None:
    tags = {"sample_aspect_ratio": Fraction(4, 3)}
    source = make_clip(tmp_path / "a.mp4", frames=2, width=48, tags=tags, rotation=90)
    restyle(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as media:
        assert media.streams.video[0].sample_aspect_ratio == Fraction(3, 4)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_sampling_of_colours_is_kept(tmp_path: Path, pix_fmt: str, suffix: str) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2, pix_fmt=pix_fmt)
    assert restyle(source, tmp_path / f"b{suffix}").notes == ()
    with av.open(str(tmp_path / f"b{suffix}")) as media:
        assert media.streams.video[0].pix_fmt == pix_fmt


def test_a_pixel_format_of_ones_own(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2)
    restyle(source, tmp_path / "b.mp4", pixel_format="yuv444p")
    with av.open(str(tmp_path / "b.mp4")) as media:
        assert media.streams.video[0].pix_fmt == "yuv444p"
    with pytest.raises(SinkError, match=r"no pixel format 'rgb24'.*yuv420p.*auto"):
        restyle(source, tmp_path / "c.mp4", pixel_format="rgb24")
    assert not (tmp_path / "c.mp4").exists()


def test_prores_has_its_own_pixel_format_and_containers(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3)
    assert restyle(source, tmp_path / "b.mov", codec="prores_ks").notes == ()
    asked = {"codec": "prores_ks", "crf": 10, "preset": "slow"}
    assert restyle(source, tmp_path / "c.mov", **asked).notes == (
        "the encoder prores_ks knows no crf, so sink.crf=10 changes nothing",
        "the encoder prores_ks knows no preset, so sink.preset=slow changes nothing",
    )
    with av.open(str(tmp_path / "b.mov")) as media:
        assert media.streams.video[0].codec_context.name == "prores"
        assert media.streams.video[0].pix_fmt == "yuv422p10le"
    with pytest.raises(SinkError, match=r"\.mp4 cannot hold prores_ks: write \.mov"):
        restyle(source, tmp_path / "b.mp4", codec="prores_ks")


def test_hevc_is_tagged_for_apple_and_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3)
    restyle(source, tmp_path / "b.mp4", codec="libx265")
    with av.open(str(tmp_path / "b.mp4")) as media:
        assert media.streams.video[0].codec_tag == "hvc1"
    assert capfd.readouterr() == ("", "")


def _begin(sink: VideoSink) -> None:
    sink.open(StreamInfo(8, 8))
    sink.write(RawFrame(torch.zeros(8, 8, 3, dtype=torch.uint8), 0))


def test_what_an_encoder_refuses_is_explained(tmp_path: Path) -> None:
    sink = VideoSink(str(tmp_path / "b.mp4"), codec="libx265")
    with pytest.raises(SinkError, match=r"cannot write .* with libx265 at 8x8") as caught:
        _begin(sink)
    assert "\n" not in str(caught.value)
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_hdr_keeps_its_curve(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3, tags={"color_trc": 16, "color_primaries": 9})
    restyle(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as media:
        assert media.streams.video[0].codec_context.color_trc == 16
        assert np.isfinite(media.duration)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_x265_in_mp4_holds_a_few_frames(tmp_path: Path, frames: int) -> None:
    if "libx265" not in av.codecs_available:
        pytest.skip("needs FFmpeg with libx265")
    sink = VideoSink(str(tmp_path / "a.mp4"), codec="libx265", preset="ultrafast")
    sink.open(StreamInfo(64, 48, rate=Fraction(25), frames=frames))
    for index in range(frames):
        sink.write(RawFrame(torch.from_numpy(picture(index)), index, Fraction(index, 25)))
    sink.close()
    with av.open(str(tmp_path / "a.mp4")) as media:
        assert [frame.time for frame in media.decode(video=0)] == [i / 25 for i in range(frames)]
