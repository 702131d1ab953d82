"""Videos as they are found: side data, alpha, fields, depth, cut ends, a changing size."""

import gc
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from cbs_plugins.sources.video import VideoSource
from PIL import Image, ImageCms

from cbs_core.contract.errors import SourceError
from tests.media import make_clip, picture, wide_profile

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def stills_in_mov(path: Path, kind: str, frames: int, **options: object) -> Path:
    """Whole picture files as the packets of a video, as cameras and screen recorders write them."""
    with av.open(str(path), "w") as out:
        stream = out.add_mux_stream(kind, rate=24, width=64, height=48)
        stream.time_base = Fraction(1, 24)
        for index in range(frames):
            data = io.BytesIO()
            Image.fromarray(picture(index)).save(
                data, format={"mjpeg": "JPEG", "png": "PNG"}[kind], **options
            )
            packet = av.Packet(data.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 24), stream, True
            out.mux(packet)
    return path


def frames_of(path: Path, **options: object) -> list:
    with VideoSource(str(path), **options) as source:
        return list(source)


def test_frames_with_an_icc_profile_do_not_crash(tmp_path: Path) -> None:
    clip = stills_in_mov(tmp_path / "a.mov", "png", 400, icc_profile=PROFILE)
    frames = frames_of(clip)
    gc.collect()
    assert len(frames) == 400
    assert np.array_equal(frames[7].pixels.numpy(), picture(7))


@pytest.mark.parametrize("kind", ["png", "mjpeg"])
def test_a_profile_of_other_colours_is_told(tmp_path: Path, kind: str) -> None:
    for name, profile, told in (("a", PROFILE, False), ("b", wide_profile(), True)):
        clip = stills_in_mov(tmp_path / f"{name}.mov", kind, 2, icc_profile=profile)
        with VideoSource(str(clip)) as source:
            assert any("'wide" in line for line in source.info.notes) == told


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_frames_with_exif_are_read_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    clip = stills_in_mov(
        tmp_path / "a.mov", "mjpeg", 5, exif=exif.tobytes(), quality=95, subsampling=0
    )
    pixels = frames_of(clip)[2].pixels.numpy().astype(int)
    assert np.abs(pixels - np.rot90(picture(2), turns)).mean() < 4


def video_of(path: Path, arrays: list, codec: str, pix_fmt: str, **context: object) -> Path:
    layout = "rgba" if arrays[0].shape[2] == 4 else "rgb24"
    height, width = arrays[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=24, width=width, height=height, pix_fmt=pix_fmt)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for index, array in enumerate(arrays):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(array), format=layout)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def with_alpha(index: int) -> np.ndarray:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0)
    return np.concatenate([picture(index), alpha], -1)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".webm", "libvpx-vp9", "yuva420p"),
        (".mov", "prores_ks", "yuva444p10le"),
        (".mov", "png", "rgba"),
    ],
)
def test_transparency_is_read(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    arrays = [with_alpha(index) for index in range(6)]
    frames = frames_of(video_of(tmp_path / f"a{suffix}", arrays, codec, pix_fmt))
    assert len(frames) == 6
    alpha = frames[3].alpha.numpy().astype(int)
    assert np.abs(alpha - arrays[3][..., 3]).mean() < 8


def test_an_opaque_gif_has_no_alpha_and_its_last_frame_its_duration(tmp_path: Path) -> None:
    images = [Image.fromarray(picture(index)) for index in range(4)]
    images[0].save(
        tmp_path / "a.gif",
        save_all=True,
        append_images=images[1:],
        duration=[100, 100, 100, 3000],
        loop=0,
    )
    frames = frames_of(tmp_path / "a.gif")
    assert [frame.alpha for frame in frames] == [None] * 4
    assert frames[-1].pts + frames[-1].duration == Fraction("3.3")


def test_interlaced_frames_are_told_and_parted_by_choice(tmp_path: Path) -> None:
    def woven(index: int) -> np.ndarray:
        lines = np.zeros((48, 64, 3), np.uint8)
        lines[::2, index * 4 : index * 4 + 8] = 255
        lines[1::2, index * 4 + 8 : index * 4 + 16] = 255
        return lines

    clip = video_of(
        tmp_path / "a.mov",
        [woven(index) for index in range(8)],
        "prores_ks",
        "yuv422p10le",
        flags=1 << 18,
        field_order=2,
    )
    with VideoSource(str(clip)) as source:
        (told, *_) = [note for note in source.info.notes if "interlaced" in note]
        combed = list(source)
    assert "source.deinterlace=true" in told

    def combs(frames: list) -> float:
        return float(np.abs(np.diff(frames[4].pixels.numpy().astype(int), axis=0)).mean())

    with VideoSource(str(clip), deinterlace=True) as source:
        assert not any("interlaced" in note for note in source.info.notes)
        parted = list(source)
    assert [frame.pts for frame in parted] == [frame.pts for frame in combed]
    assert combs(parted) < combs(combed) / 2


def test_more_than_8_bits_and_hdr_are_told(tmp_path: Path) -> None:
    arrays = [picture(index) for index in range(4)]
    clip = video_of(tmp_path / "a.mp4", arrays, "libx264", "yuv420p10le", color_trc=16)
    with VideoSource(str(clip)) as source:
        (note,) = source.info.notes
    assert "10 bits a channel, HDR by PQ: what is restyled has 8" in note
    plain = video_of(tmp_path / "b.mp4", arrays, "libx264", "yuv420p")
    with VideoSource(str(plain)) as source:
        assert source.info.notes == ()


@pytest.mark.parametrize(
    ("start", "end", "first", "count"),
    [
        ("1", "2", 25, 25),
        (None, "0:00:00.4", 0, 10),
        ("00:01.2", None, 30, 30),
        ("30f", "40f", 30, 10),
        (0.5, "20f", 13, 7),
    ],
)
def test_a_part_is_the_same_frames_from_time_0(
    tmp_path: Path, start: object, end: object, first: int, count: int
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, gop=12)
    whole = frames_of(clip)
    with VideoSource(str(clip), start=start, end=end) as source:
        part = list(source)
    assert source.info.cut
    assert [frame.pts + source.info.start for frame in part] == [
        frame.pts for frame in whole[first : first + count]
    ]
    assert [frame.index for frame in part] == list(range(count))
    for one, other in zip(part, whole[first:], strict=False):
        assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "soon"}, "source.start=soon is no place.*1638f"),
        ({"start": 2, "end": 1}, "source.end=1 is not behind source.start=2"),
        ({"start": "9"}, "has no frame from source.start=9"),
    ],
)
def test_a_part_that_is_none_is_refused(tmp_path: Path, options: dict, message: str) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=10)
    with pytest.raises(SourceError, match=message):
        VideoSource(str(clip), **options).__enter__()


