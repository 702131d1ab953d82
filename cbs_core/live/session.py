"""One evening of ``cbs-live``: builds the studio, serves it, and closes all behind it."""

import ipaddress
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from torch import Tensor

from cbs_core.choose.sections import choice
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import Source
from cbs_core.contract.live import HasSound
from cbs_core.contract.types import StreamInfo
from cbs_core.live import calling
from cbs_core.live.doors import CONNECTIONS, Door
from cbs_core.live.inputs import Inputs
from cbs_core.live.osc import Listening
from cbs_core.live.pictures import fitted
from cbs_core.live.reading import Reading
from cbs_core.live.sending import Sending
from cbs_core.live.server import application
from cbs_core.live.shop import Limits, Opening, Shop
from cbs_core.live.studio import Studio
from cbs_core.live.wish import SIZES
from cbs_core.machine import device as devices
from cbs_core.machine.background import in_short_turns
from cbs_core.run import settings
from cbs_core.run.workers import Worker, opened
from cbs_core.run.workshop import Workshop

MESSAGE = 4 * 2**20
"""Bytes of a WebSocket's message: a frame of a visitor's camera."""

LEAVE = 5.0
"""Seconds that the server may take to end; it waits one second for what is under way."""

Say = Callable[[str], object]

log = logging.getLogger("cbs")


@dataclass(frozen=True, slots=True)
class Served:
    """Where the studio is served, and to whom."""

    host: str
    port: int
    hosts: tuple[str, ...] = ()
    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    proxies: tuple[str, ...] = ()
    """Addresses and networks of reverse proxies that the owner vouches for."""

    @property
    def private(self) -> bool:
        """Whether this machine alone can reach it."""
        return is_loopback(self.host)

    def names(self) -> set[str]:
        """Returns the names and addresses by which visitors may call it."""
        own = {"localhost", "127.0.0.1", "::1", *self.hosts}
        if self.private:
            return own
        name = socket.gethostname()
        own |= {self.host, name, f"{name}.local"}
        with suppress(ValueError):
            if ipaddress.ip_address(self.host).is_unspecified:
                own |= {
                    address.address.partition("%")[0]
                    for addresses in psutil.net_if_addrs().values()
                    for address in addresses
                    if address.family in (socket.AF_INET, socket.AF_INET6)
                }
        return own


def is_loopback(host: str) -> bool:
    """Tells whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _leads_here(host: str) -> bool:
    """Tells whether other machines' browsers come here by a name or an address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    # Of a link's own addresses each machine must say which link, which no browser takes.
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def live_session(config: Mapping[str, object], *, run_folder: Path, say: Say) -> None:
    """Serves the studio until Ctrl-C.

    Args:
        config: composed, resolved to plain values (``conf/live.yaml``).
        run_folder: where recordings go, if the configuration names no folder.
        say: tells the user a line.

    Raises:
        CbsError: whatever a user can mend.
    """
    look = settings.look(config)
    outputs = settings.outputs(config)
    served = _served(config)
    size = _whole(config, "size", *SIZES)
    asked = config.get("target_fps")
    target_fps = None if asked is None else _whole(config, "target_fps", 1, 120)
    osc = None if config.get("osc") is None else _whole(config, "osc", 1, 65535)
    styles = _names(config, "styles")
    limits = Limits(watchers=_whole(config, "watchers", 1, 1000))
    cameras = _whole(config, "cameras", 0, 100)
    given = config.get("input")
    inputs = Inputs(choice(config.get("source"), "source"), str(given) if given else None)
    folder = Path(str(config.get("recordings") or run_folder)).expanduser()
    device = devices.choose(str(config.get("device")))
    workshop = Workshop(device.device, devices.dtype(str(config.get("precision")), device.device))
    opening = Opening()
    opening.told = f"{device.device} ({device.name}): preparing the nets"
    with in_short_turns(), _served_at(opening, served, say) as serving, ExitStack() as ending:
        say(opening.told)
        pixels, info, sounds = _first(inputs, size)
        studio = Studio(
            look, workshop, size=size, styles=styles, target_fps=target_fps, feeds=cameras
        )
        ending.callback(studio.close)
        studio.prepare(look, pixels)
        if outputs:
            sending = Sending(studio.main, outputs, info, look, run_folder, sounds=sounds)
            ending.callback(sending.close)
        if osc is not None:
            ending.callback(Listening(studio, osc).close)
        reading = Reading(studio, inputs)
        shop = Shop(studio, folder, limits, inputs=inputs, reopen=reading.again)
        ending.callback(shop.close)
        ending.callback(reading.close)
        studio.start()
        reading.start()
        opening.shop = shop
        if not calling.THERE:
            say(f"visitors' cameras go by WebSocket; {calling.MISSING}")
        say("the studio is open (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            while not serving.wait(1):
                pass


@contextmanager
def _served_at(opening: Opening, served: Served, say: Say) -> Iterator[Worker]:
    """Serves in a thread of its own, at once: what takes long is got ready meanwhile."""
    with _listen(served) as listening:
        server = _server(opening, served)
        worker = Worker(lambda: server.run(sockets=[listening]), "cbs-live-server")
        worker.start()
        try:
            for line in addresses(served, listening.getsockname()[1]):
                say(line)
            yield worker
        finally:
            server.should_exit = True
            if not worker.wait(LEAVE):
                log.warning("the server does not end; its thread is left")


def addresses(served: Served, port: int) -> list[str]:
    """Returns the lines that tell a visitor where to look."""
    scheme = "https" if served.certificate else "http"
    shown = "127.0.0.1" if served.host in ("0.0.0.0", "::") else served.host
    shown = f"[{shown}]" if ":" in shown else shown
    token = f"?token={served.token}" if served.token else ""
    lines = [f"the studio is at {scheme}://{shown}:{port}/{token}"]
    if not served.private:
        others = sorted(one for one in served.names() - {shown, "localhost"} if _leads_here(one))
        there = [f"[{one}]" if ":" in one else one for one in others]
        lines += [f"from other machines: {scheme}://{one}:{port}/{token}" for one in there[:4]]
        if not served.certificate:
            lines.append(
                "without certificate= and key= other machines' browsers show this server's "
                "pictures but give no camera of their own, and anybody between may look on"
            )
    return lines


def _server(opening: Opening, served: Served) -> uvicorn.Server:
    app = application(opening, hosts=served.names(), token=served.token)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        log_level="warning",
        lifespan="on",
        http=Door,
        ws="websockets-sansio",
        ws_max_size=MESSAGE,
        ws_max_queue=4,
        ws_per_message_deflate=False,  # JPEG gets no smaller
        proxy_headers=bool(served.proxies),
        forwarded_allow_ips=[*served.proxies],
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
        ssl_certfile=served.certificate,
        ssl_keyfile=served.key,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"certificate= and key= cannot be read ({error}): give a PEM file of each, which "
            "belong together, without a password"
        ) from error
    return uvicorn.Server(config)


