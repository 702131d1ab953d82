"""Slow and many connections, at a port of the studio's own server."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

import pytest

from cbs_core.live import doors, gate, server, session
from cbs_core.live.session import Served
from cbs_core.live.shop import Limits, Opening, Shop
from tests import live


@pytest.fixture
def shop(monkeypatch, tmp_path):
    live.install(monkeypatch)
    with live.studio() as studio:
        live.shown(studio)
        yield Shop(studio, tmp_path, Limits(), live.inputs("clip.mp4"))


@contextmanager
def served(shop, **more):
    """Serves it as ``cbs-live`` does; yields the port."""
    where = Served("127.0.0.1", 0, **more)
    with session._listen(where) as listening:
        running = session._server(Opening(shop), where)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        live.until(lambda: running.started)
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(60)


def status(port, path="/v1/styles", connection=None, headers=None):
    connection = connection or HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def said(port, text):
    found = socket.create_connection(("127.0.0.1", port), timeout=60)
    found.sendall(text)
    return found


def test_who_says_nothing_or_says_it_slowly_is_left(shop, monkeypatch):
    monkeypatch.setattr(doors, "HURRY_S", 1.0)
    with served(shop) as port:
        kept = HTTPConnection("127.0.0.1", port, timeout=60)
        assert status(port, connection=kept) == 200
        slow = [said(port, text) for text in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127")]
        again = kept.sock
        again.sendall(b"GET /v1/st")
        for one in (*slow, again):
            with suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
        assert status(port) == 200


def test_one_address_leaves_places_for_others(shop, monkeypatch):
    monkeypatch.setattr(doors, "EACH", 5)
    with served(shop) as port:
        many = [said(port, b"GET /") for _ in range(5)]
        refused = socket.create_connection(("127.0.0.1", port), timeout=60)
        with suppress(ConnectionResetError):
            assert refused.recv(1) == b""
        for one in many:
            one.close()

        def there():
            try:
                return status(port) == 200
            except OSError:
                return False

        live.until(there)


def test_behind_a_proxy_that_is_named_each_visitor_counts(shop, monkeypatch):
    monkeypatch.setattr(doors, "EACH", 1)
    monkeypatch.setattr(gate.Rate.__init__, "__defaults__", (0.0, 3.0))
    token = "secret-token"
    with served(shop, token=token, proxies=("127.0.0.1",)) as port:
        kept = [said(port, b"GET /") for _ in range(3)]
        codes = {}
        for visitor in ("203.0.113.7", "203.0.113.8", "203.0.113.7, 203.0.113.9"):
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": visitor}
            codes[visitor] = [status(port, headers=headers) for _ in range(4)]
        for one in kept:
            one.close()
    assert set(map(tuple, codes.values())) == {(200, 200, 200, 429)}, "the last is who came here"


def test_a_body_that_does_not_come_is_left_and_one_that_breaks_off_is_no_error(
    shop, monkeypatch, caplog
):
    monkeypatch.setattr(server, "UPLOAD_S", 0.3)
    head = b"POST /v1/restyle HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nab"
    with served(shop) as port:
        slow = said(port, head)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        slow.close()
        monkeypatch.setattr(server, "UPLOAD_S", 60)
        said(port, head).close()
        assert status(port) == 200
        time.sleep(0.1)
    assert "Traceback" not in caplog.text
    assert "Disconnect" not in caplog.text


def test_a_visitor_who_watches_stays(shop, monkeypatch):
    """A WebSocket says nothing for as long as it likes."""
    from websockets.sync.client import connect

    monkeypatch.setattr(doors, "HURRY_S", 0.5)
    with served(shop) as port, connect(f"ws://127.0.0.1:{port}/v1/stream") as watching:
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            watching.recv(timeout=60)


def test_who_sends_too_much_is_told_so(shop):
    """A program that still sends when the connection is closed never sees an answer."""
    program = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/v1/restyle", bytes(50_000_000))
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
    with served(shop) as port:
        command = [sys.executable, "-c", program, str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == '413 {"error":"at most 16777216 bytes are taken"}\n', ended.stderr


def test_what_is_far_too_much_is_not_even_read(shop):
    with served(shop) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/v1/restyle")
        connection.putheader("Content-Length", str(10**12))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
