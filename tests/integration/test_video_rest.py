"""What a video file holds beside its pictures is copied, or named where it cannot be."""

import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.errors import SinkLostError
from cbs_core.contract.types import RawFrame
from tests.media import SOUND_RATE, make_clip, picture, sound_packets

SUBTITLES = [(100, b"One"), (600, b"Two")]


def restyle(
    source: Path, target: Path, start: object = None, end: object = None, **options: object
):
    sink = VideoSink(str(target), **options)
    try:
        with VideoSource(str(source), start=start, end=end) as video:
            sink.open(video.info)
            for frame in video:
                sink.write(frame)
        sink.close()
    finally:
        sink.abort()
    return sink


def full_matroska(path: Path) -> Path:
    """Pictures, two tracks of sound, subtitles, a font, chapters and tags."""
    one = make_clip(path.with_suffix(".mp4"), frames=30, sound=1.2)
    with av.open(str(one)) as a, av.open(str(path), "w") as out:
        out.metadata.update({"title": "Film", "director": "Somebody", "ENCODER": "another"})
        out.set_chapters(
            [
                {"id": n, "start": n * 600, "end": n * 600 + 600, "metadata": {"title": name}}
                | {"time_base": Fraction(1, 1000)}
                for n, name in enumerate(("First", "Second"))
            ]
        )
        picture_in, sound_in = a.streams.video[0], a.streams.audio[0]
        copies = {picture_in.index: [out.add_stream_from_template(picture_in)]}
        copies[sound_in.index] = [out.add_stream_from_template(sound_in) for _ in range(2)]
        for stream, language in zip(copies[sound_in.index], ("eng", "deu"), strict=True):
            stream.metadata["language"] = language
        text = out.add_mux_stream("subrip")
        text.time_base = Fraction(1, 1000)
        text.metadata["language"] = "fra"
        out.add_attachment("font.ttf", "font/ttf", b"not really a font")
        for packet in a.demux():
            for stream in copies[packet.stream.index] if packet.size else ():
                packet.stream = stream
                out.mux(packet)
        for start, words in SUBTITLES:
            packet = av.Packet(words)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), text
            out.mux(packet)
    return path


def with_cover(path: Path) -> Path:
    one = make_clip(path.with_name("plain.mp4"), frames=12, sound=0.5)
    with av.open(str(one)) as a, av.open(str(path), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in a.streams}
        cover = out.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(picture(0, 16, 16), format="rgb24")
        for packet in [*cover.encode(frame), *cover.encode(None)]:
            out.mux(packet)
        for packet in a.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    return path


def kinds(path: Path) -> list[str]:
    with av.open(str(path)) as media:
        return sorted(stream.type for stream in media.streams)


