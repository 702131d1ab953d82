"""The container of glTF 2.0: chunks, accessors and images, read with bounds, edited in place.

Letters: ``n`` elements of an accessor.
"""

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from cbs_core.contract.errors import SourceError
from cbs_plugins.scenes.textures import beside, read

MAGIC, JSON_CHUNK, BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942

COMPONENTS = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}

UNREADABLE = (
    "KHR_draco_mesh_compression",
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
)
"""Extensions that, where a file requires them, make its geometry unreadable here."""

BINARY = "application/octet-stream"

MOST_TEXT = 2**29
"""Bytes of a file's JSON, with the data that it holds as text."""

MOST_ELEMENTS = 100_000_000
"""Of an accessor."""

MOST_CLAIMED = 10_000_000
"""Of one without data, which may claim any number."""


class GltfFile:
    """A ``.glb`` or ``.gltf``: its JSON and its first buffer, which alone are edited.

    Raises:
        SourceError: it is damaged, or needs what is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        data = read(path)
        self.is_binary = data[:4] == b"glTF"
        try:
            text, self.blob = self._chunks(data) if self.is_binary else (data, None)
            if len(text) > MOST_TEXT:
                raise ValueError(f"{len(text) / 2**20:.0f} MiB of JSON are more than is read")
            self.json: dict[str, Any] = json.loads(text)
            if str(self.json["asset"]["version"]).split(".")[0] != "2":
                raise ValueError(f"its version is {self.json['asset']['version']}, not 2")
        except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
            raise SourceError(
                f"'{path}' is no glTF 2.0 ({' '.join(str(error).split())[:200]}): get the file "
                "again, or export it anew"
            ) from error
        required = self.json.get("extensionsRequired", [])
        if found := [name for name in UNREADABLE if name in required]:
            raise SourceError(
                f"'{path}' is compressed by {found[0]}: save it without (gltf-transform copy)"
            )
        self._buffers: dict[int, bytes] = {}

    @staticmethod
    def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
        _, version, length = struct.unpack_from("<III", data)
        if version != 2 or length > len(data):
            raise ValueError(f"{len(data)} bytes of {length} are there")
        at = 12
        found: dict[int, bytes] = {}
        while at + 8 <= length:
            size, kind = struct.unpack_from("<II", data, at)
            if at + 8 + size > length:
                raise ValueError("a chunk is cut off")
            found.setdefault(kind, data[at + 8 : at + 8 + size])
            at += 8 + size
        if JSON_CHUNK not in found:
            raise ValueError("it has no JSON")
        return found[JSON_CHUNK], found.get(BIN_CHUNK)

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            told = self.entry("buffers", index)
            data = self.linked(told["uri"]) if "uri" in told else None if index else self.blob
            if data is None or len(data) < told["byteLength"]:
                raise ValueError(f"buffer {index} is shorter than it says")
            self._buffers[index] = data
        return self._buffers[index]

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """Returns an entry of one of the JSON's lists.

        Raises:
            ValueError: there is none of that number; from the list's end nothing is counted.
        """
        held = self.json.get(kind, [])
        if not isinstance(index, int) or not 0 <= index < len(held):
            raise ValueError(f"it names {index} of {len(held)} {kind}")
        found: dict[str, Any] = held[index]
        return found

    def linked(self, uri: Any) -> bytes:
        """Returns what a URI of the file holds: of itself, or of a file in its folder."""
        if not isinstance(uri, str):
            raise ValueError(f"a URI is {uri!r:.20}")
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise ValueError(f"a data URI is damaged ({error})") from error
        return read(beside(self.path.parent, unquote(uri), self.path))

    def view(self, index: int) -> bytes:
        """Returns the bytes of a buffer view."""
        told = self.entry("bufferViews", index)
        start, size = int(told.get("byteOffset", 0)), int(told["byteLength"])
        buffer = self._buffer(told["buffer"])
        if start < 0 or size < 0 or start + size > len(buffer):
            raise ValueError(f"buffer view {index} lies outside of its buffer")
        return buffer[start : start + size]

    def accessor(self, index: int, *kinds: str, plain: bool = False) -> Any:
        """Returns ``(n,width)`` of an accessor; integers that stand for 0..1 as floats.

        Args:
            index: its number.
            kinds: the types that are taken, ``VEC3``; none takes all.
            plain: whether integers stay integers whatever they stand for.
        """
        told = self.entry("accessors", index)
        if kinds and told["type"] not in kinds:
            raise ValueError(f"accessor {index} is {told['type']} where {kinds[0]} is due")
        count, width = told["count"], WIDTHS[told["type"]]
        kind = np.dtype(COMPONENTS[told["componentType"]]).newbyteorder("<")
        most = MOST_ELEMENTS if "bufferView" in told else MOST_CLAIMED
        if not isinstance(count, int) or not 1 <= count <= most:
            raise ValueError(f"accessor {index} claims {count} elements")
        if "bufferView" in told:
            out = self._elements(told, count, kind, width, f"accessor {index}")
        else:
            out = np.zeros((count, width), kind)
        if "sparse" in told:
            held, size = told["sparse"], int(told["sparse"]["count"])
            at = np.dtype(COMPONENTS[held["indices"]["componentType"]]).newbyteorder("<")
            rows = self._elements(held["indices"], size, at, 1, f"accessor {index}")[:, 0]
            if rows.dtype.kind != "u" or rows.max() >= count:
                raise ValueError(f"accessor {index} replaces elements beyond its last")
            out[rows] = self._elements(held["values"], size, kind, width, f"accessor {index}")
        if told.get("normalized") and kind.kind in "iu" and not plain:
            return np.maximum(out.astype(np.float64) / np.iinfo(out.dtype).max, -1)
        return out

    def _elements(self, told: dict[str, Any], count: int, kind: Any, width: int, name: str) -> Any:
        """Returns ``(count,width)`` of a view's bytes from an offset on."""
        data = self.view(told["bufferView"])
        start = int(told.get("byteOffset", 0))
        stride = int(self.json["bufferViews"][told["bufferView"]].get("byteStride", 0))
        stride = stride or kind.itemsize * width
        last = start + stride * (count - 1) + kind.itemsize * width
        if count < 1 or start < 0 or stride < 0 or last > len(data):
            raise ValueError(f"{name} lies outside of its buffer view")
        return np.ndarray((count, width), kind, data, start, (stride, kind.itemsize)).copy()

    def image(self, index: int) -> bytes:
        """Returns the content of an image."""
        told = self.entry("images", index)
        return self.linked(told["uri"]) if "uri" in told else self.view(told["bufferView"])