def _listen(served: Served) -> socket.socket:
    family = socket.AF_INET6 if ":" in served.host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((served.host, served.port))
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot serve at {served.host}:{served.port} ({error.strerror}): say port=OTHER (0: "
            "any free one), or another host="
        ) from error
    return listening


def _first(create: Callable[[], Source], size: int) -> tuple[Tensor, StreamInfo, bool]:
    """Returns a live picture; what they are like; and whether there is sound beside them."""
    with opened(create()) as source:
        raw, info = next(iter(source), None), source.info
        sounds = isinstance(source, HasSound) and source.sounds
    if raw is None:
        raise ConfigError("the input holds no frame: choose another")
    pixels = fitted(raw.pixels, size)
    height, width = pixels.shape[:2]
    told = StreamInfo(width, height, rate=info.rate, live=True, name=info.name)
    return pixels, told, sounds


def _served(config: Mapping[str, object]) -> Served:
    host = str(config.get("host"))
    token = config.get("token")
    certificate, key = config.get("certificate"), config.get("key")
    if bool(certificate) != bool(key):
        raise ConfigError("certificate= and key= go together: name both files, or neither")
    pair = [Path(str(file)).expanduser() for file in (certificate, key) if file]
    for file in (certificate, key):
        if file and not Path(str(file)).expanduser().is_file():
            raise ConfigError(f"there is no file '{file}': check certificate= and key=")
    if token is not None and (len(str(token)) < 8 or not str(token).isascii()):
        raise ConfigError("token= needs at least 8 letters and digits, or leave it out")
    proxies = _networks(config, "proxies")
    if token is None and (proxies or not is_loopback(host)):
        token = secrets.token_urlsafe(16)
    return Served(
        host,
        _whole(config, "port", 0, 65535),
        tuple(_names(config, "hosts") or ()),
        None if token is None else str(token),
        certificate=str(pair[0]) if pair else None,
        key=str(pair[1]) if pair else None,
        proxies=proxies,
    )


def _networks(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    names = _names(config, key) or []
    for name in names:
        try:
            ipaddress.ip_network(name)
        except ValueError as error:
            raise ConfigError(
                f"{key}: '{name}' is no address: say {key}=[127.0.0.1], or a network, 10.0.0.0/24"
            ) from error
    return tuple(names)


def _whole(config: Mapping[str, object], key: str, low: int, high: int) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{key}={value} is no whole number in {low}..{high}")
    return value


def _names(config: Mapping[str, object], key: str) -> list[str] | None:
    value = config.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError(f"{key}={value} is no list: say {key}=[A,B]")
    return [str(one) for one in value]
