"""What a picture tells beside its pixels: XMP, comments, thumbnails, IPTC, further pictures."""

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from cbs_plugins.formats.picture_tags import untold
from cbs_plugins.formats.pictures import read_frames, read_header
from cbs_plugins.sinks.image import ImageSink
from cbs_plugins.sources.folder import FolderSource
from cbs_plugins.sources.image import ImageSource
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from cbs_core.contract.types import StreamInfo
from cbs_core.machine import exif
from tests.media import picture

RGB = picture(0, 64, 48)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:rights="mine" tiff:Orientation="%s"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def saved(path: Path, **options: object) -> Path:
    Image.fromarray(RGB).save(path, **options)
    return path


def rewritten(source: Path, out: Path) -> tuple[Image.Image, str]:
    """The picture that is written of another, and what is said to be lost."""
    with ImageSource(str(source)) as opened:
        (frame,) = opened
        notes = opened.info.notes
    sink = ImageSink(str(out))
    sink.open(StreamInfo(frame.pixels.shape[1], frame.pixels.shape[0]))
    sink.write(frame)
    sink.close()
    picture = Image.open(out)
    picture.load()
    return picture, "; ".join((*notes, *sink.notes))


@pytest.mark.parametrize("out", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_is_kept_upright_or_told(tmp_path: Path, suffix: str, out: str) -> None:
    said = XMP % b"6"
    if suffix == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", said.decode())
        photo = saved(tmp_path / "a.png", pnginfo=info)
    elif suffix == ".tif":
        photo = saved(tmp_path / "a.tif", tiffinfo={700: said})
    else:
        photo = saved(tmp_path / f"a{suffix}", xmp=said)
    written, told = rewritten(photo, tmp_path / f"out{out}")
    if out == ".bmp":
        assert ".bmp does not hold" in told
        assert "XMP" in told
    else:
        lies = b' tiff:Orientation="1"'  # upright now; of a TIFF Pillow takes it out
        got = bytes(written.info["xmp"]).replace(lies, b"").replace(b" />", b"/>")
        assert got == (XMP % b"1").replace(lies, b"")
        assert "XMP" not in told


def test_comments_and_texts_are_kept_or_named(tmp_path: Path) -> None:
    commented = saved(tmp_path / "a.jpg", comment=b"of my own")
    info = PngInfo()
    info.add_text("Author", "Somebody")
    info.add_itxt("Title", "Grüße")
    info.add_text("Software", "class-based-styling")  # would make it one of this program's sheets
    titled = saved(tmp_path / "b.png", pnginfo=info)

    written, told = rewritten(commented, tmp_path / "1.jpg")
    assert (written.info["comment"], told) == (b"of my own", "")
    written, told = rewritten(commented, tmp_path / "1.png")
    assert (written.text, told) == ({"Comment": "of my own"}, "")
    _, told = rewritten(commented, tmp_path / "1.webp")
    assert told == ".webp does not hold texts (Comment): .png does"
    written, told = rewritten(titled, tmp_path / "2.png")
    assert (written.text, told) == ({"Author": "Somebody", "Title": "Grüße"}, "")
    _, told = rewritten(titled, tmp_path / "2.jpg")
    assert told == ".jpg does not hold texts (Author, Title): .png does"


def test_more_exif_or_xmp_than_a_jpeg_holds_is_told(tmp_path: Path) -> None:
    """Pillow refuses such a JPEG, and the picture was not written at all."""
    long = Image.Exif()
    long[0x010E] = "x" * 70_000
    said = XMP % b"1" + b" " * 70_000
    photo = saved(tmp_path / "a.webp", exif=long, xmp=said, lossless=True)
    written, told = rewritten(photo, tmp_path / "out.jpg")
    assert not written.info.keys() & {"exif", "xmp"}
    assert told == ".jpg does not hold EXIF, XMP: .png does"
    kept, told = rewritten(photo, tmp_path / "out.png")
    assert kept.getexif()[0x010E] == "x" * 70_000
    assert told == ""


def with_thumbnail(order: str) -> bytes:
    """EXIF with a maker in its first table and a thumbnail in its second."""
    small = io.BytesIO()
    Image.fromarray(RGB).resize((16, 12)).save(small, "JPEG")
    jpeg = small.getvalue()
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    first = struct.pack(f"{order}HHHI4sI", 1, 0x010F, 2, 3, b"Me\0\0", 26)
    place = 26 + 2 + 3 * 12 + 4
    second = struct.pack(f"{order}HHHIHH", 3, 0x0103, 3, 1, 6, 0)
    for tag, value in ((0x0201, place), (0x0202, len(jpeg))):
        second += struct.pack(f"{order}HHII", tag, 4, 1, value)
    return b"Exif\0\0" + head + first + second + bytes(4) + jpeg


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_thumbnail_of_the_picture_as_it_was_is_not_kept(tmp_path: Path, order: str) -> None:
    data = with_thumbnail(order)
    photo = saved(tmp_path / "a.jpg", exif=data)
    assert Image.open(photo).getexif().get_ifd(ExifTags.IFD.IFD1)[0x0202] > 600
    written, told = rewritten(photo, tmp_path / "out.jpg")
    assert written.getexif()[0x010F] == "Me"
    assert not written.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert b"\xff\xd8" not in written.info["exif"]
    assert told == ""


def test_damaged_exif_is_kept_as_it_is() -> None:
    whole = with_thumbnail("<")
    for end in range(0, len(whole), 7):
        image = Image.new("RGB", (2, 2))
        image.info["exif"] = whole[:end]
        assert len(exif.kept(image, 1)) == end


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SRGB_CHROMA = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_CHROMA = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ({b"gAMA": struct.pack(">I", 100_000)}, "its gamma (gAMA) is not applied"),
        ({b"gAMA": struct.pack(">I", 45_455), b"cHRM": P3_CHROMA}, "set of primaries (cHRM) is"),
        ({b"cICP": bytes([9, 16, 0, 1])}, "its colours by cICP are not applied"),
        ({b"gAMA": struct.pack(">I", 45_455), b"cHRM": SRGB_CHROMA}, ""),
        ({b"sRGB": b"\0", b"gAMA": struct.pack(">I", 100_000)}, ""),
        ({b"cICP": bytes([1, 13, 0, 1]), b"cHRM": P3_CHROMA}, ""),
    ],
)
def test_colours_that_a_png_states_by_numbers_are_told(
    tmp_path: Path, chunks: dict[bytes, bytes], told: str
) -> None:
    data = saved(tmp_path / "a.png").read_bytes()
    added = b"".join(chunk(kind, content) for kind, content in chunks.items())
    (tmp_path / "a.png").write_bytes(data[:33] + added + data[33:])
    lost = read_header(tmp_path / "a.png").lost
    assert told in lost
    assert bool(lost) is bool(told)