class GltfEditor:
    """A file's JSON and first buffer while things are added to them.

    Whatever is not asked for stays: other images, animations, cameras, extras, unknown extensions.
    """

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self.json: dict[str, Any] = json.loads(json.dumps(file.json))
        self.blob = bytearray(file.blob or b"")
        first = next(iter(self.json.get("buffers", [])), {"uri": None})
        self.own: int | None = 0 if file.blob is not None and "uri" not in first else None
        """The buffer that is added to: the file's own one, or a new one."""

    def image(self, index: int, content: bytes, kind: str = "image/png") -> None:
        """Puts a picture file's content in the place of an image."""
        told = self.json["images"][index]
        if not self.file.is_binary:
            told.pop("bufferView", None)
            told.pop("mimeType", None)
            told["uri"] = f"data:{kind};base64," + base64.b64encode(content).decode()
            return
        view = told.pop("bufferView", None)
        told.pop("uri", None)
        told["mimeType"] = kind
        if view is not None and self._is_alone(view):
            self._free(view)
            self.json["bufferViews"][view] = self._appended(content)
            told["bufferView"] = view
        else:
            told["bufferView"] = self.add(content)

    def add(self, data: bytes, **more: int) -> int:
        """Appends a buffer view, returns its number."""
        self.json.setdefault("bufferViews", []).append(self._appended(data, **more))
        return len(self.json["bufferViews"]) - 1

    def _appended(self, data: bytes, **more: int) -> dict[str, Any]:
        buffers = self.json.setdefault("buffers", [])
        if self.own is None:
            buffers.append({"byteLength": 0})
            self.own = len(buffers) - 1
        self.blob += b"\0" * (-len(self.blob) % 4)
        start = len(self.blob)
        self.blob += data
        return {"buffer": self.own, "byteOffset": start, "byteLength": len(data), **more}

    def _is_alone(self, view: int) -> bool:
        """Tells whether one image alone uses a view, and its bytes are no other view's."""
        users = [i for i in self.file.json["images"] if i.get("bufferView") == view]
        users += [a for a in self.file.json.get("accessors", []) if a.get("bufferView") == view]
        return len(users) == 1

    def _free(self, view: int) -> None:
        """Cuts a view's bytes off where they are the buffer's last."""
        told = self.json["bufferViews"][view]
        start = told.get("byteOffset", 0)
        end = start + told["byteLength"]
        last = max(
            v.get("byteOffset", 0) + v["byteLength"]
            for i, v in enumerate(self.json["bufferViews"])
            if i != view and v["buffer"] == 0
        )
        if told["buffer"] == 0 and last <= start and end + 3 >= len(self.blob):
            del self.blob[start:]

    def content(self) -> bytes:
        """Returns the whole file."""
        self.blob += b"\0" * (-len(self.blob) % 4)
        inside = self.file.is_binary and not self.own
        if self.blob and self.own is not None:
            told = self.json["buffers"][self.own]
            told["byteLength"] = len(self.blob)
            if not inside:
                told["uri"] = f"data:{BINARY};base64," + base64.b64encode(self.blob).decode()
        if not self.file.is_binary:
            return json.dumps(self.json, indent=1).encode()
        text = json.dumps(self.json, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
        if self.blob and inside:
            chunks += struct.pack("<II", len(self.blob), BIN_CHUNK) + bytes(self.blob)
        return struct.pack("<III", MAGIC, 2, 12 + len(chunks)) + chunks