def playlist(folder: Path, *lines: str, name: str = "list.m3u8") -> Path:
    folder.mkdir(exist_ok=True)
    head = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    (folder / name).write_text("\n".join([*head, *lines, "#EXT-X-ENDLIST", ""]))
    return folder / name


def test_a_playlist_of_what_lies_below_it_is_read(tmp_path: Path) -> None:
    path = playlist(tmp_path / "a", "#EXTINF:2,", "sub/clip.ts")
    (tmp_path / "a" / "sub").mkdir()
    make_clip(tmp_path / "a" / "sub" / "clip.ts", frames=20)
    assert len(frames_of(path)) == 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{outside}/clip.ts", "names '.*clip.ts', and a playlist may name only"),
        ("../clip.ts", "may name only what lies in its own folder or below"),
        ("link.ts", "may name only what lies in its own folder or below"),
        ("missing.ts", "names '.*missing.ts', which is no file"),
        ("https://example.org/a.ts", "may name only what lies in its own folder or below"),
    ],
)
def test_a_playlist_of_what_lies_elsewhere_is_refused(
    tmp_path: Path, name: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make_clip(tmp_path / "clip.ts", frames=5)
    path = playlist(tmp_path / "a", "#EXTINF:2,", name.format(outside=tmp_path))
    (tmp_path / "a" / "link.ts").symlink_to(tmp_path / "clip.ts")
    with pytest.raises(SourceError, match=message):
        VideoSource(str(path)).__enter__()
    assert capfd.readouterr() == ("", "")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("variant", [True, False])
def test_a_playlist_that_names_itself_is_refused_at_once(
    tmp_path: Path, variant: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    line = "#EXT-X-STREAM-INF:BANDWIDTH=1" if variant else "#EXTINF:2,"
    path = playlist(tmp_path / "a", line, "list.m3u8", line, "list.m3u8")
    with pytest.raises(SourceError, match=r"list\.m3u8' (names itself|is no video)"):
        VideoSource(str(path)).__enter__()
    assert capfd.readouterr() == ("", "")


def concat(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "list.mp4"
    path.write_text("\n".join(["ffconcat version 1.0", *(f"file '{name}'" for name in names)]))
    return path


def test_a_list_for_ffconcat_is_read(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.ts", frames=5)
    assert len(frames_of(concat(tmp_path, *["a.ts"] * 12))) == 60


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.ts", "names '../a.ts', and a playlist may name only"),
        ("{outside}/a.ts", "a.ts', and a playlist may name only"),
        ("b.ts", "names 'b.ts', which is no file"),
        ("list.mp4", "names 'list.mp4', which is a list too"),
        ("file:a.ts", "names 'file:a.ts', which is no file"),
    ],
)
def test_a_list_for_ffconcat_names_videos_below_it_alone(
    tmp_path: Path, name: str, message: str
) -> None:
    make_clip(tmp_path / "a.ts", frames=5)
    with pytest.raises(SourceError, match=message):
        frames_of(concat(tmp_path / "b", name.format(outside=tmp_path)))