def test_a_further_picture_iptc_and_what_speaks_of_them_are_told(tmp_path: Path) -> None:
    """Phones put gain maps, depth and a second eye's picture behind the first."""
    Image.fromarray(RGB).save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(RGB[::-1])]
    )
    plain = saved(tmp_path / "plain.jpg").read_bytes()
    words = b"\x1c\x02\x50\0\x02Me"
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(words)) + words + b"\0"
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "b.jpg").write_bytes(plain[:2] + segment + plain[2:])
    saved(tmp_path / "c.webp", xmp=XMP.replace(b"dc:rights", b"xmp:Thumbnails") % b"1")
    saved(tmp_path / "d.jpg", xmp=XMP.replace(b"dc:rights", b"hdrgm:Version") % b"1")
    assert "what else is in it" in read_header(tmp_path / "a.jpg").lost
    assert read_header(tmp_path / "b.jpg").lost == "its IPTC is left out"
    assert (
        "its XMP, which speaks of other pictures, is left out"
        in read_header(tmp_path / "c.webp").lost
    )
    assert "a gain map" in read_header(tmp_path / "d.jpg").lost
    for name in ("c.webp", "d.jpg"):
        assert next(read_frames(tmp_path / name)).still.xmp == b""
    assert read_header(tmp_path / "plain.jpg").lost == ""


@pytest.mark.parametrize(
    ("curve", "primaries", "told"),
    [
        (16, 9, "its HDR by PQ is not applied"),
        (18, 9, "its HDR by HLG is not applied"),
        (13, 12, "its set of primaries is not applied"),
        (13, 1, ""),
    ],
)
def test_colours_that_an_avif_states_by_numbers_are_told(
    tmp_path: Path, curve: int, primaries: int, told: str
) -> None:
    path = tmp_path / "a.avif"
    with av.open(str(path), "w", format="avif") as out:
        stream = out.add_stream("libsvtav1", rate=1, width=64, height=64, pix_fmt="yuv420p")
        stream.codec_context.color_trc = curve
        stream.codec_context.color_primaries = primaries
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
        out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    lost = read_header(path).lost
    assert told in lost
    assert bool(lost) is bool(told)


def test_of_heif_depth_and_what_else_is_in_it_are_told(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    wide = np.full((48, 64, 3), 40_000, np.uint16)
    made = heif.from_bytes("RGB;16", (64, 48), wide.tobytes())
    made.save(tmp_path / "a.heic", bit_depth=10)
    assert "8 of its bits a channel are kept" in read_header(tmp_path / "a.heic").lost
    made = heif.from_bytes("RGB", (64, 48), RGB.tobytes())
    made.save(tmp_path / "b.heic")
    assert read_header(tmp_path / "b.heic").lost == ""
    with Image.open(tmp_path / "b.heic") as image, (tmp_path / "b.heic").open("rb") as file:
        image.info["aux"] = {"urn:com:apple:photo:2020:aux:hdrgainmap": [2]}
        (line,) = untold(image, file)
    assert "a gain map" in line


@pytest.mark.parametrize("suffix", [".avif", ".jp2"])
def test_more_than_8_bits_that_pillow_hides_are_told(tmp_path: Path, suffix: str) -> None:
    codec, pixels = {".avif": ("libaom-av1", "yuv420p10le"), ".jp2": ("jpeg2000", "rgb48le")}[
        suffix
    ]
    if codec not in av.codecs_available:
        codec = "libsvtav1" if suffix == ".avif" else codec
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format="avif" if suffix == ".avif" else "image2") as out:
        stream = out.add_stream(codec, rate=1, width=64, height=64, pix_fmt=pixels)
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
        out.mux(stream.encode(frame.reformat(format=pixels)))
        out.mux(stream.encode(None))
    assert read_header(path).lost == "8 of its bits a channel are kept"
    assert read_header(saved(tmp_path / f"plain{suffix}")).lost == ""


def test_of_many_pictures_one_line_tells_what_all_lose(tmp_path: Path) -> None:
    for number in range(9):
        Image.fromarray(RGB).save(
            tmp_path / f"{number}.jpg", "MPO", save_all=True, append_images=[Image.fromarray(RGB)]
        )
    with FolderSource(str(tmp_path)) as source:
        (line,) = source.info.notes
    assert line.startswith("'0.jpg', '1.jpg'")
    assert "and 3 more: what else is in it" in line
