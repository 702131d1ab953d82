"""Of video: HDR's metadata, frames that are empty, what only a header or an encoder refuses."""

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from cbs_plugins.formats import mastering
from cbs_plugins.formats.media import open_media, pixel_aspect
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.errors import SinkError, SourceLostError
from tests.media import cut, make_clip, picture

DISPLAY = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 1)
LIGHT = (1000, 400)
SAID = mastering.Mastering(struct.pack(">8H2I", *DISPLAY), struct.pack(">2H", *LIGHT))
PQ = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}


def graded(path: Path, said: mastering.Mastering = SAID, container: str | None = None) -> Path:
    """Five frames of HEVC by PQ, with what they say of themselves."""
    options = said.options("libx265", {"x265-params": "log-level=none"})
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream("libx265", rate=24, width=64, height=48, options=options)
        stream.pix_fmt = "yuv420p10le"
        for name, value in PQ.items():
            setattr(stream.codec_context, name, value)
        for index in range(5):
            frame = VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame = frame.reformat(format="yuv420p10le")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def through(source: Path, sink: VideoSink | FolderSink) -> list[str]:
    """Copies a video frame by frame; returns what source and sink tell."""
    with VideoSource(str(source)) as frames:
        sink.open(frames.info)
        for frame in frames:
            sink.write(frame)
        sink.close()
        return [*frames.info.notes, *sink.notes]


def by_ffprobe(path: Path) -> list[dict]:
    """The side data of a video's first frame, as FFmpeg's command gives it."""
    probe = shutil.which("ffprobe")
    if probe is None:
        pytest.skip("no ffprobe: apt-get install ffmpeg")
    words = ("-v", "error", "-show_frames", "-read_intervals", "%+#1", "-of", "json")
    told = subprocess.run([probe, *words, str(path)], capture_output=True, check=True).stdout
    return json.loads(told)["frames"][0].get("side_data_list", [])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("b.mp4", "libx265"), ("b.mov", "libx265"), ("b.mkv", "libx265")],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_mastering_data_of_hdr_are_kept(tmp_path: Path, suffix: str, name: str, codec: str) -> None:
    source = graded(tmp_path / f"a{suffix}")
    assert mastering.read(source) == SAID
    notes = through(source, VideoSink(str(tmp_path / name), codec=codec))
    assert not any("is not kept" in note for note in notes)
    assert mastering.read(tmp_path / name) == SAID
    data = {one["side_data_type"]: one for one in by_ffprobe(tmp_path / name)}
    display = data["Mastering display metadata"]
    places = ("green_x", "green_y", "blue_x", "blue_y", "red_x", "red_y")
    lights = ("white_point_x", "white_point_y", "max_luminance", "min_luminance")
    steps = (*[Fraction(1, 50_000)] * 8, *[Fraction(1, 10_000)] * 2)
    got = [Fraction(display[key]) for key in (*places, *lights)]
    assert got == [number * step for number, step in zip(DISPLAY, steps, strict=True)]
    light = data["Content light level metadata"]
    assert (light["max_content"], light["max_average"]) == LIGHT


def test_h264_keeps_them_too(tmp_path: Path) -> None:
    """Which FFmpeg's command reads from version 6 on, and its library here."""
    notes = through(graded(tmp_path / "a.mp4"), VideoSink(str(tmp_path / "b.mp4")))
    assert not any("is not kept" in note for note in notes)
    assert mastering.read(tmp_path / "b.mp4") == SAID
    with av.open(str(tmp_path / "b.mp4")) as media:
        frame = next(media.decode(video=0))
        found = {data.type.name: bytes(data) for data in frame.side_data}
    assert struct.unpack("<2I", found["CONTENT_LIGHT_LEVEL"]) == LIGHT
    assert len(found["MASTERING_DISPLAY_METADATA"]) == 88


def test_parts_that_are_joined_keep_them_too(tmp_path: Path) -> None:
    source = graded(tmp_path / "a.mp4")
    sink = VideoSink(str(tmp_path / "b.mp4"), codec="libx265")
    part = sink.segment(tmp_path / "part.mp4")
    through(source, part)
    assert mastering.read(tmp_path / "part.mp4") == SAID


@pytest.mark.parametrize("said", [SAID, mastering.Mastering(display=SAID.display)])
def test_an_encoder_that_writes_none_of_it_tells(tmp_path: Path, said: mastering.Mastering) -> None:
    source = graded(tmp_path / "a.mp4", said)
    notes = through(source, VideoSink(str(tmp_path / "b.webm")))
    (line,) = [note for note in notes if "is not kept" in note]
    assert "mastering display" in line
    assert ("light level" in line) is bool(said.light)
    assert line.endswith("sink.codec=libx265 keeps it")
    pictures = through(source, FolderSink(str(tmp_path / "pictures")))
    assert any("are HDR by PQ" in note for note in pictures)


