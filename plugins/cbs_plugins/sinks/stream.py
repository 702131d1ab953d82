"""A broadcast, encoded by FFmpeg through PyAV: RTMP, RTSP, SRT, UDP."""

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cbs_core.contract.errors import SinkError, SinkLostError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.addresses import shown
from cbs_core.run.workers import Worker
from cbs_plugins.formats.files import reason
from cbs_plugins.formats.hearing import Spoken

FORMATS = {
    **dict.fromkeys(["rtmp", "rtmps", "rtmpt"], "flv"),
    **dict.fromkeys(["rtsp", "rtsps"], "rtsp"),
    **dict.fromkeys(["srt", "udp", "tcp"], "mpegts"),
    "rtp": "rtp_mpegts",
}
"""Scheme of an address -> the container that is sent there."""

TICK = Fraction(1, 90_000)
"""Seconds: the clock of MPEG transport streams and of RTP."""

KEY_SECONDS = 2
"""Between two key frames, as broadcasters ask for: a viewer who joins waits so long at most."""

WAIT_S = 10
"""Seconds that a server may take to answer, or to take a frame."""


class StreamSink:
    """Sends H.264 to a server or a player, each frame at the time of its capture.

    Where sound comes beside the frames (`StreamInfo.sound`) it is sent as AAC.

    Args:
        path: the address: ``rtmp://SERVER/APP/KEY``, ``rtsp://``, ``srt://``, ``udp://HOST:PORT``.
        bitrate: bits a second; broadcasters name theirs.
        preset: speed of x264.
        audio: whether to send the sound.

    Raises:
        SinkError: no such address, or nobody answers there.
        SinkLostError: the server left.
    """

    live = True

    def __init__(
        self,
        path: str,
        bitrate: int = 4_000_000,
        preset: str = "veryfast",
        audio: bool = True,
    ) -> None:
        scheme = path.partition("://")[0].lower()
        if scheme not in FORMATS or "://" not in path:
            known = ", ".join(f"{one}://" for one in FORMATS)
            raise SinkError(f"'{shown(path)}' is no address to send to: give one of {known}")
        if not 10_000 <= bitrate <= 10**9:
            raise SinkError(f"sink.bitrate={bitrate} is outside of 10000 to 10^9 bits a second")
        self.path = path
        self.format = FORMATS[scheme]
        self.bitrate = bitrate
        self.preset = preset
        self.audio = audio
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._spoken: Spoken | None = None
        self._first: Fraction | None = None
        self._last = -1
        self._convert = VideoReformatter()

    def open(self, info: StreamInfo, /) -> None:
        """Connects, in a thread of its own, so that Ctrl-C is heard."""
        failed: list[BaseException] = []

        def work() -> None:
            try:
                self._connect(info)
            except BaseException as error:
                failed.append(error)

        connecting = Worker(work, "cbs-connect", self)
        connecting.start()
        connecting.wait()
        if failed:
            raise failed[0]

    def _connect(self, info: StreamInfo) -> None:
        # Microseconds: without it a server that is not there holds a run for minutes.
        options = {"rw_timeout": str(WAIT_S * 1_000_000)}
        if self.format == "rtsp":
            options = {"rtsp_transport": "tcp"}
        try:
            container = av.open(self.path, "w", format=self.format, container_options=options)
            stream = container.add_stream("libx264", rate=round(info.rate) or 1)
            # Sides are even, as 4:2:0 wants them.
            stream.width, stream.height = info.width // 2 * 2, info.height // 2 * 2
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = self.bitrate
            stream.gop_size = max(1, round(info.rate * KEY_SECONDS))
            stream.codec_context.time_base = TICK
            # No frame waits in the encoder for those after it.
            stream.options = {"preset": self.preset, "tune": "zerolatency"}
            if info.sound is not None and self.audio:
                self._spoken = Spoken(container, "", info.sound())
            container.start_encoding()
        except av.ProtocolNotFoundError as error:
            scheme = self.path.partition("://")[0]
            raise SinkError(
                f"this PyAV sends no {scheme}://: use another protocol, or build PyAV against an "
                "FFmpeg that has it"
            ) from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(
                f"'{shown(self.path)}' does not answer ({reason(error)}): see whether the address "
                "and the key are right, and the server is on"
            ) from error
        self._container, self._stream = container, stream

    def write(self, frame: RawFrame, /) -> None:
        """Encodes and sends a frame."""
        assert self._container is not None
        assert self._stream is not None
        if self._first is None:
            self._first = frame.pts
        picture = VideoFrame.from_ndarray(
            np.ascontiguousarray(frame.pixels.cpu().numpy()), format="rgb24"
        )
        picture = self._convert.reformat(
            picture, self._stream.width, self._stream.height, format="yuv420p"
        )
        self._last = max(round((frame.pts - self._first) / TICK), self._last + 1)
        picture.pts, picture.time_base = self._last, TICK
        try:
            self._container.mux(self._stream.encode(picture))
            self._speak(frame.pts - self._first)
        except (av.FFmpegError, OSError) as error:
            raise SinkLostError(f"'{shown(self.path)}' is lost: {reason(error)}") from error

    def _speak(self, end: Fraction | None) -> None:
        """Sends what was heard up to then; None: the last of it."""
        assert self._container is not None
        if self._spoken is not None:
            for packet in self._spoken.until(end):
                self._container.mux_one(packet)

    def close(self, *, complete: bool = True) -> None:
        """Says goodbye, where the server still listens."""
        container = self._container
        if container is None:
            return
        with suppress(av.FFmpegError, OSError):
            assert self._stream is not None
            container.mux(self._stream.encode(None))
            self._speak(None)
        self._container = self._spoken = None
        with suppress(av.FFmpegError, OSError):
            container.close()

    def abort(self) -> None:
        """Hangs up; what was sent is sent."""
        self.close(complete=False)
