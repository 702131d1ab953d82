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

UNREADABLE = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_mesh_quantization")
"""Extensions that, where a file requires them, make its geometry unreadable here."""


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
            told = self.json["buffers"][index]
            data = self.blob if "uri" not in told else self.linked(told["uri"])
            if data is None or len(data) < told["byteLength"]:
                raise ValueError(f"buffer {index} is shorter than it says")
            self._buffers[index] = data
        return self._buffers[index]

    def linked(self, uri: str) -> bytes:
        """Returns what a URI of the file holds: of itself, or of a file in its folder."""
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise ValueError(f"a data URI is damaged ({error})") from error
        return read(beside(self.path.parent, unquote(uri), self.path))

    def view(self, index: int) -> bytes:
        """Returns the bytes of a buffer view."""
        told = self.json["bufferViews"][index]
        start, size = int(told.get("byteOffset", 0)), int(told["byteLength"])
        buffer = self._buffer(int(told["buffer"]))
        if start < 0 or size < 0 or start + size > len(buffer):
            raise ValueError(f"buffer view {index} lies outside of its buffer")
        return buffer[start : start + size]

    def accessor(self, index: int) -> Any:
        """Returns ``(n,width)`` of an accessor; integers that stand for 0..1 as floats."""
        told = self.json["accessors"][index]
        if "sparse" in told:
            raise ValueError(f"accessor {index} is sparse, which is not read")
        kind = np.dtype(COMPONENTS[told["componentType"]]).newbyteorder("<")
        count, width = int(told["count"]), WIDTHS[told["type"]]
        if "bufferView" not in told:
            return np.zeros((count, width), kind)
        data = self.view(told["bufferView"])
        start = int(told.get("byteOffset", 0))
        stride = int(self.json["bufferViews"][told["bufferView"]].get("byteStride", 0))
        stride = stride or kind.itemsize * width
        last = start + stride * (count - 1) + kind.itemsize * width
        if count < 1 or start < 0 or last > len(data):
            raise ValueError(f"accessor {index} lies outside of its buffer view")
        out = np.ndarray((count, width), kind, data, start, (stride, kind.itemsize)).copy()
        if told.get("normalized") and kind.kind in "iu":
            return np.maximum(out.astype(np.float64) / np.iinfo(out.dtype).max, -1)
        return out

    def image(self, index: int) -> bytes:
        """Returns the content of an image."""
        told = self.json["images"][index]
        return self.linked(told["uri"]) if "uri" in told else self.view(told["bufferView"])


class GltfEditor:
    """A file's JSON and first buffer while things are added to them.

    Whatever is not asked for stays: other images, animations, cameras, extras, unknown extensions.
    """

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self.json: dict[str, Any] = json.loads(json.dumps(file.json))
        self.blob = bytearray(file.blob or b"")

    def image(self, index: int, png: bytes) -> None:
        """Puts a PNG in the place of an image."""
        told = self.json["images"][index]
        if not self.file.is_binary:
            told.pop("bufferView", None)
            told.pop("mimeType", None)
            told["uri"] = "data:image/png;base64," + base64.b64encode(png).decode()
            return
        view = told.pop("bufferView", None)
        told.pop("uri", None)
        told["mimeType"] = "image/png"
        if view is not None and self._is_alone(view):
            self._free(view)
            self.json["bufferViews"][view] = self._appended(png)
            told["bufferView"] = view
        else:
            told["bufferView"] = self.add(png)

    def add(self, data: bytes, **more: int) -> int:
        """Appends a buffer view, returns its number."""
        self.json.setdefault("bufferViews", []).append(self._appended(data, **more))
        return len(self.json["bufferViews"]) - 1

    def _appended(self, data: bytes, **more: int) -> dict[str, Any]:
        if not self.json.get("buffers"):
            self.json["buffers"] = [{"byteLength": 0}]
        self.blob += b"\0" * (-len(self.blob) % 4)
        start = len(self.blob)
        self.blob += data
        return {"buffer": 0, "byteOffset": start, "byteLength": len(data), **more}

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
        if not self.file.is_binary:
            return json.dumps(self.json, indent=1).encode()
        self.blob += b"\0" * (-len(self.blob) % 4)
        if self.blob:
            self.json["buffers"][0]["byteLength"] = len(self.blob)
        text = json.dumps(self.json, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
        if self.blob:
            chunks += struct.pack("<II", len(self.blob), BIN_CHUNK) + bytes(self.blob)
        return struct.pack("<III", MAGIC, 2, 12 + len(chunks)) + chunks