def test_hdr10_plus_is_told(tmp_path: Path) -> None:
    whole = graded(tmp_path / "a.hevc", container="hevc").read_bytes()
    words = b"\xb5\x00\x3c\x00\x01\x04\x01" + bytes(range(1, 30))
    unit = b"\0\0\0\1\x4e\x01" + bytes([4, len(words)]) + words + b"\x80"
    (tmp_path / "a.hevc").write_bytes(unit + whole)
    found = mastering.read(tmp_path / "a.hevc")
    assert found.dynamic == ("HDR10+",)
    assert (found.display, found.light) == (SAID.display, SAID.light)
    assert found.lost("libx265") == "of the source's HDR HDR10+ is not kept"


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "h264"), ("mpeg2video", "mpeg2video")]
)
def test_closed_captions_are_told(tmp_path: Path, codec: str, container: str) -> None:
    path = tmp_path / f"a.{container}"
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuv420p")
        for index in range(5):
            frame = VideoFrame.from_ndarray(picture(index), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    plain = through(path, VideoSink(str(tmp_path / "plain.mp4")))
    assert not any("closed captions" in note for note in plain)
    words = b"GA94\x03\xc1\xff\xfc\x80\x80\xff"
    data = path.read_bytes()
    if codec == "libx264":
        said = b"\xb5\x00\x31" + words
        path.write_bytes(b"\0\0\0\1\x06\x04" + bytes([len(said)]) + said + b"\x80" + data)
    else:
        at = data.index(b"\0\0\1\x01")  # before the first slice
        path.write_bytes(data[:at] + b"\0\0\1\xb2" + words + data[at:])
    for sink in (VideoSink(str(tmp_path / "b.mp4")), FolderSink(str(tmp_path / "pictures"))):
        assert any("closed captions" in note for note in through(path, sink))


def inside(data: bytes, path: Sequence[bytes], box: bytes) -> bytes:
    """Puts a box at the end of another, whose path is given, of an MP4 with its index behind."""
    changed, begin, end = bytearray(data), 0, len(data)
    for name in path:
        at = data.index(name, begin, end) - 4
        (size,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", changed, at, size + len(box))
        begin, end = at + 8, at + size
    return bytes(changed[:end] + box + changed[end:])


def test_dolby_vision_is_told(tmp_path: Path) -> None:
    source = graded(tmp_path / "a.mp4")
    profile_8_4 = bytes([1, 0, 8 << 1, 9 << 3 | 5, 4 << 4]) + bytes(19)
    box = struct.pack(">I4s", 32, b"dvvC") + profile_8_4
    boxes = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1")
    source.write_bytes(inside(source.read_bytes(), boxes, box))
    assert mastering.read(source).dynamic == ("Dolby Vision",)
    notes = through(source, VideoSink(str(tmp_path / "b.mp4"), codec="libx265"))
    assert "of the source's HDR Dolby Vision is not kept" in notes


def test_what_a_container_says_is_read_too(tmp_path: Path) -> None:
    """As of VP9 and AV1, whose packets do not say it."""
    source = make_clip(tmp_path / "a.mp4", frames=3, codec="libvpx-vp9")
    display = struct.pack(">I4s", 32, b"mdcv") + SAID.display
    light = struct.pack(">I4s", 12, b"clli") + SAID.light
    boxes = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"vp09")
    source.write_bytes(inside(source.read_bytes(), boxes, display + light))
    assert mastering.read(source) == SAID


def test_damaged_records_are_no_metadata(tmp_path: Path) -> None:
    whole = graded(tmp_path / "a.hevc", container="hevc").read_bytes()
    messages = [(137, bytes(24)), (144, bytes(4)), (137, b"short"), (255 * 3, b"x")]
    for kind, words in messages:
        head = b"\xff" * (kind // 255) + bytes([kind % 255, 200])  # a size beyond the end
        (tmp_path / "b.hevc").write_bytes(b"\0\0\0\1\x4e\x01" + head + words + whole)
        assert mastering.read(tmp_path / "b.hevc") == SAID


def test_an_avi_with_frames_that_repeat_is_whole(tmp_path: Path) -> None:
    """Captures and Xvid's B-frames leave frames empty; they were counted as cut off."""
    ticks = [0, 2, 3, 4, 7, 8, 9, 10]
    whole = make_clip(tmp_path / "a.avi", frames=8, ticks=ticks, codec="mpeg4")
    with av.open(str(whole)) as media:
        assert media.streams.video[0].frames == 11
    with VideoSource(str(whole)) as source:
        assert [frame.pts for frame in source] == [Fraction(tick, 25) for tick in ticks]


def test_of_a_cut_avi_every_frame_comes_before_it_is_told(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "a.avi", frames=24, width=320, height=240, codec="mpeg4")
    short = cut(whole, 0.8, tmp_path / "b.avi")
    with VideoSource(str(short), allow_truncated=True) as source:
        there = sum(1 for _ in source)
    seen = []
    with VideoSource(str(short)) as source, pytest.raises(SourceLostError, match="is cut short"):
        seen.extend(source)  # keeps what came before it raises
    assert len(seen) == there > 8


@pytest.mark.parametrize("rate", [24, 30, Fraction(30000, 1001), 60])
def test_times_of_whole_milliseconds_keep_the_rate(tmp_path: Path, rate: Fraction) -> None:
    """An MP4 made from a Matroska file of 12 frames told 22.2 frames a second for 24."""
    source = make_clip(tmp_path / "a.mkv", frames=12, rate=rate)
    through(source, VideoSink(str(tmp_path / "b.mp4")))
    with av.open(str(tmp_path / "b.mp4")) as media:
        stream = media.streams.video[0]
        assert abs(stream.average_rate / rate - 1) < 0.01
        assert stream.frames == sum(1 for _ in media.decode(stream)) == 12
        assert abs(media.duration / av.time_base - 12 / rate) < 0.002


def test_sound_that_only_the_header_refuses_is_named(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mkv", frames=6, sound=0.3, sound_codec="flac")
    with pytest.raises(SinkError, match=r"\.mov cannot hold the source's flac sound"):
        through(source, VideoSink(str(tmp_path / "b.mov")))
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv"}


def test_prores_4444_keeps_its_transparency_in_webm(tmp_path: Path) -> None:
    """Of VP9's formats with transparency FFmpeg refuses all but 4:2:0, which it offers."""
    layout = "yuva444p10le"
    slope = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0)
    with av.open(str(tmp_path / "a.mov"), "w") as out:
        stream = out.add_stream("prores_ks", rate=24, width=64, height=48, pix_fmt=layout)
        for index in range(4):
            pixels = np.concatenate([picture(index), slope], -1)
            frame = VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=layout)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    notes = through(tmp_path / "a.mov", VideoSink(str(tmp_path / "b.webm")))
    assert any("yuva420p" in note and "fewer samples" in note for note in notes)
    with VideoSource(str(tmp_path / "b.webm")) as source:
        for frame in source:
            assert frame.alpha is not None
            assert np.abs(frame.alpha.numpy().astype(int) - slope[..., 0]).mean() < 8


def test_the_advice_for_colour_keeps_the_depth_too(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=24, width=64, height=48, pix_fmt="gbrp10le")
        frame = VideoFrame.from_ndarray(picture(0), format="rgb24").reformat(format="gbrp10le")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    notes = through(tmp_path / "a.mkv", VideoSink(str(tmp_path / "b.mp4")))
    assert any("sink.pixel_format=yuv444p10le keeps all" in note for note in notes)


def test_a_codec_that_quicktime_does_not_hold_is_turned_whole(tmp_path: Path) -> None:
    """VP9 in an MP4: its mirror was dropped, and the shape of its pixels was not turned."""
    plain = make_clip(tmp_path / "a.mp4", frames=3, codec="libvpx-vp9")
    mirrored = make_clip(tmp_path / "b.mp4", frames=3, codec="libvpx-vp9", hflip=True)
    with VideoSource(str(plain)) as one, VideoSource(str(mirrored)) as other:
        for frame, flipped in zip(one, other, strict=True):
            assert np.array_equal(frame.pixels.numpy(), flipped.pixels.numpy()[:, ::-1])
    ratio = {"sample_aspect_ratio": Fraction(4, 3)}
    turned = make_clip(tmp_path / "c.mp4", frames=3, codec="libvpx-vp9", rotation=90, tags=ratio)
    with open_media(turned) as media:
        assert pixel_aspect(media.streams.video[0]) == Fraction(3, 4)


def test_further_pictures_of_a_film_are_told(tmp_path: Path) -> None:
    """They are copied, and show what is restyled in the first as it was."""
    one = make_clip(tmp_path / "one.mp4", frames=4)
    with av.open(str(one)) as media, av.open(str(tmp_path / "a.mp4"), "w") as out:
        main = media.streams.video[0]
        copies = [out.add_stream_from_template(main) for _ in range(2)]
        for packet in [packet for packet in media.demux(main) if packet.size]:
            for copy in copies:
                packet.stream = copy
                out.mux(packet)
    notes = through(tmp_path / "a.mp4", VideoSink(str(tmp_path / "b.mp4")))
    assert any("further pictures" in note and "not restyled" in note for note in notes)
