"""Every source and every sink that fails in the middle: what is done stays, one line names it.

A new plugin is taken too: without a line in the tables here it fails.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from cbs_core.choose import registry
from cbs_core.contract.errors import CbsError, LostError
from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.types import RawFrame
from cbs_core.machine.meter import Meter
from cbs_core.run.runner import Runner
from cbs_core.run.workers import opened
from cbs_core.testing.runs import ClipSource, MemorySink, PassingScheduler, run, threads_left
from tests.disks import files_up_to
from tests.media import cut, make_clip, picture


class Noise(ClipSource):
    """Smooth pictures, and from frame ``count`` on pictures that no format makes small."""

    def __init__(self, count: int, frames: int) -> None:
        super().__init__(frames)
        self.smooth = count
        self.chance = np.random.default_rng(16)

    def __iter__(self) -> Iterator[RawFrame]:
        for index in range(self.count or 0):
            pixels = picture(index, self.info.width, self.info.height)
            if index >= self.smooth:
                pixels = self.chance.integers(0, 256, pixels.shape, np.uint8)
            yield RawFrame(torch.from_numpy(pixels), index, Fraction(index, 25))


def created(kind: str, name: str, **params: object):
    return registry.REGISTRIES[kind].create(name, **params)


# Sources.


@dataclass(frozen=True)
class Breaking:
    """How a source fails: what is made in a folder, what its line names, how many frames stay."""

    make: Callable[[Path, pytest.MonkeyPatch], Source]
    names: str
    kept: range


def pages(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    """A TIFF of four pages, of which the third is damaged."""
    file = folder / "pages.tiff"
    first, *more = (Image.fromarray(picture(index)) for index in range(4))
    first.save(file, save_all=True, append_images=more, compression="tiff_deflate")
    with Image.open(file) as image:
        image.seek(2)
        ((place,), (size,)) = image.tag_v2[273], image.tag_v2[279]
    data = bytearray(file.read_bytes())
    data[place : place + size] = bytes(size)
    file.write_bytes(data)
    return created("source", "image", path=str(file), frames="all")


def pictures(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    (folder / "in").mkdir()
    for index in range(4):
        Image.fromarray(picture(index)).save(folder / f"in/{index}.png")
    cut(folder / "in/2.png", 0.5, folder / "in/2.png")
    return created("source", "folder", path=str(folder / "in"))


def film(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    whole = make_clip(folder / "whole.avi", frames=24, width=320, height=240, codec="mpeg4")
    return created("source", "video", path=str(cut(whole, 0.8, folder / "film.avi")))


class Device:
    """What `av.open` returns of a camera or a stream: FFmpeg's test picture, and then nothing."""

    duration = None

    def __init__(self) -> None:
        self.container = av.open("testsrc=size=96x64:rate=50,realtime", format="lavfi")
        self.streams = self.container.streams

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        self.container.close()

    def demux(self, stream):
        for _ in range(4):
            yield next(self.container.demux(stream))
        raise OSError(19, "No such device")


