"""Video of more than 8 bits a channel: kept where the encoder can, told where not."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from cbs_plugins.formats.pictures import read_header
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource
from PIL import Image

SIZE = 96, 64


def slope(index: int = 0) -> np.ndarray:
    """uint16 (64, 96, 3): a slope of less than one step of 8 bits a pixel."""
    x = np.linspace(20_000, 30_000, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0])
    return np.stack([x + 900 * index] * 3, -1).astype(np.uint16)


def deep_clip(
    path: Path, pix_fmt: str = "yuv420p10le", codec: str = "libx264", **tags: int
) -> Path:
    """Three frames, nearly lossless."""
    quality = {"crf": "2"} if codec == "libx264" else {}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, width=SIZE[0], height=SIZE[1], options=quality)
        stream.pix_fmt = pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(3):
            frame = VideoFrame.from_ndarray(slope(index), format="rgb48le")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def lumas(path: Path) -> list[np.ndarray]:
    """The Y plane of each frame, of 10 bits."""
    with av.open(str(path)) as media:
        found = []
        for frame in media.decode(video=0):
            plane = frame.planes[0]
            rows = np.frombuffer(bytes(plane), "<u2").reshape(frame.height, -1)
            found.append(rows[:, : frame.width].astype(int))
        return found


def pix_fmt(path: Path) -> str:
    with av.open(str(path)) as media:
        return str(media.streams.video[0].pix_fmt)


def through(source: Path, out: Path, *, styled: slice | None = None, **options: object) -> list:
    """Copies a video frame by frame, rows of it grey; returns what source and sink tell."""
    sink = VideoSink(str(out), **{"crf": 2, **options})
    with VideoSource(str(source)) as frames:
        sink.open(frames.info)
        for frame in frames:
            if styled is not None:
                pixels = frame.pixels.clone()
                pixels[styled] = 200
                frame = replace(frame, pixels=pixels)
            sink.write(frame)
        sink.close()
        return [*frames.info.notes, *sink.notes]


@pytest.mark.parametrize(
    ("layout", "codec"),
    [
        ("yuv420p10le", "libx264"),
        ("yuv422p10le", "libx264"),
        ("yuv444p10le", "libx264"),
        ("yuv420p10le", "libx265"),
    ],
)
def test_what_is_not_restyled_keeps_all_its_bits(tmp_path: Path, layout: str, codec: str) -> None:
    source = deep_clip(tmp_path / "a.mp4", layout)
    notes = through(source, tmp_path / "b.mp4", styled=slice(0, 16), codec=codec)
    assert pix_fmt(tmp_path / "b.mp4") == layout
    before, after = lumas(source), lumas(tmp_path / "b.mp4")
    assert len(after) == 3
    for old, new in zip(before, after, strict=True):
        # Of 8 bits each step of four would be one.
        assert np.abs(new[24:] - old[24:]).mean() < 0.6
        assert np.abs(np.round(old[24:] / 4) * 4 - old[24:]).mean() > 0.9
        assert np.abs(new[:12] - new[:12].mean()).max() < 12
    assert any("10 bits a channel" in note and "restyled" in note for note in notes)
    assert not any("mastering" in note for note in notes)


def test_10_bits_in_h264_are_told(tmp_path: Path) -> None:
    source = deep_clip(tmp_path / "a.mp4")
    assert any(
        "not shown by every player" in line and "libx265" in line
        for line in through(source, tmp_path / "b.mp4")
    )
    lines = through(source, tmp_path / "c.mp4", codec="libx265")
    assert not any("every player" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "options"), [("b.webm", {}), ("b.mp4", {"pixel_format": "yuv420p"})]
)
def test_an_encoder_of_8_bits_tells_it(tmp_path: Path, name: str, options: dict) -> None:
    source = deep_clip(tmp_path / "a.mp4")
    notes = through(source, tmp_path / name, **options)
    assert pix_fmt(tmp_path / name) == "yuv420p"
    assert any("8 of the source's 10 bits a channel are kept" in note for note in notes)


def test_hdr_keeps_curve_and_depth(tmp_path: Path) -> None:
    tags = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
    source = deep_clip(tmp_path / "a.mp4", **tags)
    notes = through(source, tmp_path / "b.mp4")
    assert any("HDR by PQ" in note for note in notes)
    assert not any("is not kept" in note for note in notes)  # it has none of what could be lost
    with av.open(str(tmp_path / "b.mp4")) as media:
        context = media.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p10le"
        assert {name: getattr(context, name) for name in tags} == tags
    for old, new in zip(lumas(source), lumas(tmp_path / "b.mp4"), strict=True):
        assert np.abs(new - old).mean() < 0.6


def test_a_video_of_8_bits_stays_one(tmp_path: Path) -> None:
    source = deep_clip(tmp_path / "a.mp4", "yuv420p")
    assert through(source, tmp_path / "b.mp4") == []
    assert pix_fmt(tmp_path / "b.mp4") == "yuv420p"
    with VideoSource(str(source)) as frames:
        assert next(iter(frames)).still is None


def test_a_matte_of_a_deep_video_has_8_bits(tmp_path: Path) -> None:
    sink = VideoSink(str(tmp_path / "b.mp4"))
    with VideoSource(str(deep_clip(tmp_path / "a.mp4"))) as frames:
        sink.open(replace(frames.info, matte=True))
        for frame in frames:
            sink.write(replace(frame, still=None))
        sink.close()
    assert pix_fmt(tmp_path / "b.mp4") == "yuv420p"
    assert sink.notes == ()


def test_prores_of_four_channels_keeps_bits_and_transparency(tmp_path: Path) -> None:
    source = deep_clip(tmp_path / "a.mov", "yuva444p10le", "prores_ks")
    through(source, tmp_path / "b.mov", codec="prores_ks")
    assert pix_fmt(tmp_path / "b.mov").startswith("yuva444p1")
    for old, new in zip(lumas(source), lumas(tmp_path / "b.mov"), strict=True):
        assert np.abs(new - old).mean() < 0.02 * np.ptp(old)


def test_frames_are_turned_and_scaled_as_their_pixels_are(tmp_path: Path) -> None:
    source = deep_clip(tmp_path / "a.mp4")
    turned = tmp_path / "t.mp4"
    with av.open(str(source)) as media, av.open(str(turned), "w") as out:
        stream = out.add_stream_from_template(media.streams.video[0])
        stream.set_display_rotation(90)
        for packet in media.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    through(turned, tmp_path / "b.mp4")
    (old, *_), (new, *_) = lumas(source), lumas(tmp_path / "b.mp4")
    assert new.shape == old.shape[::-1]
    assert min(np.abs(new - np.rot90(old, k)).mean() for k in (1, 3)) < 0.6
    through(source, tmp_path / "c.mp4", size="48x32")
    assert lumas(tmp_path / "c.mp4")[0].shape == (32, 48)


def test_pictures_made_of_a_deep_video_tell_that_they_are_not(tmp_path: Path) -> None:
    sink = FolderSink(str(tmp_path / "out"))
    with VideoSource(str(deep_clip(tmp_path / "a.mp4"))) as frames:
        sink.open(frames.info)
        for frame in frames:
            sink.write(frame)
        sink.close()
    (note,) = [line for line in sink.notes if "bits" in line]
    assert note == ".png is written with 8 bits a channel, of which the source has more"


def test_pictures_of_more_than_8_bits_tell_it(tmp_path: Path) -> None:
    gray = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)
    gray.save(tmp_path / "gray.png")
    gray.save(tmp_path / "gray.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    Image.new("L", (8, 8)).save(tmp_path / "plain.tif")
    for name in ("gray.png", "gray.tif"):
        assert read_header(tmp_path / name).lost == "8 of its bits a channel are kept"
    for name in ("plain.png", "plain.tif"):
        assert read_header(tmp_path / name).lost == ""
