"""Pixel formats of video: what a source has, and the nearest that an encoder takes."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

from av import Codec
from av.video.format import VideoFormat
from av.video.stream import VideoStream
from PIL import Image

from cbs_core.contract.errors import SinkError, closest
from cbs_core.contract.stored import Stored
from cbs_plugins.formats.media import has_alpha, open_media, picture_stream
from cbs_plugins.formats.profiles import told

_HDR = {16: "PQ", 18: "HLG"}
"""AVCOL_TRC of high dynamic range -> its name (ITU-R BT.2100)."""

_PICTURES = {"png": "PNG", "mjpeg": "JPEG"}
"""Codec whose packets are whole files of pictures -> Pillow's name of these."""

_DEPTH = 8
"""Bits a channel of a `RawFrame`."""

_EXPERIMENTAL = {"libvpx-vp9": frozenset({"yuva422p", "yuva444p", "gbrap"})}
"""Encoder -> formats that it offers and then refuses, because few players show them."""

_FINE = ("yuv444p", "yuv444p10le", "yuv444p12le", "gbrp")
"""Formats with a colour for each pixel, in the order in which they are advised."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What of a pixel format is worth keeping."""

    across: int
    """Pixels that share colour along a row."""

    down: int
    """Pixels that share colour along a column."""

    alpha: bool
    rgb: bool
    bits: int

    @classmethod
    def of(cls, name: str) -> "Sampling":
        """Returns that of FFmpeg's name of a format."""
        pixels = VideoFormat(name, 64, 64)
        parts = pixels.components
        rgb = pixels.is_rgb or pixels.has_palette
        return cls(
            1 if rgb else 64 // pixels.chroma_width(64),
            1 if rgb else 64 // pixels.chroma_height(64),
            any(part.is_alpha for part in parts),
            rgb,
            max(part.bits for part in parts),
        )


def curve(stream: VideoStream) -> str:
    """Returns the name of a stream's curve of high dynamic range; empty for another curve."""
    return _HDR.get(stream.codec_context.color_trc, "")


def source_notes(name: str, stream: VideoStream) -> list[str]:
    """Returns a line for what is lost of a stream's depth where it is restyled."""
    pixels = stream.codec_context.format
    if pixels is None:
        return []
    bits = max(part.bits for part in pixels.components)
    hdr = f", HDR by {curve(stream)}" if curve(stream) else ""
    if bits <= _DEPTH and not hdr:
        return []
    depth = f": what is restyled has {_DEPTH}" if bits > _DEPTH else ""
    return [f"'{name}' has {bits} bits a channel{hdr}{depth}"]


def profile_notes(path: Path | Stored, stream: VideoStream) -> list[str]:
    """Returns a line for an ICC profile that the first frame of a video of picture files has.

    PyAV would hand it out as a frame's side data, which crashes: see `media.orientation`.
    """
    kind = _PICTURES.get(stream.codec_context.name)
    if kind is None:
        return []
    with open_media(path) as media:
        packets = media.demux(picture_stream(media, path))
        first = next((bytes(packet) for packet in packets if packet.size), b"")
    try:
        with Image.open(io.BytesIO(first), formats=[kind]) as image:
            profile = told(image.info.get("icc_profile") or b"")
    except Exception:  # Pillow's readers raise nearly anything on damaged data
        return []
    if not profile:
        return []
    return [
        f"frames of '{path.name}' have the colour profile '{profile}', which is neither applied "
        "nor kept: they are taken for sRGB"
    ]


def encoder_formats(codec: str) -> tuple[str, ...]:
    """Returns FFmpeg's names of the pixel formats that an encoder takes."""
    offered = (pixels.name for pixels in Codec(codec, "w").video_formats or ())
    return tuple(name for name in offered if name not in _EXPERIMENTAL.get(codec, ()))


def check_format(wanted: str, *codecs: str) -> None:
    """Refuses a pixel format that none of some encoders takes.

    Args:
        wanted: FFmpeg's name.
        codecs: the encoders, the likeliest first.

    Raises:
        SinkError: with those that the first takes.
    """
    if any(wanted in encoder_formats(codec) for codec in codecs):
        return
    offered = encoder_formats(codecs[0])
    raise SinkError(
        f"{codecs[0]} takes no pixel format '{wanted}'{closest(wanted, offered)} (it takes: "
        f"{', '.join(offered)}): choose one of these, or sink.pixel_format=auto"
    )


