"""A desk with two cameras, which FFmpeg's test picture stands in for."""

import av
import pytest
from cbs_plugins.formats import devices, feed
from cbs_plugins.formats.devices import Camera

DESK, WALL = Camera("/dev/desk", "Desk Cam"), Camera("/dev/wall", "Wall Cam")
PICTURE = "testsrc=size=96x64:rate=50,realtime"


class Device:
    """What `av.open` returns of a camera: FFmpeg's test picture, and then trouble.

    Args:
        count: packets that it gives; None: without end.
        trouble: raised then; `BlockingIOError`, which is "none yet", again and again.
    """

    duration = None

    def __init__(self, count=None, trouble=None):
        self.container = av.open(PICTURE, format="lavfi")
        self.count, self.trouble = count, trouble
        self.streams = self.container.streams
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closed = True
        self.container.close()

    def demux(self, stream):
        while self.count is None or self.count > 0:
            if self.count is not None:
                self.count -= 1
            yield next(self.container.demux(stream))
        raise self.trouble


class Desk:
    """Opens cameras: ``devices`` are given one after the other, and then whole ones."""

    def __init__(self):
        self.devices, self.asked = [], []

    def open(self, camera, options, *, timeout):
        self.asked.append((camera, options))
        device = self.devices.pop(0) if self.devices else Device()
        if isinstance(device, Exception):
            raise device
        return device


def connected(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Has the system's cameras be these two."""
    desk = Desk()
    monkeypatch.setattr(devices, "device_format", lambda: "v4l2")
    monkeypatch.setattr(devices, "cameras", lambda: [DESK, WALL])
    monkeypatch.setattr(devices, "open_camera", desk.open)
    monkeypatch.setattr(feed, "PAUSES", (0.05,))
    return desk
