"""Pictures as they are found: profiles, EXIF, animations, cut ends, disguises, bombs."""

import io
import os
import re
import struct
import subprocess
import sys
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.formats.pictures import MOST_PIXELS, read_picture
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.image import ImageSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.folder import FolderSource
from cbs_plugins.sources.image import ImageSource
from cbs_plugins.sources.pan import PanSource
from cbs_plugins.sources.video import VideoSource
from PIL import Image, ImageCms

from cbs_core.contract.errors import (
    CbsError,
    SinkError,
    SinkLostError,
    SourceError,
    SourceLostError,
)
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.unfinished import left_over
from tests.conftest import ROOT
from tests.media import frames_in, make_clip, picture, sound_packets, wide_profile

RGB = picture(0, 64, 48)


def one(path: Path, **options: object) -> RawFrame:
    with ImageSource(str(path), **options) as source:
        (frame,) = source
    return frame


def rewritten(frame: RawFrame, path: Path) -> ImageSink:
    sink = ImageSink(str(path))
    sink.open(StreamInfo(frame.pixels.shape[1], frame.pixels.shape[0]))
    sink.write(frame)
    sink.close()
    return sink


def saved(path: Path, **options: object) -> Path:
    Image.fromarray(RGB).save(path, **options)
    return path


def described() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def test_a_profile_is_converted_for_the_nets_and_back(tmp_path: Path) -> None:
    profile = wide_profile()
    frame = one(saved(tmp_path / "a.png", icc_profile=profile))
    assert "wide" in ImageCms.getProfileDescription(ImageCms.getOpenProfile(io.BytesIO(profile)))
    expected = ImageCms.profileToProfile(
        Image.fromarray(RGB),
        ImageCms.getOpenProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert np.array_equal(frame.pixels.numpy(), np.asarray(expected))
    assert not np.array_equal(frame.pixels.numpy(), RGB)
    styled = frame.pixels.clone()
    styled[:20] = torch.tensor([200, 100, 50], dtype=torch.uint8)
    assert rewritten(replace(frame, pixels=styled), tmp_path / "b.png").notes == ()
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["icc_profile"] == profile
        pixels = np.asarray(image)
    # Untouched pixels are those of the file, bit by bit; the others look as they were meant.
    assert np.array_equal(pixels[20:], RGB[20:])
    again = read_picture(tmp_path / "b.png")[0]
    assert np.abs(again[:20].numpy().astype(int) - (200, 100, 50)).max() <= 2


def test_a_profile_is_known_by_its_colours_and_not_by_its_name(tmp_path: Path) -> None:
    named = wide_profile("sRGB")
    frame = one(saved(tmp_path / "a.png", icc_profile=named))
    wide = one(saved(tmp_path / "b.png", icc_profile=wide_profile()))
    assert torch.equal(frame.pixels, wide.pixels)
    assert not np.array_equal(frame.pixels.numpy(), RGB)
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = plain.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    assert other != plain
    for data in (plain, other):
        same = one(saved(tmp_path / "c.png", icc_profile=data))
        assert np.array_equal(same.pixels.numpy(), RGB)
        assert same.still is not None
        assert same.still.own is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_stands_beside_the_pixels_is_kept(tmp_path: Path, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = saved(tmp_path / "a.jpg", exif=described(), dpi=(300, 300), icc_profile=profile)
    sink = rewritten(one(source), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        exif = image.getexif()
        assert exif[0x010F] == "Maker"
        assert exif.get(0x0112, 1) == 1  # it is upright now
        assert image.info["icc_profile"] == profile
        assert image.size == (48, 64)
        if suffix == ".webp":
            assert sink.notes == (".webp does not hold density: .png does",)
        else:
            assert np.allclose(image.info["dpi"], 300, atol=0.1)
            assert sink.notes == ()


def test_what_a_format_does_not_hold_is_told(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", exif=described(), icc_profile=wide_profile())
    (line,) = rewritten(one(source), tmp_path / "b.bmp").notes
    assert "EXIF" in line
    assert "sRGB" in line
    assert np.array_equal(read_picture(tmp_path / "b.bmp")[0], one(source).pixels)


@pytest.mark.parametrize(
    "profile", [b"nonsense" * 40, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
def test_a_profile_that_is_damaged_or_unfit_counts_for_none(tmp_path: Path, profile: bytes) -> None:
    frame = one(saved(tmp_path / "a.png", icc_profile=profile))
    assert np.array_equal(frame.pixels.numpy(), RGB)


def test_cmyk_is_told(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    with ImageSource(str(tmp_path / "a.jpg")) as source:
        (line,) = source.info.notes
    assert "CMYK colours are converted to sRGB" in line


def moving(path: Path) -> Path:
    images = [Image.fromarray(picture(index)) for index in range(6)]
    more = {"lossless": True} if path.suffix == ".webp" else {}
    times = {} if path.suffix == ".tif" else {"duration": [100] * 5 + [3000]}
    images[0].save(path, save_all=True, append_images=images[1:], **times, **more)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.tif"])
def test_of_an_animation_all_frames_come_or_it_is_told(tmp_path: Path, name: str) -> None:
    path = moving(tmp_path / name)
    with ImageSource(str(path)) as source:
        (line,) = source.info.notes
        assert len(list(source)) == 1
    assert "holds 6 frames, of which the first is taken" in line
    assert "source.frames=all" in line
    with ImageSource(str(path), frames="all") as source:
        assert (source.info.notes, source.info.frames) == ((), 6)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(6))
    for index in (0, 3, 5):
        error = np.abs(frames[index].pixels.numpy().astype(int) - picture(index))
        assert error.mean() < (6 if name == "a.gif" else 0.01)
    end = frames[-1].pts + frames[-1].duration
    assert end == (Fraction(6, 25) if name == "a.tif" else Fraction("3.5"))


def test_heic_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(RGB)).save(tmp_path / "IMG_1.HEIC", quality=95)
    error = np.abs(one(tmp_path / "IMG_1.HEIC").pixels.numpy().astype(int) - RGB)
    assert error.mean() < 5
    with FolderSource(str(tmp_path)) as source:
        assert [frame.name for frame in source] == ["IMG_1"]


def test_heic_without_its_reader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(CbsError, match=r"a\.heic' is a HEIC picture: pip install .*\[heif\]"):
        read_picture(tmp_path / "a.heic")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_and_a_cut_one_refused(
    tmp_path: Path, progressive: bool
) -> None:
    Image.fromarray(picture(0, 320, 240)).save(tmp_path / "a.jpg", progressive=progressive)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[:-2])
    whole = read_picture(tmp_path / "a.jpg")[0]
    assert torch.equal(read_picture(tmp_path / "b.jpg")[0], whole)
    for part in (0.5, 0.8, 0.95):
        (tmp_path / "c.jpg").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(SourceError, match=r"c\.jpg' is a damaged picture"):
            read_picture(tmp_path / "c.jpg")


def exif_of(kind: int, count: int, value: bytes) -> bytes:
    entry = struct.pack(">HHI4s", 0x0112, kind, count, value)
    return b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01" + entry + bytes(4)


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_of(7, 1, b"\x06\0\0\0"), True),
        (exif_of(4, 1, b"\0\0\0\x06"), True),
        (exif_of(2, 2, b"6\0\0\0"), True),
        (exif_of(3, 1, b"\0\x63\0\0"), False),
        (b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", False),
        (b"Exif\0\0" + b"junk" * 9, False),
    ],
    ids=["undefined", "long", "ascii", "99", "cut", "junk"],
)
def test_odd_exif_is_read_in_silence(
    tmp_path: Path, exif: bytes, turned: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = one(saved(tmp_path / "a.jpg", exif=exif, quality=95))
        rewritten(frame, tmp_path / "b.jpg")
    assert frame.pixels.shape[:2] == ((64, 48) if turned else (48, 64))
    with ImageSource(str(tmp_path / "a.jpg")) as source:
        assert (source.info.height, source.info.width) == frame.pixels.shape[:2]
    assert capfd.readouterr() == ("", "")


def test_postscript_in_disguise_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    with pytest.raises(SourceError, match=r"a\.jpg' is no picture"):
        read_picture(tmp_path / "a.jpg")


def test_nobody_lets_pillow_choose_the_format() -> None:
    """It would take PostScript, and start Ghostscript."""
    files = [*(ROOT / "cbs_core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    opened = [
        (file.name, call)
        for file in files
        for call in re.findall(r"Image\.open\((?:[^()]|\([^()]*\))*\)", file.read_text())
    ]
    assert len(opened) > 5
    assert not [one for one in opened if "formats=" not in one[1]]


@pytest.mark.parametrize("kind", ["fifo", "device", "dash"])
def test_a_pipe_is_named_as_what_it_is_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = {"fifo": tmp_path / "pipe.png", "device": Path("/dev/zero"), "dash": Path("-")}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(SourceError, match=r"pipe or a device|standard input"):
        read_picture(path)


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    one, other = tmp_path / "1.png", tmp_path / "2.png"
    one.symlink_to(other)
    other.symlink_to(one)
    with pytest.raises(SourceError, match=r"1\.png' is a link to '.*2\.png', which is not there"):
        read_picture(one)


def bomb(path: Path) -> Path:
    Image.new("1", (16384, 16384)).save(path, compress_level=1)
    assert MOST_PIXELS < 16384**2
    return path


def test_a_bomb_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    path = bomb(tmp_path / "b.png")
    saved(tmp_path / "a.png")
    with pytest.raises(SourceError, match=r"b\.png' has 16384x16384 pixels.*on_error=skip"):
        FolderSource(str(tmp_path)).__enter__()
    with FolderSource(str(tmp_path), on_error="skip") as folder:
        assert [frame.name for frame in folder] == ["a"]
        assert any("b.png" in note for note in folder.info.notes)
    assert folder.damaged == 1
    with pytest.raises(SourceError, match="16384x16384"):
        read_picture(path)
    with (
        PanSource(str(path), width=64, height=64) as pan,
        pytest.raises(SourceError, match="16384"),
    ):
        next(iter(pan))


def test_a_folder_is_looked_at_before_its_first_picture_comes(tmp_path: Path) -> None:
    saved(tmp_path / "1.png")
    saved(tmp_path / "2.png")
    (tmp_path / "3.jpg").write_bytes(b"no picture at all")
    with pytest.raises(SourceError, match=r"3\.jpg' is no picture.*source\.on_error=skip"):
        FolderSource(str(tmp_path)).__enter__()
    (tmp_path / "notes.txt").write_text("mine")
    Image.fromarray(picture(0, 96, 72)).save(tmp_path / "4.png")
    with FolderSource(str(tmp_path), on_error="skip") as source:
        assert source.info.largest == (96, 72, str(tmp_path / "4.png"))
        assert source.info.frames == 3
        told = "\n".join(source.info.notes)
    assert "passed over, as no pictures by their names: notes.txt" in told
    assert "left out" in told
    assert "3.jpg" in told


def test_what_is_done_of_a_folder_stays(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        saved(tmp_path / f"{name}.jpg")
    data = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(data[: len(data) - 100])
    frames = []
    with (
        FolderSource(str(tmp_path)) as source,
        pytest.raises(SourceLostError, match=r"2\.jpg' is a damaged.*source\.on_error=skip"),
    ):
        frames.extend(iter(source))
    with FolderSource(str(tmp_path), on_error="skip") as source:
        assert [frame.name for frame in source] == ["1", "3"]
    (line,) = source.notes
    assert line.startswith("left out: ")
    assert "2.jpg' is a damaged picture" in line
    with source as again:  # what was told of it before is told once
        assert len([*again]) == 2
    assert (again.damaged, len(again.notes)) == (1, 1)


def test_names_of_a_folder_are_distinct_to_every_file_system(tmp_path: Path) -> None:
    """Two of these stopped a run in its middle, others met on a Mac or on a stick."""
    due = {
        "1.png": "1",
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "a.jpg.webp": "a.jpg.2",
        "caf\u00e9.jpg": "caf\u00e9.jpg",
        "cafe\u0301.png": "cafe\u0301.png",
        "X.PNG": "X.PNG",
        "x.png": "x.png.2",
        "STRASSE.png": "STRASSE.png",
        "stra\u00dfe.jpg": "stra\u00dfe.jpg",
    }
    for name in due:
        kind = {".webp": "WEBP", ".jpg": "JPEG"}.get(Path(name).suffix, "PNG")
        saved(tmp_path / name, format=kind)
    with FolderSource(str(tmp_path)) as source:
        assert sorted(source.info.names) == sorted(due.values())
        sink = FolderSink(str(tmp_path / "out"))
        sink.open(source.info)
        for frame in source:
            sink.write(frame)
        sink.close()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.png" for name in due.values()
    }


def begun(path: Path) -> FolderSink:
    sink = FolderSink(str(path))
    sink.open(StreamInfo(8, 8, moving=False, names=("a",)))
    sink.write(RawFrame(torch.zeros(8, 8, 3, dtype=torch.uint8), 0, name="a"))
    return sink


def test_pictures_stay_where_their_folders_name_is_taken_meanwhile(tmp_path: Path) -> None:
    sink = begun(tmp_path / "out")
    (tmp_path / "out").write_text("mine")
    sink.close()
    assert (tmp_path / "out").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out.2").iterdir()] == ["a.png"]
    (note,) = sink.notes
    assert "'out.2'" in note


def test_pictures_stay_where_their_folder_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = begun(tmp_path / "out")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(SinkLostError, match="Permission denied; what is done is in") as told:
        sink.close()
    sink.close(complete=False)
    sink.abort()
    (left,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out.cbs-")]
    assert str(left) in str(told.value)
    assert [path.name for path in left.iterdir()] == ["a.png"]


def test_a_folder_that_is_a_link_to_nowhere_is_refused_at_once(tmp_path: Path) -> None:
    """It was refused at the end, when all was computed, and then all was removed."""
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    sink = FolderSink(str(tmp_path / "out"))
    with pytest.raises(SinkError, match=r"is a link to .*nowhere', which is not there"):
        sink.open(StreamInfo(8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_video_stays_where_a_folder_has_its_name_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("to be replaced")
    sink = VideoSink(str(tmp_path / "out.mp4"))
    sink.open(StreamInfo(64, 48))
    for index in range(3):
        sink.write(RawFrame(torch.from_numpy(RGB), index, Fraction(index, 25)))
    (tmp_path / "out.mp4").unlink()
    (tmp_path / "out.mp4").mkdir()
    sink.close()
    assert frames_in(tmp_path / "out.2.mp4") == 3
    assert any("'out.2.mp4'" in note for note in sink.notes)


KILLED = """
import os, signal, sys, torch
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.unfinished import left_over
from cbs_plugins.sinks.folder import FolderSink
sink = FolderSink(sys.argv[1])
sink.open(StreamInfo(8, 8))
for index in range(3):
    sink.write(RawFrame(torch.zeros(8, 8, 3, dtype=torch.uint8), index))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_of_a_folder_is_told_and_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, out], check=False)
    (left,) = left_over(out)
    assert left.name.startswith(".out.cbs-")
    assert len(list(left.iterdir())) == 3
    sink = FolderSink(str(out))
    sink.open(StreamInfo(8, 8))
    assert left_over(out) == [left]  # not the one that is being written
    sink.write(RawFrame(torch.zeros(8, 8, 3, dtype=torch.uint8), 0))
    sink.close()
    (line,) = sink.notes
    assert str(left) in line
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def sequence(clip: Path, out: Path, **options: object) -> tuple[str, ...]:
    """Writes a clip as pictures; returns what is told."""
    sink = FolderSink(str(out))
    with VideoSource(str(clip), **options) as source:
        sink.open(source.info)
        for frame in source:
            sink.write(frame)
    sink.close()
    return sink.notes


def test_what_of_a_video_no_file_of_a_sequence_holds_is_told(tmp_path: Path) -> None:
    even = make_clip(tmp_path / "even.mp4", frames=5)
    assert sequence(even, tmp_path / "1") == ()
    clip = make_clip(tmp_path / "odd.mkv", ticks=[0, 10, 30], time_base=Fraction(1, 25), title="T")
    assert sequence(clip, tmp_path / "2") == (
        "not beside the pictures: tags (title)",
        "frames are shown for 0.04 to 0.8 seconds, which a folder does not tell",
    )
    wide = make_clip(tmp_path / "wide.mp4", tags={"sample_aspect_ratio": Fraction(4, 3)})
    (line,) = sequence(wide, tmp_path / "3")
    assert "1.33 times as wide as high" in line
    assert sequence(make_clip(tmp_path / "s.mp4", sound=0.5, title="T"), tmp_path / "4") == (
        "the sound is in 'sound.m4a'; pictures come 25 a second",  # and the title is there
    )


@pytest.mark.parametrize("audio", [True, False])
def test_pictures_stay_where_their_video_is_gone_at_the_end(tmp_path: Path, audio: bool) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=3, sound=0.2)
    sink = FolderSink(str(tmp_path / "out"), audio=audio)
    with VideoSource(str(clip)) as source:
        sink.open(source.info)
        for frame in source:
            sink.write(frame)
    clip.unlink()
    sink.close()
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert sorted(os.listdir(tmp_path / "out")) == [f"{index:06d}.png" for index in range(3)]
    (line,) = sink.notes
    assert line.startswith("what else the video has is not beside the pictures: no file")


def test_exif_of_pictures_that_become_a_video_is_told(tmp_path: Path) -> None:
    frame = one(saved(tmp_path / "a.jpg", exif=described().tobytes()))
    sink = VideoSink(str(tmp_path / "a.mp4"))
    sink.open(StreamInfo(64, 48))
    sink.write(frame)
    sink.close()
    assert sum("EXIF" in line for line in sink.notes) == 1


def test_a_sequence_has_the_sound_of_its_video_beside_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=25, sound=1)
    for start, end, seconds in ((None, None, 1), ("0.2", "0.6", 0.4)):
        sink = FolderSink(str(tmp_path / f"out{seconds}"))
        with VideoSource(str(clip), start=start, end=end) as source:
            sink.open(source.info)
            for frame in source:
                sink.write(frame)
        sink.close()
        (line,) = sink.notes
        assert line == "the sound is in 'sound.m4a'; pictures come 25 a second"
        names = sorted(path.name for path in (tmp_path / f"out{seconds}").iterdir())
        assert len(names) == 25 * seconds + 1
        packets = sound_packets(tmp_path / f"out{seconds}" / "sound.m4a")
        assert abs(float(packets[-1][0]) - seconds) < 0.05
    silent = FolderSink(str(tmp_path / "silent"), audio=False)
    with VideoSource(str(clip)) as source:
        silent.open(source.info)
        silent.write(next(iter(source)))
    silent.close()
    assert [path.name for path in (tmp_path / "silent").iterdir()] == ["000000.png"]
