"""A sender that receivers of NDI® see (OBS, vMix, TouchDesigner), by cyndilib (extra ``[ndi]``)."""

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from cbs_core.contract.errors import SinkError, SinkLostError
from cbs_core.contract.types import RawFrame, StreamInfo

INSTALL = "pip install 'class-based-styling[ndi]'"

FINDER = Path("/run/avahi-daemon/socket")
"""There where Avahi runs, by which NDI is found on Linux; other systems need nothing more."""

FREE = 1001
"""The largest denominator of a rate, as in 30000/1001; NDI takes numbers of 32 bits."""


class NDISink:
    """Sends frames to whoever receives them by NDI, at the size of the first; without sound.

    Args:
        path: the sender's name, which receivers show after the machine's, ``HOST (NAME)``; None or
            empty: ``CBS``.

    Raises:
        SinkError: NDI is not installed, or does not take the name.
        SinkLostError: it takes no more frames.
    """

    live = True

    def __init__(self, path: str | None = None) -> None:
        self.name = "CBS" if path in (None, "", "ndi") else path
        self.notes: tuple[str, ...] = ()
        self._size = (0, 0)
        self._sender: Any = None
        self._convert = VideoReformatter()

    def open(self, info: StreamInfo, /) -> None:
        """Comes up among the senders of the network."""
        ndi = library()
        frame = ndi.VideoSendFrame()
        frame.set_resolution(info.width, info.height)
        frame.set_frame_rate(info.rate.limit_denominator(FREE))
        frame.set_fourcc(ndi.FourCC.RGBX)
        # The runner says when a frame is due: NDI's clock would hold it up once more.
        sender = ndi.Sender(self.name, clock_video=False)
        sender.set_video_frame(frame)
        # Never sent. Where there is none, cyndilib 0.1.3 dies of a name that NDI refuses.
        sender.set_audio_frame(ndi.AudioSendFrame())
        try:
            with redirect_stdout(io.StringIO()):  # it prints its error, too
                sender.open()
        except MemoryError as error:
            raise SinkError(
                f"NDI does not take the name '{self.name}': another sender of this machine has it, "
                "or it is too long; say output=ndi:NAME"
            ) from error
        self._sender, self._size = sender, (info.width, info.height)
        self.notes = tuple(filter(None, [hidden()]))

    def write(self, frame: RawFrame, /) -> None:
        """Sends a frame; where nobody receives it, that costs nothing."""
        picture = VideoFrame.from_ndarray(frame.pixels.cpu().contiguous().numpy(), format="rgb24")
        picture = self._convert.reformat(picture, *self._size, format="rgba")
        if not self._sender.write_video(picture.to_ndarray().reshape(-1)):
            raise SinkLostError("NDI takes no more frames")

    def close(self, *, complete: bool = True) -> None:
        """Leaves the network."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def abort(self) -> None:
        """Leaves the network."""
        self.close(complete=False)


def library() -> Any:
    """Returns cyndilib, which has NDI's runtime in it.

    Raises:
        SinkError: it is not installed, or cannot be loaded.
    """
    try:
        import cyndilib
    except ModuleNotFoundError as error:
        raise SinkError(f"NDI is sent by cyndilib, which is not installed: {INSTALL}") from error
    except (ImportError, OSError) as error:
        line = " ".join(str(error).split())
        raise SinkError(
            f"NDI's runtime cannot be loaded ({line}): pip install --force-reinstall cyndilib"
        ) from error
    return cyndilib


def hidden() -> str:
    """Returns why receivers will not find a sender by themselves; empty where they will."""
    folder = os.environ.get("NDI_CONFIG_DIR") or Path.home() / ".ndi"
    configured = Path(folder, "ndi-config.v1.json").exists()
    if not sys.platform.startswith("linux") or FINDER.exists() or configured:
        return ""
    return (
        "NDI's receivers do not find this machine by themselves, as Avahi does not run on it: "
        "sudo apt install avahi-daemon, or give them its address"
    )