def camera(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    from cbs_plugins.formats import devices

    patch.setattr(devices, "cameras", lambda: [devices.Camera("/dev/desk", "Desk Cam")])
    patch.setattr(devices, "device_format", lambda: "v4l2")
    patch.setattr(devices, "open_camera", lambda *one, **more: Device())
    return created("source", "camera", reconnect=False)


def stream(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    source = created("source", "stream", path="rtsp://me:secret@desk/cam", reconnect=False)
    patch.setattr(type(source), "_connect", lambda self: Device())
    return source


def screen(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    from cbs_plugins.sources import screen as module

    class Screen:
        monitors = ({}, {"left": 0, "top": 0, "width": 8, "height": 6})
        shots = 0

        def __enter__(self):
            return self

        def __exit__(self, *exc: object) -> None: ...

        def grab(self, box):
            Screen.shots += 1
            if Screen.shots == 4:
                raise OSError("the session was locked")
            return SimpleNamespace(raw=bytes(8 * 6 * 4), width=8, height=6)

    patch.setattr(module, "_mss", Screen)
    return created("source", "screen", rate=200)


SOURCES: dict[str, Breaking | str] = {
    "image": Breaking(pages, "pages.tiff", range(2, 3)),
    "folder": Breaking(pictures, "2.png", range(2, 3)),
    "video": Breaking(film, "film.avi", range(6, 20)),
    "camera": Breaking(camera, "'Desk Cam'", range(1, 5)),
    "stream": Breaking(stream, "'rtsp://desk/cam'", range(1, 5)),
    "screen": Breaking(screen, "the screen", range(2, 3)),
    "sample": "it is one picture",
    "pan": "its one picture is read before the first frame",
}


@pytest.mark.parametrize("name", registry.sources.names())
def test_a_source_that_breaks_off_keeps_what_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name in SOURCES, f"say in SOURCES how source={name} fails in the middle"
    breaking = SOURCES[name]
    if isinstance(breaking, str):
        pytest.skip(f"source={name} has no middle: {breaking}")
    sink, before = MemorySink(), set(threading.enumerate())
    with (
        pytest.raises(CbsError, match=breaking.names) as raised,
        opened(breaking.make(tmp_path, monkeypatch)) as source,
    ):
        run(source, sink)
    assert "\n" not in str(raised.value)
    assert len(sink.frames) in breaking.kept
    assert sink.calls == ["open", "close False"]
    assert not threads_left(before)


# Sinks.


def seen(path: Path) -> list[int]:
    """Reads an output to its end; returns the marks of its frames, to tell one from another."""
    if path.is_dir():
        files = sorted(path.iterdir())
        assert [file.name for file in files] == [f"{i:06d}.png" for i in range(len(files))]
        return [hash(Image.open(file).tobytes()) for file in files]
    with av.open(str(path)) as media:
        return [hash(frame.to_ndarray().tobytes()) for frame in media.decode(video=0)]


@dataclass(frozen=True)
class Full:
    """A file, and how large it may become."""

    output: str
    size: int
    frames: int
    smooth: int
    kept: range
    params: dict[str, object]


FILES = {
    "image": [Full("out.png", 5000, 1, 0, range(1), {})],
    "folder": [Full("out", 12_000, 8, 5, range(5, 6), {"suffix": ".png"})],
    "video": [
        Full(f"out.{suffix}", size, 110, 30, kept, {"crf": 4, "preset": "ultrafast"})
        for suffix in ("mp4", "mov", "mkv")
        for size, kept in ((4000, range(1)), (220_000, range(24, 100)))
    ]
    + [Full("out.webm", 220_000, 110, 30, range(24, 100), {"crf": 4})],
}
"""Sink -> its files; those that write none are in `LIVE`, where one that failed was sent to."""


@pytest.mark.parametrize(("name", "full"), [(name, full) for name in FILES for full in FILES[name]])
def test_a_disk_that_is_full_keeps_what_is_done(name: str, full: Full, tmp_path: Path) -> None:
    output = tmp_path / full.output
    sink = created("sink", name, path=str(output), **full.params)
    runner = Runner(
        Noise(full.smooth, full.frames), PassingScheduler(), sink, meter=Meter(), timeout_s=60
    )
    with files_up_to(full.size), pytest.raises(CbsError, match="File too large") as raised:
        runner.run()
    line = str(raised.value)
    assert str(output) in line
    assert ".cbs-" not in line
    assert "\n" not in line
    assert runner.kept in full.kept, runner.kept
    assert [path.name for path in tmp_path.iterdir()] == ([output.name] if runner.kept else [])
    if not runner.kept:
        return
    frames = seen(output)
    assert len(frames) == runner.kept
    assert len(set(frames)) == len(frames)
    assert raised.value.__notes__ == [f"the output is closed, with {runner.kept} frames"]


def ndi(patch: pytest.MonkeyPatch) -> Sink:
    from cbs_plugins.sinks import ndi as module

    class Sender(Lost):
        def write_video(self, pixels):
            return self.taken() < 3

    library = SimpleNamespace(
        VideoSendFrame=Lost, AudioSendFrame=Lost, Sender=Sender, FourCC=SimpleNamespace(RGBX=1)
    )
    patch.setattr(module, "library", lambda: library)
    return created("sink", "ndi", path="desk")


class Lost:
    """Stands for anything of a library; ``taken`` counts."""

    def __init__(self, *one: object, **more: object) -> None:
        self.count = 0

    def __getattr__(self, name: str):
        return lambda *one, **more: None

    def taken(self) -> int:
        self.count += 1
        return self.count - 1

    def fail(self, *one: object) -> None:
        if self.taken() == 3:
            raise OSError(32, "Broken pipe")


def virtualcam(patch: pytest.MonkeyPatch) -> Sink:
    import sys

    class Camera(Lost):
        width, height = 96, 64
        send = Lost.fail

    patch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))
    return created("sink", "virtualcam")


def broadcast(patch: pytest.MonkeyPatch) -> Sink:
    class Container(Lost):
        mux = Lost.fail

    def connect(self, info):
        self._container, self._stream = Container(), SimpleNamespace(width=96, height=64)
        self._stream.encode = lambda frame: []

    sink = created("sink", "stream", path="rtmp://me:pass@live.example/app/KEY")
    patch.setattr(type(sink), "_connect", connect)
    return sink


def window(patch: pytest.MonkeyPatch) -> Sink:
    sink = created("sink", "window")

    class Pipe(Lost):
        flush = Lost.fail

    def opened(self, info):
        self._process = SimpleNamespace(
            stdin=Pipe(), poll=lambda: None, wait=lambda timeout=None: 0, kill=lambda: None
        )

    patch.setattr(type(sink), "open", opened)
    return sink


LIVE = {
    "ndi": (ndi, "NDI takes no more frames"),
    "virtualcam": (virtualcam, "the virtual camera is gone"),
    "stream": (broadcast, "'rtmp://live.example/app/...' is lost"),
    "window": (window, "the window is gone"),
}
NOTHING = {"null": "it writes nothing"}


@pytest.mark.parametrize("name", registry.sinks.names())
def test_every_sink_says_how_it_breaks_off(name: str) -> None:
    assert (name in FILES) + (name in LIVE) + (name in NOTHING) == 1, (
        f"say in FILES, LIVE or NOTHING how sink={name} fails in the middle"
    )


@pytest.mark.parametrize("name", LIVE)
def test_a_live_sink_that_breaks_off_is_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, line = LIVE[name]
    meter = Meter()
    with pytest.raises(LostError) as raised:
        run(ClipSource(20), make(monkeypatch), meter=meter)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    assert meter.frames_out == 3
