"""Whether cameras, screens, windows, virtual cameras and NDI are there."""

from collections.abc import Iterator
from importlib.util import find_spec

from cbs_core.contract.errors import CbsError
from cbs_core.contract.extensions import NOTE, OK, Finding
from cbs_core.contract.types import StreamInfo
from cbs_plugins.formats import devices
from cbs_plugins.sinks import ndi
from cbs_plugins.sinks.virtualcam import VirtualCameraSink
from cbs_plugins.sources.screen import ScreenSource


def live() -> Iterator[Finding]:
    """Yields a finding for cameras, the screen, windows, the virtual camera and NDI."""
    yield _cameras()
    try:
        with ScreenSource() as screen:
            size = f"{screen.info.width}x{screen.info.height}"
        yield Finding(OK, "screen", f"input=screen reads the first monitor, {size}")
    except CbsError as error:
        yield Finding(NOTE, "screen", str(error))
    if find_spec("tkinter") is None:
        yield Finding(NOTE, "window", "this Python has no tkinter: apt install python3-tk")
    else:
        yield Finding(OK, "window", "tkinter is there, for output=window")
    sink = VirtualCameraSink()
    try:
        sink.open(StreamInfo(640, 360))
        yield Finding(OK, "virtualcam", "output=virtualcam has one that is free")
    except CbsError as error:
        yield Finding(NOTE, "virtualcam", str(error))
    finally:
        sink.close()
    yield _ndi()


def _ndi() -> Finding:
    try:
        version = ndi.library().ndi_version
    except CbsError as error:
        return Finding(NOTE, "ndi", str(error))
    if unseen := ndi.hidden():
        return Finding(NOTE, "ndi", unseen)
    return Finding(OK, "ndi", f"output=ndi sends by {version}")


def _cameras() -> Finding:
    try:
        found = devices.cameras()
    except CbsError as error:
        return Finding(NOTE, "camera", str(error))
    if not found:
        return Finding(NOTE, "camera", "none is found: connect one, or allow its use")
    return Finding(OK, "camera", ", ".join(f"{at} {one.name}" for at, one in enumerate(found)))
