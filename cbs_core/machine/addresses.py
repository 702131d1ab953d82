"""Addresses of streams, as people may see them."""

import re

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^/@\s]*@)?(?P<host>[^/?\s]*)(?P<path>[^?\s]*)", re.I
)


def shown(address: str) -> str:
    """Returns an address as messages show it: without a password, a query or a broadcaster's key.

    Example:
        >>> shown("rtsp://me:secret@desk/cam?token=x")
        'rtsp://desk/cam'
        >>> shown("rtmp://live.example/app/KEY")
        'rtmp://live.example/app/...'
        >>> shown("stream:rtsp://me:secret@desk/cam")
        'stream:rtsp://desk/cam'
    """
    match = _URL.search(address)
    if match is None:
        return address
    path = match["path"]
    if match["scheme"].lower().startswith("rtmp") and path.count("/") > 1:
        path = f"{path.rpartition('/')[0]}/..."
    return f"{address[: match.start()]}{match['scheme']}://{match['host']}{path}"
