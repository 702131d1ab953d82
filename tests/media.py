"""Small clips and pictures for tests, made with PyAV: nothing is downloaded.

Frame ``i`` of a clip is a smooth gradient with a bright block whose place tells ``i``.
"""

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from cbs_plugins.sources.video import VideoSource
from PIL import ImageCms

SOUND_RATE = 48000


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 (height, width, 3); red grows to the right, green downwards: no symmetry."""
    x = np.linspace(0, 200, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 200, height)[:, None].repeat(width, 1)
    pixels = np.stack([x, y, np.full_like(x, 60)], -1).astype(np.uint8)
    left = (index * 3) % max(width - 8, 1)
    pixels[: height // 3, left : left + 8] = 230
    return pixels


def make_clip(
    path: Path,
    *,
    frames: int = 12,
    width: int = 64,
    height: int = 48,
    rate: Fraction | int = 25,
    ticks: Iterable[int] | None = None,
    time_base: Fraction | None = None,
    sound: float = 0.0,
    sound_start: float = 0.0,
    sound_codec: str = "aac",
    rotation: int | None = None,
    hflip: bool = False,
    codec: str = "libx264",
    pix_fmt: str | None = None,
    tags: dict[str, Any] | None = None,
    title: str | None = None,
    gop: int = 12,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip; ``ticks`` are the pts in ``time_base``, ``sound`` its seconds of sine."""
    time_base = time_base or 1 / Fraction(rate)
    ticks = list(ticks) if ticks is not None else list(range(frames))
    with av.open(str(path), "w", options=options or {}) as out:
        if title:
            out.metadata["title"] = title
        video = None
        if frames:
            video = out.add_stream(codec, rate=rate, width=width, height=height)
            video.codec_context.time_base = time_base
            video.pix_fmt = pix_fmt or ("yuv444p" if width % 2 or height % 2 else "yuv420p")
            video.gop_size = gop
            for name, value in (tags or {}).items():
                setattr(video.codec_context, name, value)
            if rotation is not None or hflip:
                video.set_display_rotation(rotation or 0, hflip=hflip)
        audio = None
        if sound:
            audio = out.add_stream(sound_codec, rate=SOUND_RATE)
        if audio is not None:
            samples = np.arange(int(sound * SOUND_RATE))
            for start in range(0, len(samples), 960):
                part = samples[start : start + 960]
                tone = (np.sin(part * 2 * np.pi * 440 / SOUND_RATE) * 9000).astype(np.int16)
                frame = AudioFrame.from_ndarray(
                    tone.repeat(2)[None, :], format="s16", layout="stereo"
                )
                frame.sample_rate = SOUND_RATE
                frame.time_base = Fraction(1, SOUND_RATE)
                frame.pts = int(sound_start * SOUND_RATE) + start
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
        if video is not None:
            for index, tick in enumerate(ticks):
                frame = VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
                colours = {
                    k: v for k, v in (tags or {}).items() if k in ("colorspace", "color_range")
                }
                frame = frame.reformat(
                    format=video.pix_fmt,
                    dst_colorspace={6: 5}.get(colours.get("colorspace"), colours.get("colorspace")),
                    dst_color_range=colours.get("color_range"),
                )
                frame.pts, frame.time_base = tick, time_base
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
    return path


def wide_profile(name: str = "wide") -> bytes:
    """An RGB profile with red and green of P3, made from that of sRGB by its own numbers.

    Its name, of four letters, takes the place of ``sRGB`` in the description.
    """
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.2920, 0.6922, 0.0419)}
    primaries[b"bXYZ"] = (0.1571, 0.0666, 0.7841)
    (count,) = struct.unpack(">I", data[128:132])
    for entry in range(132, 132 + 12 * count, 12):
        key, place, size = struct.unpack(">4sII", data[entry : entry + 12])
        if key in primaries:
            fixed = (round(value * 65536) for value in primaries[key])
            data[place + 8 : place + 20] = struct.pack(">3i", *fixed)
        if key == b"desc":
            wide = "\0".join(name).encode()
            words = bytes(data[place : place + size]).replace(b"s\0R\0G\0B", wide)
            data[place : place + size] = words.replace(b"sRGB", name.encode())
    return bytes(data)


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """(pts in seconds, bytes) of every audio packet, stream after stream."""
    with av.open(str(path)) as media:
        found: list[list[tuple[Fraction, bytes]]] = [[] for _ in media.streams]
        for packet in media.demux(*media.streams.audio) if media.streams.audio else ():
            if packet.size:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return [packet for stream in found for packet in stream]


def frames_in(path: Path) -> int:
    """How many frames of a video can be decoded."""
    with av.open(str(path)) as media:
        return sum(1 for _ in media.decode(video=0))


def rgb_frames(path: Path) -> list[np.ndarray]:
    """Every frame of a video, ``(H,W,3)`` uint8."""
    with av.open(str(path)) as media:
        return [frame.to_ndarray(format="rgb24") for frame in media.decode(video=0)]


def frame_times(path: Path) -> list[Fraction]:
    """The pts in seconds of every frame, as the source tells them."""
    with VideoSource(str(path)) as source:
        return [frame.pts for frame in source]


def luma(path: Path) -> list[np.ndarray]:
    """The Y plane of every frame, as coded: before any colour conversion."""
    with av.open(str(path)) as media:
        planes = []
        for frame in media.decode(video=0):
            plane = frame.planes[0]
            rows = np.frombuffer(bytes(plane), np.uint8).reshape(frame.height, plane.line_size)
            planes.append(rows[:, : frame.width].astype(float))
    return planes


def damage(path: Path, packet: int, out: Path) -> Path:
    """A copy in which the middle of one video packet is overwritten."""
    with av.open(str(path)) as media:
        packets = [p for p in media.demux(video=0) if p.size]
        pos, size = packets[packet].pos, packets[packet].size
    data = bytearray(path.read_bytes())
    junk = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    data[pos + 8 : pos + size] = junk[8:]
    out.write_bytes(data)
    return out


def cut(path: Path, part: float, out: Path) -> Path:
    """A copy of the first part (0 to 1) of the bytes."""
    data = path.read_bytes()
    out.write_bytes(data[: int(len(data) * part)])
    return out
