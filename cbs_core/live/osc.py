"""What VJs' programs say by Open Sound Control, turned into changes of the live picture.

``/cbs/style/person wave``, ``/cbs/strength/person 0.5``, ``/cbs/keep_color/person 1``, and any
other field of a look: ``/cbs/segment_every 3``, ``/cbs/compositor feather``. Spaces of a class'
name are written as ``_``. OSC knows no token, so that this machine alone is listened to.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import fields

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.frame.routes import NONE
from cbs_core.live.studio import Studio
from cbs_core.live.wish import BOUNDS, SHARES, Catalog, Paint, Wish
from cbs_core.run.workers import PATIENCE, Worker

HOST = "127.0.0.1"

FLAGS = ("steady", "keep_color")

log = logging.getLogger("cbs")


def change(address: str, values: tuple[object, ...], catalog: Catalog) -> Mapping[str, object]:
    """Returns a message as `Wish.changed` takes it.

    Args:
        address: ``/cbs/strength/person``.
        values: the message's, of which there is one.
        catalog: what there is to choose from.

    Raises:
        ConfigError: an address that is none, or another number of values.

    Example:
        >>> change("/cbs/strength/car", (0.5,), Catalog(("car",), {}, ()))
        {'routes': {'car': {'strength': 0.5}}}
    """
    said = address.strip("/").split("/")
    paints = [one.name for one in fields(Paint)]
    known = [*paints, *(one.name for one in fields(Wish) if one.name not in ("routes", "only"))]
    if said[0] != "cbs" or len(said) < 2 or said[1] not in known or len(values) != 1:
        shown = said[1][:40] if len(said) > 1 else ""
        raise ConfigError(f"say /cbs/KEY VALUE or /cbs/KEY/CLASS VALUE{closest(shown, known)}")
    key, value = said[1], _value(said[1], values[0])
    if (key in paints) != (len(said) == 3):
        raise ConfigError(f"say /cbs/{key}{'/CLASS' if key in paints else ''} VALUE")
    if key not in paints:
        return {key: value}
    name = next((one for one in catalog.classes if one.replace(" ", "_") == said[2]), said[2])
    if key == "style" and value in ("", NONE):
        return {"routes": {name: None}}
    return {"routes": {name: {key: value}}}


def _value(key: str, value: object) -> object:
    """Returns a value as JSON would have it: faders and buttons send numbers for all."""
    if key in FLAGS and isinstance(value, int | float):
        return bool(value)
    whole = key in BOUNDS and key not in SHARES
    if whole and isinstance(value, float) and math.isfinite(value):
        return round(value)
    return value


class Listening:
    """Changes the main feed as it is told, until it is closed.

    Args:
        studio: whose main feed.
        port: of UDP, on this machine's own address.

    Raises:
        ConfigError: python-osc is missing, or the port is taken.
    """

    def __init__(self, studio: Studio, port: int) -> None:
        try:
            from pythonosc.dispatcher import Dispatcher
            from pythonosc.osc_server import BlockingOSCUDPServer
        except ImportError as error:
            raise ConfigError(
                "osc= needs python-osc: pip install 'class-based-styling[osc]'"
            ) from error
        self._studio = studio
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(self._heard)
        try:
            self._server = BlockingOSCUDPServer((HOST, port), dispatcher)
        except OSError as error:
            raise ConfigError(
                f"osc={port}: UDP port {port} cannot be listened to ({error.strerror}): say "
                "osc=OTHER"
            ) from error
        self.port: int = self._server.server_address[1]
        self._worker = Worker(self._server.serve_forever, "cbs-osc")
        self._worker.start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._worker.wait(PATIENCE)
        self._server.server_close()

    def _heard(self, address: str, *values: object) -> None:
        try:
            self._studio.change(self._studio.main, change(address, values, self._studio.catalog))
        except ConfigError as error:
            log.warning("OSC %s: %s", address[:80], error)
