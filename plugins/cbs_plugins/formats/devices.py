"""Cameras, as FFmpeg's own input devices name them: v4l2, AVFoundation, DirectShow."""

import sys
from dataclasses import dataclass

import av
from av.container import InputContainer

from cbs_core.contract.errors import SourceError, closest

FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""`sys.platform` -> FFmpeg's input device."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One that is connected."""

    address: str
    """What FFmpeg opens."""

    name: str
    """As the system calls it."""


def device_format() -> str:
    """Returns FFmpeg's input device for cameras here.

    Raises:
        SourceError: there is none for this system.
    """
    name = FORMATS.get(sys.platform)
    if name is None or not any(name in one.split(",") for one in av.formats_available):
        raise SourceError(f"cameras cannot be read on {sys.platform} by this PyAV: use a stream")
    return name


def cameras() -> list[Camera]:
    """Returns the cameras that are connected, in the system's order.

    Raises:
        SourceError: this system's cannot be listed.
    """
    kind = device_format()
    try:
        found = av.enumerate_input_devices(kind)
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"the cameras cannot be listed: {error}") from error
    return [
        Camera(f"video={one.name}" if kind == "dshow" else one.name, one.description or one.name)
        for one in found
        if "video" in one.media_types and not one.description.startswith("Capture screen")
    ]


def chosen(word: str) -> Camera:
    """Returns a camera by its number from 0, a part of its name, or its address.

    Args:
        word: ``1``, ``logitech``, ``/dev/video2``; empty is the first.

    Raises:
        SourceError: there is none such, or several.
    """
    if word.startswith("/dev/"):
        return Camera(word, word)
    found = cameras()
    names = ", ".join(f"{place} {one.name}" for place, one in enumerate(found))
    if not found:
        raise SourceError(
            "no camera is found: connect one, and see whether this user may read it "
            "(`cbs-doctor` lists cameras)"
        )
    if not word or word.isdecimal():
        place = int(word or 0)
        if place >= len(found):
            raise SourceError(f"no camera {place}: there are {names}")
        return found[place]
    named = [one for one in found if word.casefold() in one.name.casefold()]
    if not named:
        hint = closest(word, [one.name for one in found])
        raise SourceError(f"no camera is named '{word}'{hint} (there are: {names})")
    exact = [one for one in named if one.name.casefold() == word.casefold()]
    if len(exact or named) > 1:
        raise SourceError(f"'{word}' names several cameras: say its number ({names})")
    return (exact or named)[0]


def open_camera(camera: Camera, options: dict[str, str], *, timeout: float) -> InputContainer:
    """Opens a camera with FFmpeg's options; raises as `av.open` does."""
    return av.open(
        camera.address, format=device_format(), options=options, timeout=(timeout, timeout)
    )
