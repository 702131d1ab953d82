"""A camera that OBS, Zoom and browsers see, by pyvirtualcam (extra ``[virtualcam]``, GPL)."""

import sys
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from cbs_core.contract.errors import SinkError, SinkLostError
from cbs_core.contract.types import RawFrame, StreamInfo

INSTALL = "pip install 'class-based-styling[virtualcam]'"

STEPS = {
    "linux": (
        "sudo apt install v4l2loopback-dkms, then "
        "sudo modprobe v4l2loopback exclusive_caps=1 card_label=CBS"
    ),
    "darwin": "install OBS 30 or newer, start its virtual camera once and stop it",
    "win32": "install OBS and start its virtual camera once",
}
"""`sys.platform` -> how a virtual camera comes to be there."""


class VirtualCameraSink:
    """Sends frames to a virtual camera, at the size of the first.

    Args:
        path: the device, ``/dev/video4`` or its name; None or empty: the first that is free.

    Raises:
        SinkError: there is no virtual camera here.
        SinkLostError: it is gone.
    """

    live = True

    def __init__(self, path: str | None = None) -> None:
        self.device = None if path in (None, "", "virtualcam") else path
        self._camera: Any = None
        self._convert = VideoReformatter()

    def open(self, info: StreamInfo, /) -> None:
        """Takes the camera."""
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError(
                f"virtual cameras are fed by pyvirtualcam, which is not installed: {INSTALL}"
            ) from error
        try:
            self._camera = pyvirtualcam.Camera(
                info.width, info.height, float(info.rate), device=self.device
            )
        except RuntimeError as error:
            steps = STEPS.get(sys.platform, "see pyvirtualcam's documentation")
            line = " ".join(str(error).split()).partition(" Did you")[0].rstrip(".")
            raise SinkError(f"no virtual camera ({line}): {steps}") from error

    def write(self, frame: RawFrame, /) -> None:
        """Sends a frame."""
        pixels = np.ascontiguousarray(frame.pixels.cpu().numpy())
        size = self._camera.width, self._camera.height
        if pixels.shape[1::-1] != size:
            scaled = self._convert.reformat(VideoFrame.from_ndarray(pixels, format="rgb24"), *size)
            pixels = scaled.to_ndarray()
        try:
            self._camera.send(pixels)
        except (RuntimeError, OSError) as error:
            raise SinkLostError(f"the virtual camera is gone ({error})") from error

    def close(self, *, complete: bool = True) -> None:
        """Gives the camera back."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def abort(self) -> None:
        """Gives the camera back."""
        self.close(complete=False)
