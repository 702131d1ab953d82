"""The server's own source, and what visitors may choose of it: another camera, another size.

A request names what is offered, and nothing else: a device as the system calls it, and a size of a
list.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

from cbs_core.choose import registry
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.interfaces import Source
from cbs_core.contract.live import OffersDevices
from cbs_core.machine.addresses import shown


class Inputs:
    """Builds the source, as often as it must be opened.

    Args:
        chosen: the plugin, with the owner's parameters.
        given: the owner's ``input``.
    """

    def __init__(self, chosen: Choice, given: str | None) -> None:
        self._name = chosen.name
        params = dict(chosen.params)
        if given and registry.sources.takes(chosen.name, "path"):
            params.setdefault("path", given)
        if isinstance(params.get("path"), str):
            params["path"] = str(params["path"]).removeprefix(f"{chosen.name}:")
        self._params = params
        self._lock = threading.Lock()
        self.shown = Path(shown(given)).name if given else chosen.name
        """What it is called on the page; of an address no password."""

    def __call__(self) -> Source:
        """Builds it."""
        with self._lock:
            params = dict(self._params)
        return registry.sources.create(self._name, **params)

    def offered(self) -> dict[str, object]:
        """Returns what there is to choose from, and what is chosen; nothing of most sources.

        Raises:
            CbsError: the devices cannot be listed.
        """
        kind = registry.sources.load(self._name)
        if not isinstance(kind, OffersDevices):
            return {"devices": [], "sizes": [], "device": None, "size": None}
        devices = [*kind.devices()]
        with self._lock:
            path, size = self._params.get("path"), self._params.get("size")
        return {
            "devices": devices,
            "sizes": [*kind.sizes],
            "device": path if path in devices else devices[0] if devices else None,
            "size": size,
        }

    def choose(self, change: object) -> None:
        """Takes ``device`` and ``size``, either or both; they count from the next opening on.

        Raises:
            ConfigError: what is not offered.
        """
        if not isinstance(change, Mapping) or not change or change.keys() - {"device", "size"}:
            raise ConfigError("say {device, size}, or one of them")
        offered = self.offered()
        new: dict[str, object] = {}
        for key, param, listed in (("device", "path", "devices"), ("size", "size", "sizes")):
            if key not in change:
                continue
            known, value = offered[listed], change[key]
            assert isinstance(known, list)
            if value not in known:
                shown = str(value)[:40]
                raise ConfigError(f"no {key} '{shown}'{closest(shown, known)}")
            new[param] = value
        with self._lock:
            self._params.update(new)
            if "path" in new:
                self.shown = str(new["path"])
