"""The HTTP API and the page: thin, over `cbs_core.live.studio`; described in ``openapi.yaml``."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from cbs_core import __version__
from cbs_core.choose import registry
from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.live import pictures, wish
from cbs_core.live.gate import Gate, Rate
from cbs_core.live.pictures import TooLargeError
from cbs_core.live.recording import Recording
from cbs_core.live.shop import MissingError, Opening, Shop
from cbs_core.live.studio import BusyError
from cbs_core.live.watching import Watching
from cbs_core.words.vocabularies import colours

PAGE = Path(__file__).with_name("page")

JSON_BYTES = 65536
"""Of a request that is no picture."""

UPLOAD_S = 60.0
"""Seconds that a request's body may take."""

PASSED_OVER = 128 * 2**20
"""Bytes of a body too long that are read and forgotten; of one longer still, none are."""

GLANCE = 0.25
"""Seconds between two looks whether there is something to serve."""


class SlowError(CbsError):
    """A request that does not come."""


STATUS: dict[type[CbsError], int] = {
    TooLargeError: 413,
    SlowError: 408,
    BusyError: 429,
    MissingError: 404,
    ConfigError: 400,
}

Handler = Callable[[Request, Shop], Awaitable[Response]]


def application(
    opening: Opening, *, hosts: Iterable[str], token: str | None = None, rate: Rate | None = None
) -> Starlette:
    """Returns the ASGI application.

    Args:
        opening: what it serves; until that is there, the page alone.
        hosts: see `Gate`.
        token: likewise.
        rate: likewise.
    """

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            if opening.shop is None:
                told = {"error": f"not ready yet: {opening.told}"}
                return JSONResponse(told, 503, {"retry-after": "1"})
            try:
                return await handler(request, opening.shop)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody hears it
            except CbsError as error:
                status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), 500)
                headers = {"retry-after": "1"} if status == 429 else {}
                return JSONResponse({"error": str(error)}, status, headers)

        return Route(path, endpoint, methods=[method])

    async def stream(socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):
            await socket.accept()
            while opening.shop is None:
                await socket.send_text(json.dumps({"preparing": opening.told}))
                await asyncio.sleep(GLANCE)
            await _stream(socket, opening.shop)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if opening.shop is not None:
            await asyncio.to_thread(opening.shop.close)

    return Starlette(
        routes=[
            WebSocketRoute("/v1/stream", stream),
            *(route(path, handler, method) for method, path, handler in ROUTES),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        exception_handlers={HTTPException: _http_error},
        middleware=[Middleware(Gate, hosts=hosts, token=token, rate=rate)],
        lifespan=lifespan,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _stream(socket: WebSocket, shop: Shop) -> None:
    camera = socket.query_params.get("camera") == "true"
    if shop.watchers >= shop.limits.watchers:
        await _refused(socket, "all places are taken: try again later")
        return
    try:
        feed = shop.studio.open_feed() if camera else shop.feed(socket)
    except CbsError as error:
        await _refused(socket, str(error))
        return
    shop.watchers += 1
    try:
        await Watching(socket, shop.studio, feed, shop.state, camera=camera).run()
    finally:
        shop.watchers -= 1
        if camera:
            if shop.recording is not None and shop.recording.feed is feed:
                await asyncio.to_thread(shop.close)
            shop.studio.close_feed(feed)
            shop.forget(feed)


async def _refused(socket: WebSocket, why: str) -> None:
    await socket.send_text(json.dumps({"refused": why}))
    await socket.close(1013)


async def _body(request: Request, most: int) -> bytes:
    """Returns a request's body, at most so many bytes; more are not kept.

    Programs send all before they listen: where the connection is closed meanwhile, they never
    learn why.
    """
    length = request.headers.get("content-length", "0")
    too_long = TooLargeError(f"at most {most} bytes are taken")
    if length.isdecimal() and int(length) > PASSED_OVER:
        raise too_long
    body, came = bytearray(), 0
    try:
        with anyio.fail_after(UPLOAD_S):
            async for chunk in request.stream():
                came += len(chunk)
                if came > PASSED_OVER:
                    break
                body += chunk if came <= most else b""
    except TimeoutError as error:
        raise SlowError(f"the request did not come within {UPLOAD_S:g} seconds") from error
    if came > most:
        raise too_long
    return bytes(body)


async def _json(request: Request) -> Any:
    return wish.parsed(await _body(request, JSON_BYTES))


async def _state(request: Request, shop: Shop) -> Response:
    return JSONResponse(shop.state(shop.feed(request)))


async def _look(request: Request, shop: Shop) -> Response:
    change = await _json(request)
    return JSONResponse(shop.studio.change(shop.feed(request), change).to_json())


async def _source(request: Request, shop: Shop) -> Response:
    return JSONResponse(await asyncio.to_thread(shop.inputs.offered))


async def _choose(request: Request, shop: Shop) -> Response:
    change = await _json(request)
    await asyncio.to_thread(shop.inputs.choose, change)
    await asyncio.to_thread(shop.reopen)
    return await _source(request, shop)


async def _pick(request: Request, shop: Shop) -> Response:
    given = await _json(request)
    if not isinstance(given, dict):
        raise ConfigError("say {frame, x, y}")
    x, y, frame = _share(given.get("x")), _share(given.get("y")), given.get("frame", 0)
    shown = shop.feed(request).frame(frame if isinstance(frame, int) else 0)
    if shown is None:
        raise MissingError("nothing is shown yet")
    index = shown.at(x, y)
    return JSONResponse({"class": index, "name": shown.classes[index], "frame": shown.index})


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError("x and y are shares of the picture's sides, 0..1")
    return float(value)


async def _styles(request: Request, shop: Shop) -> Response:
    catalog = shop.studio.catalog
    return JSONResponse(
        {
            "styles": [*catalog.styles],
            "compositors": [*catalog.compositors],
            "with_radius": sorted(catalog.with_radius),
            "by_point": shop.studio.by_point,
        }
    )


async def _style_picture(request: Request, shop: Shop) -> Response:
    names = [*shop.studio.catalog.styles]
    style = names[_number(request.path_params["number"], len(names))]
    crop = _crop(request, shop, request.query_params.get("class", "0"))
    made = await asyncio.wrap_future(shop.studio.painted(style, crop))
    return Response(made, media_type="image/jpeg", headers={"cache-control": "no-store"})


async def _classes(request: Request, shop: Shop) -> Response:
    names = shop.studio.catalog.classes
    pairs = zip(names, colours(names), strict=True)
    return JSONResponse([{"name": name, "colour": [*colour]} for name, colour in pairs])


async def _class_picture(request: Request, shop: Shop) -> Response:
    crop = _crop(request, shop, request.path_params["number"])
    made = await asyncio.to_thread(pictures.encode, crop)
    return Response(made, media_type="image/jpeg", headers={"cache-control": "no-store"})


def _crop(request: Request, shop: Shop, number: str | int) -> NDArray[np.uint8]:
    found = shop.crop(shop.feed(request), _number(number, len(shop.studio.catalog.classes)))
    if found is None:
        raise MissingError("that class has not been in view")
    return found


def _number(text: str | int, count: int) -> int:
    number = int(text) if str(text).isdecimal() and len(str(text)) < 6 else -1
    if not 0 <= number < count:
        raise MissingError("there is no such number")
    return number


async def _plugins(request: Request, shop: Shop) -> Response:
    return JSONResponse(
        {
            kind: [
                {"name": name, "distribution": plugins.origin(name)}
                for name in plugins.names()
                if not plugins.conflict(name)
            ]
            for kind, plugins in registry.REGISTRIES.items()
        }
    )


async def _restyle(request: Request, shop: Shop) -> Response:
    limits = shop.limits
    look = request.query_params.get("look", "{}")
    change = wish.parsed(look[:JSON_BYTES])
    body = await _body(request, limits.upload_bytes)
    png = body.startswith(b"\x89PNG")
    pixels = await asyncio.to_thread(pictures.decode, body, pixels=limits.upload_pixels)
    made = await asyncio.wrap_future(shop.studio.restyle(pixels, change))
    kind = "PNG" if png else "JPEG"
    data = await asyncio.to_thread(pictures.encode, made, kind, 95)
    return Response(data, media_type=f"image/{kind.lower()}")


async def _photo(request: Request, shop: Shop) -> Response:
    shown = shop.feed(request).shown
    if shown is None:
        raise MissingError("nothing is shown yet")
    data = await asyncio.to_thread(pictures.encode, shown.restyled, "PNG")
    return _download(data, "image/png", f"cbs-{shown.index}.png")


async def _preset(request: Request, shop: Shop) -> Response:
    studio = shop.studio
    text = wish.preset(shop.feed(request).wish, studio.base, studio.catalog)
    return _download(text.encode(), "application/yaml", f"{wish.PRESET}.yaml")


def _download(data: bytes, kind: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(data, media_type=kind, headers=headers)


async def _record(request: Request, shop: Shop) -> Response:
    feed = shop.feed(request)

    def begin() -> Recording:
        with shop.lock:
            if shop.recording is not None and not shop.recording.over:
                raise BusyError("something is being recorded already: end that first")
            begun = Recording(feed, shop.folder)
            shop.began(begun)
            return begun

    recording = await asyncio.to_thread(begin)
    feed.tell()
    return JSONResponse({"name": recording.path.name}, 201)


async def _stop(request: Request, shop: Shop) -> Response:
    feed, recording = shop.feed(request), shop.recording
    if recording is None or recording.feed is not feed:
        raise MissingError("nothing is being recorded")
    await asyncio.to_thread(shop.close)
    feed.tell()
    if recording.error is not None:
        raise CbsError(recording.error)
    return JSONResponse({"name": recording.path.name, "frames": recording.frames})


async def _recorded(request: Request, shop: Shop) -> Response:
    found = shop.recordings.get(request.path_params["name"])
    if found is None or found.feed is not shop.feed(request) or not found.path.is_file():
        raise MissingError("there is no such recording")
    return FileResponse(found.path, filename=found.path.name)


async def _openapi(request: Request, shop: Shop) -> Response:
    import yaml  # type: ignore[import-untyped]

    text = Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    document["info"]["version"] = __version__
    return JSONResponse(document)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/v1/state", _state),
    ("PATCH", "/v1/look", _look),
    ("GET", "/v1/source", _source),
    ("PATCH", "/v1/source", _choose),
    ("POST", "/v1/pick", _pick),
    ("GET", "/v1/classes", _classes),
    ("GET", "/v1/classes/{number:int}.jpg", _class_picture),
    ("GET", "/v1/styles", _styles),
    ("GET", "/v1/styles/{number:int}.jpg", _style_picture),
    ("GET", "/v1/plugins", _plugins),
    ("POST", "/v1/restyle", _restyle),
    ("GET", "/v1/photo.png", _photo),
    ("GET", "/v1/preset.yaml", _preset),
    ("POST", "/v1/recording", _record),
    ("DELETE", "/v1/recording", _stop),
    ("GET", "/v1/recordings/{name}", _recorded),
    ("GET", "/v1/openapi.json", _openapi),
)
"""Method, path and what answers."""
