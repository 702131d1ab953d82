"""The studio's HTTP and WebSocket, without a browser and without a port."""

import io
import json
import struct
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cbs_core.choose.presets import defaults
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError
from cbs_core.live import inputs, recording, server, session, watching
from cbs_core.live.gate import Rate
from cbs_core.live.pictures import decode
from cbs_core.live.session import Served, addresses
from cbs_core.live.shop import Limits, Opening, Shop
from tests import live

HOST = "http://127.0.0.1:8188"

WS = "ws://127.0.0.1:8188/v1/stream"


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    live.install(monkeypatch)


@pytest.fixture
def made():
    with live.studio() as studio:
        live.shown(studio)
        yield studio


@pytest.fixture
def shop(made, tmp_path):
    return Shop(made, tmp_path, Limits(2**20, 100_000, 3), live.inputs("clip.mp4"))


def client_of(shop, *, token=None, rate=None, base=HOST):
    app = server.application(
        Opening(shop), hosts={"127.0.0.1", "localhost"}, token=token, rate=rate
    )
    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.fixture
def client(shop):
    with client_of(shop) as found:
        yield found


def file_of(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def parts(message):
    (size,) = struct.unpack(">I", message[:4])
    head = json.loads(message[4 : 4 + size])
    files, at = [], 4 + size
    for length in head["sizes"]:
        files.append(message[at : at + length])
        at += length
    assert at == len(message)
    return head, files


def heard(socket):
    message = socket.receive()
    assert message["type"] != "websocket.close", message
    return message


def next_frame(socket):
    while True:
        message = heard(socket)
        if message.get("bytes"):
            return parts(message["bytes"])


def next_state(socket):
    while True:
        message = heard(socket)
        if message.get("text"):
            return json.loads(message["text"])


# --- the API


def test_the_page_and_its_headers(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "<canvas" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert client.get("/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/../server.py").status_code == 404
    assert client.get("/%2e%2e/server.py").status_code == 404


def test_the_page_is_served_while_the_nets_are_prepared(shop):
    opening = Opening()
    opening.told = "cpu: preparing the nets"
    app = server.application(opening, hosts={"127.0.0.1"})
    with TestClient(app, base_url=HOST) as client:
        assert "<canvas" in client.get("/").text
        answer = client.get("/v1/state")
        assert answer.status_code == 503
        assert answer.json() == {"error": "not ready yet: cpu: preparing the nets"}
        with client.websocket_connect(WS) as socket:
            assert next_state(socket) == {"preparing": "cpu: preparing the nets"}
            opening.shop = shop
            while "preparing" in (told := next_state(socket)):
                pass
            assert told["source"] == "clip.mp4"
        assert client.get("/v1/state").status_code == 200


def test_state_look_pick(client, made):
    state = client.get("/v1/state").json()
    assert state["look"]["routes"] == {
        "car": {"style": "dark", "strength": 1.0, "keep_color": False}
    }
    assert [one["name"] for one in state["in_view"]] == ["sky", "background", "car"]
    assert state["size"] == [live.WIDTH, live.HEIGHT]
    picked = client.post("/v1/pick", json={"frame": 1, "x": 0.5, "y": 0.1}).json()
    assert picked == {"class": 2, "name": "sky", "frame": 1}
    look = client.patch("/v1/look", json={"routes": {"sky": "light"}}).json()
    assert look["routes"]["sky"]["style"] == "light"
    live.until(lambda: not made.main.building)
    assert (live.shown(made)[10] == 204).all()


def test_what_there_is_to_choose(client):
    assert client.get("/v1/styles").json()["styles"] == ["dark", "light", "late", "broken"]
    names = [one["name"] for one in client.get("/v1/classes").json()]
    assert names == list(live.CLASSES)
    painted = client.get("/v1/styles/1.jpg?class=1")
    assert abs(int(decode(painted.content, pixels=10**5)[5, 5, 0]) - 204) < 3
    car = decode(client.get("/v1/classes/1.jpg").content, pixels=10**5)
    assert car[80, 40, 0] > 200
    assert "johnson" in [one["name"] for one in client.get("/v1/plugins").json()["styler"]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_in_and_a_picture_out(client, kind):
    answer = client.post(
        "/v1/restyle",
        params={"look": json.dumps({"routes": {"sky": "light"}})},
        content=file_of(live.picture(), kind),
    )
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    out = decode(answer.content, pixels=10**5).numpy()
    assert out.shape == live.picture().shape
    assert abs(int(out[10, 10, 0]) - 204) <= 2


def test_photo_preset_and_recording(client, made):
    photo = client.get("/v1/photo.png")
    assert "attachment" in photo.headers["content-disposition"]
    assert (decode(photo.content, pixels=10**5).numpy()[70, 30] == 51).all()
    assert "override segmenter: colours" in client.get("/v1/preset.yaml").text
    name = client.post("/v1/recording").json()["name"]
    assert client.post("/v1/recording").status_code == 429
    for _ in range(3):
        live.shown(made)
        time.sleep(0.02)
    live.until(lambda: client.get("/v1/state").json()["recording"]["frames"] >= 2)
    assert client.delete("/v1/recording").json()["name"] == name
    assert client.delete("/v1/recording").status_code == 404
    assert len(client.get(f"/v1/recordings/{name}").content) > 500
    assert [one["name"] for one in client.get("/v1/state").json()["recordings"]] == [name]


def test_a_recording_that_ends_by_itself_is_over(client, made, monkeypatch):
    monkeypatch.setattr(recording, "LONGEST", 0.05)
    name = client.post("/v1/recording").json()["name"]
    live.shown(made)
    live.until(lambda: client.get("/v1/state").json()["recording"]["frames"] == 1)
    time.sleep(0.06)
    live.shown(made)
    live.until(lambda: client.get("/v1/state").json()["recording"] is None)
    told = client.get("/v1/state").json()["recordings"]
    assert told == [{"name": name, "frames": 1, "error": None, "note": "an hour is the most"}]
    assert client.get(f"/v1/recordings/{name}").status_code == 200
    assert client.post("/v1/recording").status_code == 201, "another may begin"


def test_a_recording_of_nothing_is_told(client):
    name = client.post("/v1/recording").json()["name"]
    answer = client.delete("/v1/recording")
    assert "no frame came" in answer.json()["error"]
    (told,) = client.get("/v1/state").json()["recordings"]
    assert told["name"] == name
    assert "no frame came" in told["error"]


def test_most_sources_offer_nothing_to_choose(client):
    assert client.get("/v1/source").json()["devices"] == []
    assert client.patch("/v1/source", json={"device": "/dev/video0"}).status_code == 400


def test_every_route_is_in_the_openapi_document(client):
    document = client.get("/v1/openapi.json").json()
    told = {(m.upper(), path) for path, ops in document["paths"].items() for m in ops}
    have = {(method, path.replace(":int", "")) for method, path, _ in server.ROUTES}
    assert told == have
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["responses"]


# --- bounds


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("PATCH", "/v1/look", {"json": {"routes": {"car": "/etc/passwd"}}}, 400),
        ("PATCH", "/v1/look", {"content": b"{"}, 400),
        ("PATCH", "/v1/look", {"content": b"[" * 50_000}, 400),
        ("PATCH", "/v1/look", {"content": b" " * 100_000}, 413),
        ("PATCH", "/v1/look?feed=../x", {"json": {}}, 404),
        ("POST", "/v1/pick", {"json": {"x": 7, "y": 0}}, 400),
        ("POST", "/v1/pick", {"json": [1]}, 400),
        ("GET", "/v1/styles/99.jpg", {}, 404),
        ("GET", "/v1/styles/0.jpg?class=-1", {}, 404),
        ("GET", "/v1/styles/0.jpg?class=²", {}, 404),
        ("GET", "/v1/styles/0.jpg?class=٣٣٣", {}, 404),
        ("GET", "/v1/classes/7.jpg", {}, 404),
        ("GET", "/v1/recordings/..%2F..%2Fetc%2Fpasswd", {}, 404),
        ("GET", "/v1/recordings/x.mp4", {}, 404),
        ("POST", "/v1/restyle", {"content": b""}, 400),
        ("POST", "/v1/restyle", {"content": b"%PDF-1.4"}, 400),
        ("POST", "/v1/restyle", {"content": b"GIF89a" + bytes(100)}, 400),
        ("POST", "/v1/restyle?look={}x", {"content": b""}, 400),
        ("POST", "/v1/restyle", {"content": bytes(2**20 + 1)}, 413),
        ("PUT", "/v1/look", {"json": {}}, 405),
    ],
)
def test_what_is_refused_is_told_and_changes_nothing(client, made, method, path, kind, status):
    before = made.main.wish
    answer = client.request(method, path, **kind)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert " at 0x" not in answer.text, "what nobody needs, and an address"
    assert made.main.wish is before
    assert live.shown(made) is not None


NOTHING_OF_A_LOOK = (
    b"[" * 60_000,
    b'{"routes": {"\\ud800": "wave"}}',
    b'{"\\ud800": 1}',
    b'{"matte": "\\ud800"}',
    b'{"size": 1e400}',
    b'{"size": NaN}',
    b'{"size": ' + b"9" * 5000 + b"}",
    b'{"radius": true}',
    b"\xff\xfe",
    b"",
    b'{"compositor": ["x"]}',
    b'{"__class__": 1}',
    b'{"routes": {"person": {"__class__": 1}}}',
    b'{"matte": "\\u001b[2J"}',
)


@pytest.mark.parametrize("text", NOTHING_OF_A_LOOK, ids=lambda text: repr(text[:40]))
def test_what_is_no_look_is_told_whatever_it_is(client, made, text):
    before = made.main.wish
    asked = {"look": text.decode("latin-1")[:4000]}
    for answer in (
        client.patch("/v1/look", content=text),
        client.post("/v1/pick", content=text),
        client.post("/v1/restyle", params=asked, content=b"x"),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert made.main.wish == before


def test_a_huge_picture_is_refused_before_it_is_decoded(client, monkeypatch):
    """A PNG of 20000x20000 is a few bytes that would become 1.2 GB."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    assert len(file.getvalue()) < 2**20

    def load(self):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    answer = client.post("/v1/restyle", content=file.getvalue())
    assert answer.status_code == 413
    small = file_of(np.zeros((400, 400, 3), np.uint8))
    assert client.post("/v1/restyle", content=small).status_code == 413


def test_a_body_without_a_length_is_bounded_too(client):
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(1)
            yield bytes(2**16)

    assert client.post("/v1/restyle", content=chunks()).status_code == 413


def test_requests_of_one_address_are_counted(shop):
    with client_of(shop, rate=Rate(1, 5)) as client:
        codes = [client.get("/v1/state").status_code for _ in range(10)]
        assert codes[:5] == [200] * 5
        assert codes[5:] == [429] * 5


def test_1000_requests_at_once_are_bounded_and_the_show_goes_on(shop, made):
    with client_of(shop) as client:
        codes = []

        def ask():
            codes.extend(client.get("/v1/styles").status_code for _ in range(125))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        during = [live.shown(made) for _ in range(5)]
        for thread in threads:
            thread.join()
    assert len(codes) == 1000
    assert set(codes) <= {200, 429}
    assert len(during) == 5


# --- who may


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1:8188.evil.example"},
        {"host": "127.0.0.1:"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "127.0.0.1@evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:8188.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_pages_and_names_are_refused(client, headers, made):
    assert client.get("/v1/state", headers=headers).status_code == 403
    answer = client.patch("/v1/look", json={"routes": {"car": None}}, headers=headers)
    assert answer.status_code == 403
    assert made.main.wish.routes
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(WS, headers=headers) as socket,
    ):
        socket.receive()


def test_the_page_itself_and_a_link_to_it_may(client):
    assert client.get("/v1/state", headers={"origin": HOST}).status_code == 200
    assert client.get("/v1/state", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link | {"sec-fetch-dest": "document"}).status_code == 200
    assert client.get("/", headers=link | {"sec-fetch-dest": "iframe"}).status_code == 403


def test_without_the_token_nothing_is_had(shop):
    with client_of(shop, token="secret-token") as client:
        for path in ("/", "/v1/state", "/main.js", "/?token=wrong", "/v1/state?token=secret-token"):
            assert client.get(path).status_code == 401, path
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(WS) as socket:
            socket.receive()
        bearer = {"authorization": "Bearer secret-token"}
        assert client.get("/v1/state", headers=bearer).status_code == 200
        assert client.get("/v1/state", headers={"authorization": "Bearer x"}).status_code == 401
        evil = {"host": "evil.example"}
        assert client.get("/?token=secret-token", headers=evil).status_code == 403
        opened = client.get("/?token=secret-token")
        assert opened.status_code == 303
        assert opened.headers["location"] == "/"
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/v1/state").status_code == 200


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_without_a_token_nobody_comes_through_a_proxy(client, shop, name):
    """Its visitors are anybody, and all have this machine's own address."""
    headers = {name: "203.0.113.7"}
    refused = client.get("/v1/state", headers=headers)
    assert refused.status_code == 403
    assert "proxies=" in refused.json()["error"]
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(WS, headers=headers) as socket,
    ):
        socket.receive()
    headers["authorization"] = "Bearer secret-token"
    with client_of(shop, token="secret-token", rate=Rate(0, 2)) as client:
        codes = [client.get("/v1/state", headers=headers | {name: f"203.0.113.{at}"}).status_code
                 for at in range(3)]  # fmt: skip
    assert codes == [200, 200, 429], "what it says of its visitors is not believed"


def test_who_floods_the_server_is_left(client, made, monkeypatch):
    monkeypatch.setattr(watching, "MESSAGES", 20)
    with client.websocket_connect(WS) as socket:
        for _ in range(41):
            socket.send_text("{}")
        live.until(lambda: socket.receive()["type"] == "websocket.close")
    with client.websocket_connect(WS) as socket:
        for _ in range(38):
            socket.send_text("{}")
        next_frame(socket)


def test_the_address_is_told_with_the_token():
    (line,) = addresses(Served("127.0.0.1", 8188), 8188)
    assert line == "the studio is at http://127.0.0.1:8188/"
    told = addresses(Served("0.0.0.0", 8188, token="abc"), 8188)
    assert "?token=abc" in told[0]
    assert not any("//0.0.0.0" in line or "//[fe80" in line for line in told[1:])
    assert "certificate=" in told[-1]
    assert "8188/?token=abc" in addresses(Served("::", 8188, token="abc"), 8188)[0]


# --- the stream


def test_a_proxy_that_is_named_demands_a_token():
    behind = session._served(defaults("live") | {"proxies": ["127.0.0.1", "10.0.0.0/24"]})
    assert behind.proxies == ("127.0.0.1", "10.0.0.0/24")
    assert behind.token is not None
    assert session._served(defaults("live")).token is None
    with pytest.raises(ConfigError, match="'desk' is no address"):
        session._served(defaults("live") | {"proxies": ["desk"]})


def test_a_certificate_is_looked_for_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pem").touch()
    config = {"host": "127.0.0.1", "port": 0, "certificate": "~/a.pem", "key": "~/a.pem"}
    assert session._served(config).certificate == str(tmp_path / "a.pem")
    with pytest.raises(ConfigError, match=r"there is no file '~/none\.pem'"):
        session._served({**config, "key": "~/none.pem"})


def test_visitors_see_no_password_of_the_owners():
    for given in ("rtsp://me:secret@desk", "rtsp://desk/cam?token=secret", "rtmp://h/app/secret"):
        assert "secret" not in inputs.Inputs(Choice("stream"), given).shown


def test_frames_come_with_the_views_asked_for(client, made):
    with client.websocket_connect(WS) as socket:
        head, files = next_frame(socket)
        assert head["views"] == ["restyled"]
        assert (abs(decode(files[0], pixels=10**5).numpy()[70, 30].astype(int) - 51) < 4).all()
        socket.send_json({"views": ["restyled", "original"]})
        socket.send_json({"shown": head["frame"]})
        socket.send_json({"views": ["nonsense"]})
        socket.send_text("no json")
        socket.send_bytes(b"not a camera")
        live.until(lambda: (live.shown(made), 1)[1])
        time.sleep(0.1)
        live.shown(made)
        head, files = next_frame(socket)
        live.shown(made)
        if len(files) == 1:
            socket.send_json({"shown": head["frame"]})
            head, files = next_frame(socket)
        assert head["views"] == ["restyled", "original"]
        assert len(files) == 2


@pytest.mark.parametrize("text", ["[" * 999, '{"views": [[1]]}', '{"shown": 1e999}', '"\\ud800"'])
def test_a_visitor_who_sends_what_is_no_message_is_shown_on(client, text):
    with client.websocket_connect(WS) as socket:
        socket.send_text(text)
        socket.send_bytes(b"\x00")
        next_frame(socket)
        next_state(socket)


def test_who_shows_nothing_is_sent_two_frames_and_the_newest_after(client, made):
    with client.websocket_connect(WS) as socket:
        first, _ = next_frame(socket)
        live.shown(made)
        second, _ = next_frame(socket)
        for _ in range(5):
            live.shown(made)
        newest = made.main.shown.index
        socket.send_json({"shown": first["frame"]})
        third, _ = next_frame(socket)
        assert second["frame"] < third["frame"] == newest


def test_who_takes_nothing_is_left(client, made, monkeypatch):
    monkeypatch.setattr(watching, "PATIENCE", 0.3)
    monkeypatch.setattr(watching, "EVERY", 0.05)
    with client.websocket_connect(WS) as socket:
        next_frame(socket)
        live.until(lambda: socket.receive()["type"] == "websocket.close")
    live.until(lambda: made.main.watched == 0)


def test_a_change_reaches_every_visitor(client):
    with (
        client.websocket_connect(WS) as one,
        client.websocket_connect(WS) as other,
    ):
        next_state(one), next_state(other)
        client.patch("/v1/look", json={"routes": {"sky": "light"}})
        for socket in (one, other):
            live.until(lambda socket=socket: "sky" in next_state(socket)["look"]["routes"])
        assert next_state(one)["watchers"] == 2


def test_the_number_of_visitors_is_bounded(client, shop):
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(client.websocket_connect(WS))
        with client.websocket_connect(WS) as fourth:
            assert "try again" in fourth.receive_json()["refused"]
    live.until(lambda: shop.watchers == 0)
    with client.websocket_connect(WS) as socket:
        assert next_state(socket)["feed"] == "main"


def test_a_visitors_own_camera(client, made):
    with client.websocket_connect(f"{WS}?camera=true") as socket:
        feed = next_state(socket)["feed"]
        assert feed != "main"
        client.patch(f"/v1/look?feed={feed}", json={"routes": {"car": "light"}})
        live.until(lambda: not made.feeds[feed].building)
        socket.send_bytes(struct.pack(">I", 7) + file_of(live.picture(), "JPEG"))
        head, files = next_frame(socket)
        assert head["tag"] == 7
        assert abs(int(decode(files[0], pixels=10**5)[70, 30, 0]) - 204) < 4
        assert made.main.wish.routes["car"].style == "dark"
        socket.send_bytes(struct.pack(">I", 8) + b"no picture")
        live.until(lambda: next_state(socket)["error"])
    live.until(lambda: feed not in made.feeds)
    assert client.get(f"/v1/state?feed={feed}").status_code == 404


def test_a_huge_frame_of_a_camera_is_refused(client, made):
    with client.websocket_connect(f"{WS}?camera=true") as socket:
        next_state(socket)
        huge = file_of(np.zeros((2000, 2000, 3), np.uint8))
        socket.send_bytes(struct.pack(">I", 1) + huge)
        live.until(lambda: "too large" in (next_state(socket)["error"] or ""))


def test_the_right_token_waits_too_where_many_were_tried(shop):
    with client_of(shop, token="secret-token", rate=Rate(0.001, 3)) as client:
        assert [client.get("/?token=wrong").status_code for _ in range(3)] == [401, 401, 401]
        assert client.get("/?token=secret-token").status_code == 429


def test_a_photograph_of_a_phone_is_upright():
    held = np.zeros((8, 16, 3), np.uint8)
    held[:, :8] = 255
    tag, file = Image.Exif(), io.BytesIO()
    tag[0x0112] = 6  # turned by a quarter
    Image.fromarray(held).save(file, "PNG", exif=tag)
    seen = decode(file.getvalue(), pixels=1000)
    assert seen.shape == (16, 8, 3)
    assert seen[:8].min() == 255
    assert seen[8:].max() == 0
