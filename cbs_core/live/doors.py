"""Connections, before anything is known of them: how many of one address, and how slow they may be.

Who opens many and says nothing, or says it a letter at a time, would take the places of all others.
Connections of the owner's own reverse proxies are not counted: behind one are many visitors.
"""

import asyncio
import ipaddress

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128
"""At once; above, requests are answered with 503."""

EACH = CONNECTIONS // 2
"""Of one address; one more is closed."""

HURRY_S = 10.0
"""Seconds that the head of a request may take, from its first letter or the connection's start."""


class Door(H11Protocol):
    """uvicorn's protocol, which waits for nobody's request for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called for each connection."""
        super().connection_made(transport)
        own = (self.client or ("",))[0]
        others = [
            one for one in self.connections if (getattr(one, "client", None) or ("",))[0] == own
        ]
        if len(others) > EACH and not self._proxied(own):
            transport.abort()
            return
        self._hurry()

    def data_received(self, data: bytes) -> None:
        """Called for what comes."""
        super().data_received(data)
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called where either end leaves."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _proxied(self, own: str) -> bool:
        """Tells whether it is the address of a proxy that the owner named."""
        named = self.config.forwarded_allow_ips if self.config.proxy_headers else ()
        return any(ipaddress.ip_address(own) in ipaddress.ip_network(one) for one in named or ())

    def _hurry(self) -> None:
        """Sets the time for a head that is not whole yet; what is on time is left alone."""
        waited_for = self.conn.their_state is h11.IDLE
        if waited_for and self._late is None:
            self._late = self.loop.call_later(HURRY_S, self.transport.close)
        elif not waited_for and self._late is not None:
            self._late.cancel()
            self._late = None