def pixel_format(
    codec: str,
    source: VideoStream | None,
    width: int,
    height: int,
    wanted: str,
    *,
    alpha: bool | None = None,
    matte: bool = False,
) -> tuple[str, str]:
    """Chooses what an encoder is given.

    Args:
        codec: the encoder.
        source: whose sampling of colours and transparency is kept where the encoder can.
        width: of the frames; an odd one cannot share colour between columns.
        height: likewise, between rows.
        wanted: FFmpeg's name, or ``auto``.
        alpha: whether there is transparency; None: where the source has it.
        matte: whether the pictures are a matte, of 8 bits.

    Returns:
        FFmpeg's name, and a line on what is lost by it, or nothing.

    Raises:
        SinkError: the encoder does not take the one that is wanted.
    """
    offered = encoder_formats(codec)
    have = _sampling(source)
    have = have if alpha is None else replace(have, alpha=alpha)
    have = replace(have, bits=_DEPTH) if matte else have
    if wanted != "auto":
        check_format(wanted, codec)
        return wanted, _depth_lost(codec, wanted, have)
    best = min(offered, key=lambda name: _cost(name, have, width, height), default="yuv420p")
    got = Sampling.of(best)
    lost = _depth_lost(codec, best, have)
    if source is not None and not have.rgb and (got.across, got.down) > (have.across, have.down):
        fewer = f"{codec} writes {best}: of the source's colours fewer samples are kept"
        lost = f"{fewer}; {lost}" if lost else fewer
    elif source is not None and have.rgb and got.across > 1:
        finer = [one for one in _FINE if one in offered and Sampling.of(one).bits >= got.bits]
        way = f"; sink.pixel_format={finer[0]} keeps all" if finer else ""
        fewer = f"the source has a colour for each pixel, and {best} one for four{way}"
        lost = f"{fewer}; {lost}" if lost else fewer
    return best, lost


def _depth_lost(codec: str, chosen: str, have: Sampling) -> str:
    """Returns, in words, what a format costs of a source's depth, or who cannot show it."""
    bits = Sampling.of(chosen).bits
    if bits < have.bits:
        kept = f"{bits} of the source's {have.bits} bits a channel are kept"
        return f"{codec} writes {chosen}: {kept}"
    if bits > _DEPTH and codec == "libx264":
        return (
            f"H.264 of {bits} bits is not shown by every player: by more with sink.codec=libx265, "
            "or sink.pixel_format=yuv420p, which has 8"
        )
    return ""


def _sampling(source: VideoStream | None) -> Sampling:
    pixels = source.codec_context.format if source is not None else None
    if source is None or pixels is None:
        return Sampling(2, 2, False, False, _DEPTH)
    have = Sampling.of(pixels.name)
    # Every GIF is decoded with transparency; few have any.
    alpha = has_alpha(source) and source.codec_context.name != "gif"
    return Sampling(have.across, have.down, alpha, have.rgb, have.bits)


def _cost(name: str, have: Sampling, width: int, height: int) -> tuple[int, ...]:
    """Orders formats: the first difference decides, less is better."""
    try:
        got = Sampling.of(name)
    except ValueError:
        return (9,)
    # RGB is written as the usual 4:2:0, which every player shows.
    across, down = (2, 2) if have.rgb else (have.across, have.down)
    across, down = (1 if width % 2 else across), (1 if height % 2 else down)
    if 1 in (across, down) and (width % 2 or height % 2):
        across = down = 1  # few encoders and players know 4:4:0
    return (
        have.alpha and not got.alpha,
        name.startswith(("yuvj", "nv", "gray", "mono", "pal")),
        got.bits < _DEPTH,
        got.rgb and not have.rgb,
        got.across > across or got.down > down,
        max(have.bits - got.bits, 0),
        got.alpha and not have.alpha,
        got.bits - have.bits,
        abs(got.across - across) + abs(got.down - down),
        got.rgb,
    )
