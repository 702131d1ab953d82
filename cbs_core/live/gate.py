"""Who may speak to the studio, and how much: asked before anything else looks at a request.

- **Host** must be one of the server's own names, so that a stranger's name which is made to point
  here (DNS rebinding) opens nothing.
- **Origin**, and what browsers say of a request's site, must be the page's own, for HTTP and for
  WebSocket: no other page can send or read anything. Programs send no Origin and may.
- **A token**, where the owner's address is not this machine alone: in the address once, then in a
  cookie; programs send it as ``Authorization: Bearer TOKEN``.
- **A proxy** in between lets others in at the owner's own address. Without a token, what came
  through one is refused; what it says of its visitors is believed only where the owner named it.
- Requests of one address are counted, and refused above a rate.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "cbs-token"

RATE, BURST = 60.0, 240.0
"""Requests a second of one address, and how many at once."""

ADDRESSES = 1024
"""Whose requests are counted; the one unheard of the longest is forgotten first."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers by which a proxy is known."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Rate:
    """Counts requests by address: ``RATE`` a second, ``BURST`` at once."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __call__(self, address: str) -> bool:
        """Tells whether one more is well."""
        now = time.monotonic()
        left, since = self._left.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        self._left[address] = (max(0.0, left - 1), now)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class Gate:
    """ASGI middleware that refuses what the module's docstring says.

    Args:
        app: what stands behind it.
        hosts: names and addresses of this server, without ports.
        token: what visitors must know; None: nothing.
        rate: see `Rate`.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], token: str | None, rate: Rate | None = None
    ) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._token = token
        self._rate = rate or Rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a refused request, else hands it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        slow = self._rate((scope.get("client") or ("",))[0])
        if slow and scope["type"] == "http" and self._brings_token(scope, headers):
            assert self._token is not None
            response = RedirectResponse("/", 303, HEADERS)
            response.set_cookie(
                COOKIE,
                self._token,
                httponly=True,
                samesite="strict",
                secure=scope["scheme"] == "https",
                max_age=30 * 24 * 3600,
            )
            await response(scope, receive, send)
            return
        code, told = (
            self._refusal(scope, headers) if slow else (429, "too many requests: wait a second")
        )
        if code and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": told})
        elif code:
            more = {"retry-after": "1"} if code == 429 else {}
            await JSONResponse({"error": told}, code, HEADERS | more)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str]:
        """Returns a status and why; 0 is let in."""
        if not self._known_host(headers):
            return 403, "this name is not the server's: say hosts=[NAME] where it is started"
        if not self._same_site(scope, headers):
            return 403, "requests of other pages are refused"
        if self._token is None and any(name in headers for name in FORWARDED):
            return 403, "this came through a proxy: say proxies=[ITS ADDRESS] where it is started"
        if self._token is not None and not self._knows_token(headers):
            return 401, "open the address with the token that the server printed"
        return 0, ""

    def _known_host(self, headers: Headers) -> bool:
        host = headers.getlist("host")
        return len(host) == 1 and _name(host[0]) in self._hosts and _has_port(host[0])

    def _same_site(self, scope: Scope, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            found = urlsplit(origin)
            return found.scheme in ("http", "https") and found.netloc == headers.get("host")
        site = headers.get("sec-fetch-site", "none")
        if site in ("none", "same-origin"):
            return True
        # A link on another page may lead here, and does nothing else.
        return (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"] == "/"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )

    def _knows_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and self._is_token(morsel.value)

    def _brings_token(self, scope: Scope, headers: Headers) -> bool:
        """Tells whether it is the address that the server printed, opened for the first time."""
        if self._token is None or scope["path"] != "/" or scope["method"] != "GET":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return self._known_host(headers) and self._is_token(given)

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())


def _name(host: str) -> str:
    """Returns a Host header's name: without port, brackets and case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _has_port(host: str) -> bool:
    """Tells whether what follows the name is a port, or nothing."""
    _, colon, port = host.rpartition("]")[2].partition(":")
    return not colon or port.isdecimal()


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
