"""Pictures of every kind come in as 8-bit RGB, upright, with their alpha; and go out whole."""

import re
import resource
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.formats import pictures
from cbs_plugins.formats.pictures import picture_size, read_picture
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.image import ImageSink
from cbs_plugins.sources.folder import FolderSource
from cbs_plugins.sources.image import ImageSource
from cbs_plugins.sources.sample import SAMPLES, SampleSource
from PIL import Image

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.types import RawFrame, StreamInfo
from tests.media import picture

RGB = picture(0, 20, 10)


def frame(pixels: np.ndarray = RGB, index: int = 0, **more: object) -> RawFrame:
    return RawFrame(torch.from_numpy(pixels.copy()), index, **more)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png16(path: Path, samples: np.ndarray, colour_type: int) -> Path:
    """A 16-bit PNG of (H, W, channels), which Pillow cannot write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def test_rgb_is_read_bit_exactly(tmp_path: Path) -> None:
    pixels, alpha = read_picture(save(tmp_path / "a.png", Image.fromarray(RGB)))
    assert np.array_equal(pixels.numpy(), RGB)
    assert alpha is None


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    pixels, alpha = read_picture(save(tmp_path / f"a{suffix}", image))
    assert np.array_equal(pixels.numpy(), np.asarray(image.convert("RGB")))
    assert alpha is None


def test_an_adobe_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK")
    pixels, _ = read_picture(save(tmp_path / "a.jpg", flat, quality=95))
    assert np.abs(pixels.numpy().astype(int) - (200, 40, 40)).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_kept(tmp_path: Path, mode: str) -> None:
    rgba = np.dstack([RGB, np.arange(200, dtype=np.uint8).reshape(10, 20)])
    image = Image.fromarray(rgba)
    if mode == "PA":
        image = image.quantize(16)  # a palette whose entries have alpha
        assert image.mode == "P"
    else:
        image = image.convert(mode)
    pixels, alpha = read_picture(save(tmp_path / "a.png", image))
    expected = np.asarray(image.convert("RGBA"))
    assert np.array_equal(pixels.numpy(), expected[..., :3])
    assert np.array_equal(alpha.numpy(), expected[..., 3])


def test_a_transparent_palette_colour_is_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(8)
    _, alpha = read_picture(save(tmp_path / "a.png", image, transparency=0))
    assert np.array_equal(alpha.numpy() == 0, np.asarray(image) == 0)


def test_16_bit_samples_are_scaled_not_clipped(tmp_path: Path) -> None:
    wide = np.linspace(0, 65535, 200).reshape(10, 20, 1).repeat(3, 2).astype(np.uint16)
    expected = np.rint(wide / 257)
    gray = Image.fromarray(np.ascontiguousarray(wide[..., 0]))
    for path in (
        save(tmp_path / "gray.png", gray),
        save(tmp_path / "gray.tif", gray),
        save(tmp_path / "int.tif", Image.fromarray(wide[..., 0].astype(np.int32))),
        png16(tmp_path / "rgb.png", wide, 2),
        png16(tmp_path / "rgba.png", np.dstack([wide, wide[..., :1]]), 6),
    ):
        pixels, alpha = read_picture(path)
        assert np.abs(pixels.numpy() - expected).max() <= 1, path.name
        assert pixels.max() == 255
        assert (alpha is not None) == (path.name == "rgba.png")


def test_float_samples_are_scaled(tmp_path: Path) -> None:
    image = Image.fromarray(np.linspace(0, 1, 200, dtype=np.float32).reshape(10, 20))
    pixels, _ = read_picture(save(tmp_path / "a.tif", image))
    assert np.array_equal(pixels.numpy()[..., 0], np.rint(np.asarray(image) * 255))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", Image.fromarray(RGB), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels, _ = read_picture(path)
    assert np.array_equal(pixels.numpy(), expected)
    assert picture_size(path) == expected.shape[1::-1]
    with ImageSource(str(path)) as source:
        assert (source.info.width, source.info.height) == expected.shape[1::-1]


def test_the_smallest_picture_passes(tmp_path: Path) -> None:
    path = save(tmp_path / "dot.png", Image.new("RGB", (1, 1), (1, 2, 3)))
    with ImageSource(str(path)) as source:
        assert isinstance(source, Source)
        (only,) = source
    assert only.pixels.tolist() == [[[1, 2, 3]]]
    assert (source.info.frames, source.info.name, only.name, only.pts) == (1, "dot", "dot", 0)


def test_the_size_of_a_huge_picture_is_known_without_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("1", (16384, 16384)).save(path, compress_level=1)
    data = path.read_bytes()
    path.write_bytes(data[:200])  # nothing but the header is there to be read
    with ImageSource(str(path)) as source:
        assert (source.info.width, source.info.height) == (16384, 16384)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_limit_is_there_again_after_threads_that_read_at_once() -> None:
    """One that entered later and left later once kept the limit away for good."""
    limit, inside, leave = Image.MAX_IMAGE_PIXELS, threading.Event(), threading.Event()

    def other() -> None:
        with pictures._any_size:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with pictures._any_size:
        thread.start()
        assert inside.wait(10)
    assert Image.MAX_IMAGE_PIXELS is None
    leave.set()
    thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


def _png(path: Path) -> bytes:
    return save(path, Image.fromarray(RGB)).read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"This is text.\n" * 50, "is no picture"),
        ("cut", "is a damaged picture"),
        ("folder", "is a folder"),
        (None, "no file .*did you mean 'bad2.png'"),
    ],
    ids=["empty", "text", "cut", "folder", "missing"],
)
def test_what_is_no_picture_gets_one_line_with_its_name(
    tmp_path: Path, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / "bad.png"
    whole = _png(tmp_path / "bad2.png")
    if content == "folder":
        path.mkdir()
    elif content == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)

    def read() -> None:
        with ImageSource(str(path)) as source:
            list(source)

    with pytest.raises(SourceError, match=message) as caught:
        read()
    assert "bad.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_are_real_pictures() -> None:
    for name in SAMPLES:
        with SampleSource(f"sample:{name}") as source:
            assert source.info.width >= 400
    with SampleSource(None) as source:
        assert source.info.name == "astronaut"
    with pytest.raises(SourceError, match=r"'kat'; did you mean 'cat'\?.*astronaut, cat"):
        SampleSource("kat")


def make_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (4 + index, 4), (index, 0, 0)).save(folder / name)
    return folder


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", "img10.png", "img2.PNG", "Img1.jpg", ".hidden.png")
    (folder / "notes.txt").write_text("x")
    (folder / "sub.png").mkdir()
    with FolderSource(str(folder), rate="30000/1001") as source:
        frames = list(source)
    assert [f.name for f in frames] == ["Img1", "img2", "img10"]
    assert [f.pts * 30000 for f in frames] == [0, 1001, 2002]
    assert [f.index for f in frames] == [0, 1, 2]
    assert (source.info.frames, source.info.width, source.info.name) == (3, 6, "in")


def test_two_pictures_of_one_stem_stay_two(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", "a.png", "A.jpg", "b.png")
    sink = FolderSink(str(tmp_path / "out"))
    with FolderSource(str(folder)) as source:
        sink.open(source.info)
        for one in source:
            sink.write(one)
    sink.close()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "A.jpg.png",
        "a.png.png",
        "b.png",
    ]


def test_a_broken_picture_stops_a_folder_or_is_counted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", "1.png", "2.png", "3.png")
    whole = _png(tmp_path / "x.png")
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    with FolderSource(str(folder)) as source, pytest.raises(SourceError, match=r"2\.png"):
        list(source)
    with FolderSource(str(folder), on_error="skip") as source:
        assert [(f.name, f.index) for f in source] == [("1", 0), ("3", 1)]
    assert source.damaged == 1
    (folder / "1.png").write_bytes(b"")
    with FolderSource(str(folder), on_error="skip") as source:
        assert [f.name for f in source] == ["3"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match="holds no picture"):
        FolderSource(str(tmp_path / "in")).__enter__()
    with pytest.raises(SourceError, match=r"no file .*did you mean 'in'"):
        FolderSource(str(tmp_path / "inn")).__enter__()
    for rate in (0, -25, 1e-30, 1e30, "1/0", "soon"):
        with pytest.raises(SourceError, match=re.escape(f"rate={rate} is no number")):
            FolderSource("in", rate=rate)


def write_one(path: Path, one: RawFrame, **options: object) -> None:
    sink = ImageSink(str(path), **options)
    assert isinstance(sink, Sink)
    sink.open(StreamInfo(20, 10))
    assert not path.exists()
    sink.write(one)
    sink.close()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".PNG"])
def test_lossless_formats_are_lossless(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"new folder/a{suffix}"
    write_one(path, frame())
    assert np.array_equal(read_picture(path)[0].numpy(), RGB)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_alpha_is_written_where_the_format_holds_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alpha = torch.arange(200, dtype=torch.uint8).reshape(10, 20)
    for suffix in (".png", ".tiff", ".webp"):
        write_one(tmp_path / f"a{suffix}", frame(alpha=alpha))
        assert torch.equal(read_picture(tmp_path / f"a{suffix}")[1], alpha)
    assert not caplog.records
    write_one(tmp_path / "a.jpg", frame(alpha=alpha))
    assert read_picture(tmp_path / "a.jpg")[1] is None
    assert "holds no transparency" in caplog.text


def test_a_second_frame_or_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    sink = ImageSink(str(tmp_path / "a.png"))
    sink.open(StreamInfo(20, 10))
    sink.write(frame())
    with pytest.raises(SinkError, match="give a folder or a video"):
        sink.write(frame(index=1))
    sink.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SinkError, match=r"'\.xyz'.*\.png"):
        ImageSink("a.xyz")
    with pytest.raises(SinkError, match=r"'\.xyz'.*\.png"):
        FolderSink("a", suffix=".xyz")


@pytest.mark.parametrize("sink", [ImageSink, FolderSink])
@pytest.mark.parametrize("place", ["file/a.png", "/proc/a.png"])
def test_an_unwritable_place_is_told_before_the_work(
    tmp_path: Path, sink: type, place: str
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SinkError, match="cannot write"):
        sink(str(tmp_path / place)).open(StreamInfo(20, 10))


@pytest.mark.parametrize("sink", [ImageSink, FolderSink])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, sink: type) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    out = sink(str(tmp_path / "a.png"))
    out.open(StreamInfo(200, 200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(SinkError, match="File too large"):
            out.write(frame(noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    out.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_keeps_what_others_put_there(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    sink = FolderSink(str(out))
    sink.open(StreamInfo(20, 10))
    sink.write(frame())
    assert not out.exists()
    sink.close()
    assert [p.name for p in out.iterdir()] == ["000000.png"]
    (out / "mine.txt").write_text("x")
    sink = FolderSink(str(out))
    sink.open(StreamInfo(20, 10))
    sink.write(frame(255 - RGB, name="000000"))
    with pytest.raises(SinkError, match="two frames"):
        sink.write(frame(name="000000"))
    assert np.array_equal(read_picture(out / "000000.png")[0].numpy(), RGB)
    sink.close()
    assert np.array_equal(read_picture(out / "000000.png")[0].numpy(), 255 - RGB)
    assert sorted(p.name for p in out.iterdir()) == ["000000.png", "mine.txt"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    sink = FolderSink(str(out))
    sink.open(StreamInfo(20, 10))
    sink.abort()
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    with pytest.raises(SinkError, match="is a file"):
        FolderSink(str(out / "mine.txt")).open(StreamInfo(20, 10))