def texts(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as media:
        packets = media.demux(media.streams.subtitles[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


def test_all_of_a_matroska_comes_over(tmp_path: Path) -> None:
    source = full_matroska(tmp_path / "a.mkv")
    sink = restyle(source, tmp_path / "b.mkv")
    assert sink.notes == ()
    assert kinds(tmp_path / "b.mkv") == kinds(source)
    assert texts(tmp_path / "b.mkv") == texts(source)
    assert [words for _, words in texts(source)] == [b"One", b"Two"]
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mkv")) as b:
        assert [c["metadata"] for c in b.chapters()] == [c["metadata"] for c in a.chapters()]
        assert [c["start"] for c in b.chapters()] == [c["start"] for c in a.chapters()]
        assert [s.language for s in b.streams] == [s.language for s in a.streams]
        assert b.streams.attachments[0].data == b"not really a font"
        tags = {key.lower(): value for key, value in b.metadata.items()}
        assert (tags["title"], tags["director"]) == ("Film", "Somebody")
        assert tags["encoder"] != "another"


def test_what_another_container_cannot_hold_is_named(tmp_path: Path) -> None:
    source = full_matroska(tmp_path / "a.mkv")
    (line,) = restyle(source, tmp_path / "b.mp4").notes
    assert line.startswith("not in 'b.mp4'")
    assert "subtitles" in line
    assert "attachments" in line
    assert "sound" not in line
    assert "chapters" not in line
    assert "tags" not in line
    (line,) = restyle(source, tmp_path / "b.webm", audio=False).notes
    assert "attachments" in line
    assert "sound" not in line


@pytest.mark.parametrize(("suffix", "kept"), [(".mp4", True), (".mkv", True), (".mov", False)])
def test_cover_art_is_kept_or_named(tmp_path: Path, suffix: str, kept: bool) -> None:
    source = with_cover(tmp_path / "a.mp4")
    sink = restyle(source, tmp_path / f"b{suffix}")
    assert any("cover art" in note for note in sink.notes) != kept
    with av.open(str(tmp_path / f"b{suffix}")) as media:
        pictures = [s for s in media.streams.video if s.disposition & Disposition.attached_pic]
        assert len(pictures) == kept
        assert len(media.streams.video) == 1 + kept


@pytest.mark.parametrize("frames", [96, 480])
def test_of_a_film_with_cover_art_what_is_done_stays_on_a_full_disk(
    tmp_path: Path, frames: int
) -> None:
    """The sound ends early, so that FFmpeg holds ten seconds back: of 96 frames all, to the end."""
    with VideoSource(str(with_cover(tmp_path / "a.mp4"))) as video:
        info = video.info
    sink = VideoSink(str(tmp_path / "b.mp4"), crf=12, preset="ultrafast")
    sink.open(info)
    random = torch.Generator().manual_seed(0)

    def film() -> None:
        for index in range(frames):
            size = (info.height, info.width, 3)
            pixels = torch.randint(0, 255, size, generator=random, dtype=torch.uint8)
            sink.write(RawFrame(pixels, index, index / info.rate))
        sink.close()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(SinkLostError, match="File too large"):
            film()
        sink.close(complete=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with av.open(str(tmp_path / "b.mp4")) as left:
        pictures, *others = left.streams.video
        assert [bool(one.disposition & Disposition.attached_pic) for one in others] == [True]
        assert sum(1 for _ in left.decode(pictures)) == sink.kept > 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "plain.mp4"}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_where_and_by_what_it_was_taken_is_kept(tmp_path: Path, suffix: str) -> None:
    tags = {
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 14",
        "com.apple.quicktime.location.ISO6709": "+48.1+011.5/",
    }
    clip = make_clip(tmp_path / "plain.mp4", frames=5)
    with (
        av.open(str(clip)) as a,
        av.open(str(tmp_path / "a.mov"), "w", options={"movflags": "use_metadata_tags"}) as out,
    ):
        out.metadata.update(tags)
        stream = out.add_stream_from_template(a.streams.video[0])
        stream.metadata["timecode"] = "01:00:00:00"
        for packet in a.demux():
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    sink = restyle(tmp_path / "a.mov", tmp_path / f"b{suffix}")
    assert sink.notes == ()
    with av.open(str(tmp_path / f"b{suffix}")) as media:
        found = {key.lower(): value for key, value in media.metadata.items()}
        code = {k.lower(): v for k, v in media.streams.video[0].metadata.items()}["timecode"]
    assert {key.lower(): value for key, value in tags.items()}.items() <= found.items()
    assert code == "01:00:00:00"
    restyle(tmp_path / "a.mov", tmp_path / f"c{suffix}", start="3f")
    with av.open(str(tmp_path / f"c{suffix}")) as media:
        code = {k.lower(): v for k, v in media.streams.video[0].metadata.items()}["timecode"]
    assert code == "01:00:00:03"


def test_tags_of_another_file_are_not_taken_over(tmp_path: Path) -> None:
    rgba = [np.dstack([picture(i), np.full((48, 64), 128, np.uint8)]) for i in range(3)]
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=25, width=64, height=48, pix_fmt="yuva420p")
        for index, array in enumerate(rgba):
            frame = av.VideoFrame.from_ndarray(array, format="rgba")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    (line,) = restyle(tmp_path / "a.webm", tmp_path / "b.mkv").notes
    assert "holds no transparency" in line
    with av.open(str(tmp_path / "b.mkv")) as media:
        assert "alpha_mode" not in {key.lower() for key in media.streams.video[0].metadata}
    for target, options in (("c.webm", {}), ("c.mov", {"codec": "prores_ks"})):
        assert restyle(tmp_path / "a.webm", tmp_path / target, **options).notes == ()
        with VideoSource(str(tmp_path / target)) as source:
            frames = list(source)
        assert len(frames) == 3
        assert abs(frames[1].alpha.float().mean() - 128) < 3


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as media:
        return np.concatenate([f.to_ndarray() for f in media.decode(audio=0)], axis=1)[0]


def test_a_part_has_its_own_sound_to_the_sample(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=60, sound=2.4)
    sink = restyle(source, tmp_path / "b.mp4", start="0.7", end="1.9")
    assert sink.notes == ()
    whole, part = decoded(source), decoded(tmp_path / "b.mp4")
    first = int(0.7 * SOUND_RATE)
    assert 0 <= len(part) - int(1.2 * SOUND_RATE) < 1024  # a decoder may play the last packet out
    assert np.abs(whole[first : first + len(part)] - part).max() < 1e-3
    with av.open(str(tmp_path / "b.mp4")) as media:
        sound = media.streams.audio[0]
        assert abs(float(sound.duration * sound.time_base) - 1.2) < 0.05
        assert abs(media.duration / av.time_base - 1.2) < 0.01


def test_a_part_has_its_own_chapters_and_subtitles(tmp_path: Path) -> None:
    source = full_matroska(tmp_path / "a.mkv")
    restyle(source, tmp_path / "b.mkv", start="0.5")
    with av.open(str(tmp_path / "b.mkv")) as media:
        assert [c["metadata"]["title"] for c in media.chapters()] == ["First", "Second"]
        assert [float(c["start"] * c["time_base"]) for c in media.chapters()] == [0, 0.1]
    time, words = texts(source)[1]
    assert texts(tmp_path / "b.mkv") == [(round(time - 0.5, 3), words)]
    sound = sound_packets(tmp_path / "b.mkv")
    assert 0 <= sound[0][0] < 0.03
