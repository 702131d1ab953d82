"""Addresses of streams, as people may see them."""

import re

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    # A password may hold anything, "/" and "@" too; a path's "@" belongs to no password. Of digits
    # before a "/" it reads as a port: rather is a camera's path hidden than a password shown, but
    # where the "@" follows at once.
    r"(?:(?![\w.-]+/|[\w.-]+:\d+/@)\S*@|[^/@\s]*@)?"
    r"(?P<host>[^/?\s]*)(?P<path>[^?\s]*)\S*",
    re.I,
)


def shown(address: str) -> str:
    """Returns an address as messages show it: without a password, a query or a broadcaster's key.

    Example:
        >>> shown("rtsp://me:secret@desk/cam?token=x")
        'rtsp://desk/cam'
        >>> shown("rtsp://me:12/secret@desk/cam")
        'rtsp://desk/cam'
        >>> shown("rtsp://desk:554/cam")
        'rtsp://desk:554/cam'
        >>> shown("rtmp://live.example/app/KEY")
        'rtmp://live.example/app/...'
        >>> shown("stream:rtsp://me:secret@desk/cam")
        'stream:rtsp://desk/cam'
    """
    match = _URL.search(address)
    return address if match is None else address[: match.start()] + _without_secret(match)


def masked(text: str) -> str:
    """Returns a text with each address in it as it is `shown`.

    Example:
        >>> masked("input=rtsp://me:se/cr@t@desk/cam output=rtmp://live.example/app/KEY")
        'input=rtsp://desk/cam output=rtmp://live.example/app/...'
    """
    return _URL.sub(_without_secret, text)


def _without_secret(match: "re.Match[str]") -> str:
    path = match["path"]
    if match["scheme"].lower().startswith("rtmp") and path.count("/") > 1:
        path = f"{path.rpartition('/')[0]}/..."
    return f"{match['scheme']}://{match['host']}{path}"
