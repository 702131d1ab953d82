"""A stream from the network, read by FFmpeg through PyAV: RTSP, RTMP, HTTP, HLS, UDP."""

from typing import Literal

import av
from av.container import InputContainer

from cbs_core.contract.errors import SourceError
from cbs_core.machine.addresses import shown
from cbs_plugins.formats.feed import Feed, FeedSource
from cbs_plugins.formats.files import reason

PROTOCOLS = (
    *("http", "https", "httpproxy", "tcp", "tls", "crypto", "udp", "rtp", "srtp", "rtsp"),
    *("rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte", "rtmpts", "ffrtmphttp", "ffrtmpcrypt", "srt"),
)
"""What an address may lead to. Not ``file``: a stranger's playlist reads nothing here."""

Transport = Literal["tcp", "udp"]


class StreamSource(FeedSource):
    """Gives a stream's newest frame; opens it again, with growing pauses, where it breaks off.

    What has an end, such as a film on a web server, gives every frame, and ends the run.

    Args:
        path: the address: ``rtsp://``, ``rtmp://``, ``http(s)://`` (a film, Motion JPEG, HLS),
            ``udp://``.
        transport: of RTSP: ``tcp`` loses nothing, ``udp`` is a little sooner.
        open_s: seconds that opening may take.
        patience_s: seconds without a frame after which it is opened again.
        reconnect: whether to.

    Raises:
        SourceError: it cannot be opened.
        SourceLostError: it broke off, and ``reconnect`` is false.
    """

    def __init__(
        self,
        path: str,
        transport: Transport = "tcp",
        open_s: float = 10,
        patience_s: float = 5,
        reconnect: bool = True,
    ) -> None:
        super().__init__()
        if "://" not in path:
            raise SourceError(f"'{path}' is no address: give rtsp://..., http://... or udp://...")
        if not open_s > 0 or not patience_s > 0:
            raise SourceError("source.open_s and source.patience_s are seconds above 0")
        self.path = path
        self.transport = transport
        self.open_s = open_s
        self.patience_s = patience_s
        self.reconnect = reconnect

    def feed(self) -> Feed:
        """Returns the stream's frames."""
        name = f"stream '{shown(self.path)}'"
        return Feed(self._connect, name, patience_s=self.patience_s, reconnect=self.reconnect)

    def _connect(self) -> InputContainer:
        # Without FFmpeg's nobuffer, which throws away what it read to know the stream: its first
        # key frame. That burst is over at once, and the newest frame is what is held.
        options = {"protocol_whitelist": ",".join(PROTOCOLS)}
        if self.path.lower().startswith("rtsp"):
            options["rtsp_transport"] = self.transport
        try:
            return av.open(
                self.path,
                container_options=options,
                metadata_errors="replace",
                timeout=(self.open_s, self.patience_s),
            )
        except av.ProtocolNotFoundError as error:
            raise SourceError(
                f"this PyAV reads no {self.path.partition('://')[0]}://: use another protocol, or "
                "build PyAV against an FFmpeg that has it"
            ) from error
        except av.ExitError as error:
            raise SourceError(
                f"'{shown(self.path)}' did not answer in {self.open_s:g} s: see whether the "
                "address is right and the server is on; source.open_s=SECONDS waits longer"
            ) from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"'{shown(self.path)}' cannot be opened ({reason(error)}): see whether the address "
                "is right and the server is on"
            ) from error
