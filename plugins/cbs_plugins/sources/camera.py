"""A camera, read by FFmpeg's own input devices through PyAV: nothing more is to be installed."""

import re
from fractions import Fraction

import av
from av.container import InputContainer

from cbs_core.contract.errors import SourceError
from cbs_plugins.formats import devices
from cbs_plugins.formats.devices import Camera
from cbs_plugins.formats.feed import NONBLOCK, Feed, FeedSource
from cbs_plugins.formats.files import reason

OPENING = 10.0
"""Seconds that a camera may take to give its first frame."""


class CameraSource(FeedSource):
    """Gives a camera's newest frame, with its time of capture.

    Size and rate are asked for; a camera gives the nearest it has, and ``info.notes`` tells what.
    Motion JPEG is asked for first: many cameras give large pictures at 30 a second in that alone.
    One that stalls or is pulled out is opened again until it is back.

    Args:
        path: ``1``, its number from 0; ``logitech``, a part of its name; ``/dev/video2``; None or
            empty: the first.
        size: ``1280x720``, as asked for; None: as the camera likes.
        rate: frames a second, as asked for; None: as the camera likes.
        mjpg: whether to ask for Motion JPEG.
        patience_s: seconds without a frame after which it is opened again.
        reconnect: whether to wait for a camera that was lost.

    Raises:
        SourceError: no such camera, or it cannot be opened; the size or rate is none.
        SourceLostError: it was lost, and ``reconnect`` is false.
    """

    sizes = ("640x480", "1280x720", "1920x1080")
    """That are offered where one chooses; a camera gives the nearest it has."""

    @staticmethod
    def devices() -> list[str]:
        """Returns the names of the cameras that are connected; of two alike, their numbers.

        Raises:
            SourceError: they cannot be listed.
        """
        names = [one.name for one in devices.cameras()]
        return [name if names.count(name) == 1 else str(place) for place, name in enumerate(names)]

    def __init__(
        self,
        path: str | int | None = None,
        size: str | None = "1280x720",
        rate: float | None = 30,
        mjpg: bool = True,
        patience_s: float = 5,
        reconnect: bool = True,
    ) -> None:
        super().__init__()
        if size is not None and not re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", str(size)):
            raise SourceError(f"source.size={size} is no size: give 1280x720")
        if rate is not None and not 0 < rate <= 1000:
            raise SourceError(f"source.rate={rate:g} is outside 0..1000 frames a second")
        if not patience_s > 0:
            raise SourceError(f"source.patience_s={patience_s:g} is not above 0")
        word = "" if path is None else str(path)
        self.word = "" if word == "camera" else word
        self.size = size
        self.rate = rate
        self.mjpg = mjpg
        self.patience_s = patience_s
        self.reconnect = reconnect

    def feed(self) -> Feed:
        """Returns the camera's frames."""
        name = devices.chosen(self.word).name
        return Feed(
            self._connect,
            f"camera '{name}'",
            patience_s=self.patience_s,
            reconnect=self.reconnect,
        )

    def remarks(self, width: int, height: int) -> tuple[str, ...]:
        """Returns what the camera gives, and what was asked for where that is another."""
        assert self._feed is not None
        given = f"{width}x{height} at {float(self._feed.rate):g} FPS ({self._feed.codec})"
        asked = ""
        other_rate = self.rate is not None and abs(float(self._feed.rate) - self.rate) > 0.5
        if self.size not in (None, f"{width}x{height}") or other_rate:
            rate = "any" if self.rate is None else f"{self.rate:g}"
            asked = f"; asked for were {self.size or 'any size'} at {rate} FPS"
        return (f"{self._feed.name} gives {given}{asked}",)

    def _connect(self) -> InputContainer:
        # By its name again: one that was pulled out may come back at another address.
        camera = devices.chosen(self.word)
        wishes = self._wishes()
        for options in wishes:
            try:
                return devices.open_camera(camera, options, timeout=OPENING)
            except (FileNotFoundError, PermissionError) as error:
                raise SourceError(_refused(camera, error)) from error
            except (av.FFmpegError, OSError, ValueError) as error:
                if options is wishes[-1] or "busy" in str(error).lower():
                    raise SourceError(_refused(camera, error)) from error
        raise AssertionError

    def _wishes(self) -> list[dict[str, str]]:
        """Returns FFmpeg's options, the most that is asked for first."""
        base = {"fflags": NONBLOCK}
        format_ = devices.device_format()
        if format_ == "avfoundation":
            base["pixel_format"] = "nv12"
        sized = dict(base)
        if self.size is not None:
            sized["video_size"] = str(self.size)
        if self.rate is not None:
            rate = Fraction(self.rate).limit_denominator(1001)
            sized["framerate"] = str(rate)
        wishes = [sized, {k: v for k, v in sized.items() if k != "framerate"}, base]
        coded = {"v4l2": "input_format", "dshow": "vcodec"}.get(format_)
        if self.mjpg and coded:
            wishes.insert(0, {**sized, coded: "mjpeg"})
        return [one for at, one in enumerate(wishes) if one not in wishes[:at]]


def _refused(camera: Camera, error: Exception) -> str:
    line = f"the camera '{camera.name}' cannot be opened ({reason(error)})"
    if isinstance(error, PermissionError):
        return f"{line}: allow this program, or this user, to use the camera"
    if "busy" in str(error).lower():
        return f"{line}: close the program that uses it"
    return f"{line}: see whether it is connected, and used by no other program"
