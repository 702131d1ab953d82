"""Video in, video out: times, sound, orientation, colours, and every way a file can be bad."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from cbs_plugins.sinks.null import NullSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.errors import SinkError, SourceError, SourceLostError
from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.types import RawFrame, StreamInfo
from tests.disks import files_up_to
from tests.media import cut, damage, luma, make_clip, picture, sound_packets


def copy(source: Path, target: Path, **options: object) -> VideoSource:
    video, sink = VideoSource(str(source)), VideoSink(str(target), **options)
    try:
        with video:
            sink.open(video.info)
            for frame in video:
                sink.write(frame)
            sink.close()
    except BaseException:
        sink.abort()
        raise
    return video


def read(path: Path, **options: object) -> tuple[StreamInfo, list[RawFrame]]:
    with VideoSource(str(path), **options) as video:
        return video.info, list(video)


def times(path: Path) -> list[Fraction]:
    return [frame.pts for frame in read(path)[1]]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(float) - b.astype(float)) ** 2).mean())
    return 10 * np.log10(255**2 / max(error, 1e-9))


def no_temporary_left(folder: Path) -> bool:
    return not list(folder.rglob(".*cbs-*"))


def test_they_fill_the_interfaces(tmp_path: Path) -> None:
    with VideoSource(str(make_clip(tmp_path / "a.mp4"))) as source:
        assert isinstance(source, Source)
    assert isinstance(VideoSink("a.mp4"), Sink)
    assert isinstance(NullSink(), Sink)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
def test_frames_times_rate_and_sound_are_kept(tmp_path: Path, suffix: str) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=30, sound=1.2, title="Été")
    target = tmp_path / f"b{suffix}"
    copy(source, target)
    before, frames = read(source)
    after, copies = read(target)
    assert [f.pts for f in copies] == [f.pts for f in frames]
    assert [f.index for f in copies] == list(range(30))
    assert (after.width, after.height, after.rate) == (before.width, before.height, before.rate)
    sound, copied = sound_packets(source), sound_packets(target)
    assert len(sound) > 50
    assert [data for _, data in copied] == [data for _, data in sound]
    # Matroska counts in milliseconds.
    late = [abs(a - b) for (a, _), (b, _) in zip(sound, copied, strict=True)]
    assert max(late) <= (Fraction(1, 1000) if suffix == ".mkv" else 0)
    with av.open(str(target)) as media:
        assert media.metadata["title"] == "Été"
    assert no_temporary_left(tmp_path)


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    ticks = [0, 40, 50, 170, 171, 300, 420, 1000]
    source = make_clip(tmp_path / "a.mp4", ticks=ticks, time_base=Fraction(1, 1000))
    assert times(source) == [Fraction(t, 1000) for t in ticks]
    copy(source, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == times(source)


def test_a_picture_that_starts_after_its_sound_stays_there(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "a.mkv",
        ticks=range(500, 1000, 40),
        time_base=Fraction(1, 1000),
        sound=1.0,
    )
    copy(source, tmp_path / "b.mp4")
    assert times(source)[0] == Fraction(1, 2)
    assert times(tmp_path / "b.mp4") == times(source)
    first = [sound_packets(path)[0][0] for path in (source, tmp_path / "b.mp4")]
    assert abs(first[0] - first[1]) < Fraction(1, 1000)


def test_an_arbitrary_clock_starts_at_zero_with_sound_and_picture_together(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.ts", frames=30, sound=1.2)
    copy(source, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == times(source)
    with av.open(str(source)) as media:
        video, audio = media.streams.video[0], media.streams.audio[0]
        apart = video.start_time * video.time_base - audio.start_time * audio.time_base
    assert times(source)[0] == max(apart, 0)
    moved = times(tmp_path / "b.mp4")[0] - sound_packets(tmp_path / "b.mp4")[0][0]
    assert abs(moved - apart) < Fraction(1, 1000)


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("hflip", [False, True])
def test_a_turned_or_mirrored_video_comes_upright(
    tmp_path: Path, rotation: int, hflip: bool
) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2, rotation=rotation, hflip=hflip)
    info, frames = read(source)
    # FFmpeg's own filters as the oracle.
    with av.open(str(source)) as media:
        frame = next(media.decode(video=0))
        graph = av.filter.Graph()
        chain = [graph.add_buffer(template=media.streams.video[0])]
        turn = {90: [("transpose", "cclock")], -90: [("transpose", "clock")], 180: []}[rotation]
        if rotation == 180:
            turn = [("hflip", None), ("vflip", None)]
        for name, args in turn + ([("hflip", None)] if hflip else []):
            chain.append(graph.add(name, args))
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain).configure()
        graph.push(frame)
        expected = graph.pull().to_ndarray(format="rgb24")
    assert (info.height, info.width) == expected.shape[:2]
    assert psnr(frames[0].pixels.numpy(), expected) > 35
    copy(source, tmp_path / "b.mp4")
    assert read(tmp_path / "b.mp4")[0].width == info.width
    assert psnr(read(tmp_path / "b.mp4")[1][0].pixels.numpy(), expected) > 30


@pytest.mark.parametrize(("width", "height"), [(65, 131), (64, 33), (1, 1), (2, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_any_size_is_kept(tmp_path: Path, width: int, height: int, suffix: str) -> None:
    target = tmp_path / f"a{suffix}"
    sink = VideoSink(str(target))
    sink.open(StreamInfo(width, height))
    for index in range(3):
        pixels = torch.from_numpy(picture(index, width, height))
        sink.write(RawFrame(pixels, index, Fraction(index, 25)))
    sink.close()
    info, frames = read(target)
    assert (info.width, info.height, len(frames)) == (width, height, 3)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=1)
    copy(source, tmp_path / "b.mp4")
    info, frames = read(tmp_path / "b.mp4")
    assert (len(frames), info.rate, frames[0].pts) == (1, 25, 0)


@pytest.mark.parametrize(
    ("colorspace", "color_range"), [(None, None), (1, 1), (1, 2), (6, 1), (5, 2), (9, 1)]
)
def test_colours_come_back_and_stay_tagged(
    tmp_path: Path, colorspace: int | None, color_range: int | None
) -> None:
    tags = {"colorspace": colorspace, "color_range": color_range, "color_primaries": colorspace}
    tags = {name: value for name, value in tags.items() if value is not None}
    source = make_clip(tmp_path / "a.mp4", frames=3, tags=tags, options={"crf": "4"})
    copy(source, tmp_path / "b.mp4", crf=4)
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mp4")) as b:
        before, after = a.streams.video[0].codec_context, b.streams.video[0].codec_context
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            assert getattr(after, name) == getattr(before, name)
    for one, other in zip(luma(source), luma(tmp_path / "b.mp4"), strict=True):
        assert psnr(one, other) > 45
        assert abs((one - other).mean()) < 0.2  # no shift, such as swscale's fast path makes
    assert psnr(read(source)[1][0].pixels.numpy(), picture(0)) > 30


def test_the_pixel_aspect_ratio_is_kept(tmp_path: Path) -> None:
    tags = {"sample_aspect_ratio": Fraction(4, 3)}
    for rotation, expected in ((0, Fraction(4, 3)), (90, Fraction(3, 4))):
        source = make_clip(tmp_path / "a.mp4", frames=2, tags=tags, rotation=rotation)
        copy(source, tmp_path / "b.mp4")
        with av.open(str(tmp_path / "b.mp4")) as media:
            assert media.streams.video[0].sample_aspect_ratio == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_after_a_damaged_packet_decoding_goes_on(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"a{suffix}", frames=30, gop=5)
    bad = damage(clip, 13, tmp_path / f"b{suffix}")
    with VideoSource(str(bad)) as source:
        frames = list(source)
    assert source.damaged == 1
    assert len(frames) >= 24
    assert frames[-1].pts == times(clip)[-1]
    assert [f.index for f in frames] == list(range(len(frames)))
    with VideoSource(str(clip)) as source:
        list(source)
    assert source.damaged == 0


def test_a_cut_mp4_is_refused_at_once_with_the_count(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, options={"movflags": "faststart"})
    short = cut(clip, 0.6, tmp_path / "b.mp4")
    with pytest.raises(SourceError, match=r"b.mp4' is cut short: \d+ of 60 frames.*allow_trunc"):
        VideoSource(str(short)).__enter__()
    assert 0 < len(read(short, allow_truncated=True)[1]) < 60


@pytest.mark.parametrize("part", [0.2, 0.6, 0.9])
def test_a_cut_mp4_without_index_is_told_as_such(tmp_path: Path, part: float) -> None:
    short = cut(make_clip(tmp_path / "a.mp4"), part, tmp_path / "b.mp4")
    with pytest.raises(SourceError, match=r"b.mp4' .*is cut short"):
        VideoSource(str(short)).__enter__()


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx-vp9")])
def test_a_cut_matroska_is_refused_at_once(tmp_path: Path, suffix: str, codec: str) -> None:
    clip = make_clip(tmp_path / f"a{suffix}", frames=60, codec=codec)
    short = cut(clip, 0.6, tmp_path / f"b{suffix}")
    with pytest.raises(SourceError, match=r"is cut short: 60% of its bytes.*allow_truncated"):
        VideoSource(str(short)).__enter__()
    assert 20 < len(read(short, allow_truncated=True)[1]) < 60


def test_what_is_done_of_a_matroska_that_breaks_off_stays(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=60)
    data = cut(clip, 0.6, tmp_path / "b.mkv").read_bytes()
    # As one that was never closed, whose header does not say where it ends.
    place = data.index(b"\x18\x53\x80\x67") + 4
    (tmp_path / "b.mkv").write_bytes(data[:place] + b"\x01" + b"\xff" * 7 + data[place + 8 :])
    frames = []
    with (
        VideoSource(str(tmp_path / "b.mkv")) as source,
        pytest.raises(SourceLostError, match=r"is cut short: \d+ of 60 frames.*allow_truncated"),
    ):
        frames.extend(iter(source))
    assert source.info.frames is None
    assert 20 < len(read(tmp_path / "b.mkv", allow_truncated=True)[1]) < 60


@pytest.mark.parametrize("inside", [False, True], ids=["between packets", "inside one"])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".flv", "flv1"), (".flv", "libx264"), (".ivf", "libvpx"), (".mxf", "mpeg2video")],
)
def test_what_is_done_of_one_whose_header_tells_its_length_stays(
    suffix: str, codec: str, inside: bool, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / f"a{suffix}", frames=75, codec=codec, gop=15)
    with av.open(str(clip)) as media:
        places = [packet.pos for packet in media.demux(video=0) if packet.size]
    short = clip.with_name(f"b{suffix}")
    short.write_bytes(clip.read_bytes()[: places[45] + (40 if inside else 0)])
    frames = []
    with (
        VideoSource(str(short)) as source,
        pytest.raises(SourceLostError, match=r"b\....' is cut short: .* frames.*allow_truncated"),
    ):
        frames.extend(iter(source))
    assert len(read(short, allow_truncated=True)[1]) >= 40
    info, whole = read(clip)
    assert (len(whole), info.notes) == (75, ())


def test_a_sound_that_outlasts_the_picture_is_no_cut(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.flv", frames=25, sound=3.0)
    assert len(read(clip)[1]) == 25


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".gif", "gif", "rgb8"),
        (".apng", "apng", "rgb24"),
        (".nut", "mpeg4", None),
        (".ogv", "libvpx", None),
        (".wmv", "wmv2", None),
    ],
)
def test_one_that_may_be_cut_is_told_and_read(
    suffix: str, codec: str, pix_fmt: str | None, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / f"a{suffix}", frames=50, codec=codec, pix_fmt=pix_fmt)
    info, frames = read(clip)
    assert not any("cut short" in note for note in info.notes)
    short = cut(clip, 0.6, tmp_path / f"b{suffix}")
    info, some = read(short, allow_truncated=True)
    assert 15 < len(some) < len(frames)
    (note,) = [note for note in info.notes if "cut short" in note]
    assert note.startswith(f"'b{suffix}' does not end as a whole file of its kind does")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("This is no video at all.\n" * 100)


def _playlist(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


def _sound_only(path: Path) -> None:
    make_clip(path, frames=0, sound=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "is empty"),
        (_text, "is no video"),
        (_playlist, "names 'other.mp4', which is no file"),
        (_sound_only, r"holds no pictures \(audio only\)"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no file .*did you mean 'clip.mkv'"),
    ],
    ids=["empty", "text", "playlist", "sound only", "folder", "missing"],
)
def test_a_file_that_is_no_video_gets_one_line_with_its_name(
    tmp_path: Path, make: object, message: str
) -> None:
    (tmp_path / "clip.mkv").write_bytes(b"x")
    make(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match=message) as caught:
        VideoSource(str(tmp_path / "clip.mp4")).__enter__()
    assert "clip.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        cover = out.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), np.int16), format="s16", layout="stereo"
        )
        frame.sample_rate = 48000
        out.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 16, 16), format="rgb24")))
        out.mux(cover.encode(None))
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    with pytest.raises(SourceError, match="holds no pictures"):
        VideoSource(str(path)).__enter__()


@pytest.mark.parametrize("name", ["clip (1).mp4", "it's.mp4", "a,b=c.mp4", "12:30 é[x].mp4"])
def test_file_names_may_hold_anything(tmp_path: Path, name: str, monkeypatch: object) -> None:
    make_clip(tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)  # a relative name, which FFmpeg could take for a protocol
    (tmp_path / "out").mkdir()
    copy(Path(name), Path("out") / name)
    assert times(tmp_path / "out" / name) == times(tmp_path / name)


def frames_of(count: int, width: int = 64, height: int = 48) -> list[RawFrame]:
    pixels = torch.from_numpy(picture(0, width, height))
    return [RawFrame(pixels, i, Fraction(i, 25)) for i in range(count)]


def test_an_interrupted_run_leaves_a_playable_file_with_sound_up_to_there(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "a.mp4", frames=60, sound=2.4), tmp_path / "b.mp4"
    sink = VideoSink(str(target))
    with VideoSource(str(source)) as video:
        sink.open(video.info)
        for frame, _ in zip(video, range(20), strict=False):
            sink.write(frame)
        sink.close(complete=False)
    assert times(target) == times(source)[:20]
    last = sound_packets(target)[-1][0]
    assert Fraction(7, 10) < last < Fraction(9, 10)
    assert no_temporary_left(tmp_path)


def test_nothing_has_the_final_name_before_close(tmp_path: Path) -> None:
    target = tmp_path / "new" / "b.mp4"
    sink = VideoSink(str(target))
    sink.open(StreamInfo(64, 48))
    sink.write(frames_of(1)[0])
    assert not target.exists()
    sink.abort()
    assert list(target.parent.iterdir()) == []


def test_a_file_of_the_final_name_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"old")
    sink = VideoSink(str(target))
    sink.open(StreamInfo(64, 48))
    sink.abort()
    assert target.read_bytes() == b"old"
    sink = VideoSink(str(target))
    sink.open(StreamInfo(64, 48))
    sink.close(complete=False)  # interrupted before the first frame
    assert target.read_bytes() == b"old"
    assert no_temporary_left(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    sink = VideoSink(str(tmp_path / f"b{suffix}"))
    noise = np.random.default_rng(0)

    def write() -> None:
        sink.open(StreamInfo(64, 48))
        for index in range(200):
            pixels = torch.from_numpy(noise.integers(0, 256, (48, 64, 3), np.uint8))
            sink.write(RawFrame(pixels, index, Fraction(index, 25)))
        sink.close()

    with files_up_to(20_000), pytest.raises(SinkError, match=r"writing .* failed: File too large"):
        write()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["file/b.mp4", "/proc/b.mp4", "/dev/null/b.mp4", "folder.mp4"], ids=str
)
def test_an_unwritable_place_is_told_before_the_work(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    sink = VideoSink(str(tmp_path / path))
    with pytest.raises(SinkError, match=r"cannot write|is a folder"):
        sink.open(StreamInfo(64, 48))
    sink.abort()


def test_an_unknown_suffix_is_refused_with_the_list() -> None:
    with pytest.raises(SinkError, match=r"'\.xyz'.*\.mp4.*\.webm"):
        VideoSink("b.xyz")


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4")
    before = source.read_bytes()
    with pytest.raises(SinkError, match="is the input itself"):
        copy(source, source)
    assert source.read_bytes() == before


def test_sound_that_the_container_cannot_hold_is_refused_with_the_way_out(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", sound=0.4)
    with pytest.raises(SinkError, match=r"\.webm cannot hold.*aac.*\.mkv.*sink\.audio=false"):
        copy(source, tmp_path / "b.webm")
    assert no_temporary_left(tmp_path)
    copy(source, tmp_path / "b.webm", audio=False)
    assert sound_packets(tmp_path / "b.webm") == []
    opus = make_clip(tmp_path / "c.mkv", sound=0.4, sound_codec="libopus")
    copy(opus, tmp_path / "c.webm")
    assert [d for _, d in sound_packets(tmp_path / "c.webm")] == [d for _, d in sound_packets(opus)]


def test_every_sound_track_is_copied(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "a.mp4", sound=0.4)
    two = tmp_path / "two.mkv"
    with av.open(str(one)) as a, av.open(str(two), "w") as out:
        picture_in, sound_in = a.streams.video[0], a.streams.audio[0]
        copies = {
            picture_in.index: [out.add_stream_from_template(picture_in)],
            sound_in.index: [out.add_stream_from_template(sound_in) for _ in range(2)],
        }
        for packet in a.demux():
            for stream in copies[packet.stream.index] if packet.size else ():
                packet.stream = stream
                out.mux(packet)
    copy(two, tmp_path / "b.mkv")
    assert len(sound_packets(two)) == 2 * len(sound_packets(one))
    assert [d for _, d in sound_packets(tmp_path / "b.mkv")] == [d for _, d in sound_packets(two)]


def test_frames_that_do_not_fit_the_stream_are_refused(tmp_path: Path) -> None:
    sink = VideoSink(str(tmp_path / "b.mp4"))
    sink.open(StreamInfo(64, 48))
    first, second = frames_of(2)
    sink.write(first)
    with pytest.raises(SinkError, match=r"frame 1 at 0\.000000 s is not later"):
        sink.write(replace(second, pts=Fraction(0)))
    sink.write(second)
    sink.close()
    assert len(times(tmp_path / "b.mp4")) == 2


def test_times_without_a_file_behind_them_are_exact(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    sink = VideoSink(str(tmp_path / "b.mp4"))
    sink.open(StreamInfo(64, 48, rate=rate))
    for frame in frames_of(10):
        sink.write(replace(frame, pts=frame.index / rate))
    sink.close()
    info, frames = read(tmp_path / "b.mp4")
    assert [f.pts for f in frames] == [i / rate for i in range(10)]
    assert info.rate == rate


@pytest.mark.shared
@pytest.mark.parametrize("name", ["test_video", "bedroom"])
def test_real_video(shared: Path, tmp_path: Path, name: str) -> None:
    source, target = shared / "data" / "video" / f"{name}.mp4", tmp_path / "b.mp4"
    copy(source, target, preset="ultrafast")
    before, frames = read(source)
    after, copies = read(target)
    assert replace(after, media=None, name="") == replace(before, media=None, name="")
    assert [f.pts for f in copies] == [f.pts for f in frames]
    assert sound_packets(target) == sound_packets(source)
    for one, other in list(zip(luma(source), luma(target), strict=True))[::10]:
        assert psnr(one, other) > 38
        assert abs((one - other).mean()) < 0.5
