"""The files that an ONNX graph is made of: its own, and those of its tensors' external data.

They are read as protobuf reads them, because ONNX Runtime does: an entry's fields may stand in any
order, a length in more bytes than it needs, a message in parts. The package `onnx` would read the
whole graph into memory, and is not there where only ONNX Runtime is.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cbs_core.contract.types import WeightsFile

MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, ENTRY = range(9)

INSIDE: dict[int, dict[int, int]] = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    TENSOR: {13: ENTRY},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
}
"""Message -> the numbers of its fields that lead to a tensor -> what these are (onnx.proto3)."""

KEY, VALUE = 1, 2
"""Fields of an entry of a tensor's external data."""

VARINT, BYTES = 0, 2
SIZES = {1: 8, 5: 4, 3: 0, 4: 0}
"""How a field is written: as a number, with a length, or in so many bytes. The marks of a group,
which nobody writes and protobuf passes over, have none."""


def files_of(path: Path) -> Iterator[WeightsFile]:
    """Yields the file, and those that hold its external data, as far as they are there."""
    graph = path.read_bytes()
    yield WeightsFile(path, hashlib.sha256(graph).hexdigest())
    names: set[bytes] = set()
    with suppress(ValueError):  # it is no graph, which ONNX Runtime tells
        for entry in _entries(memoryview(graph)):
            said = {number: bytes(value) for number, value in _fields(entry)}
            if said.get(KEY) == b"location":
                names.add(said.get(VALUE, b""))
    for name in sorted(names):
        data = path.parent / os.fsdecode(name)
        if b"\0" not in name and data.is_file():
            with data.open("rb") as content:
                yield WeightsFile(data, hashlib.file_digest(content, "sha256").hexdigest())


def _entries(graph: memoryview) -> Iterator[memoryview]:
    """Yields the entries of all tensors' external data.

    Raises:
        ValueError: it is no protobuf.
    """
    left = [(MODEL, graph)]
    while left:
        message, content = left.pop()
        if message == ENTRY:
            yield content
            continue
        for number, value in _fields(content):
            if number in INSIDE[message]:
                left.append((INSIDE[message][number], value))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields number and content of a message's fields that have a length.

    Raises:
        ValueError: it is no message.
    """
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        kind = tag & 7
        if kind in (VARINT, BYTES):
            length, at = _number(message, at)
        elif kind in SIZES:
            length = SIZES[kind]
        else:
            raise ValueError("no field that ONNX has")
        if kind == VARINT:
            continue
        if at + length > len(message):
            raise ValueError("cut short")
        if kind == BYTES:
            yield tag >> 3, message[at : at + length]
        at += length


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """Returns the varint at a place, and the place after it."""
    found = 0
    for index, byte in enumerate(message[at : at + 10]):
        found |= (byte & 127) << 7 * index
        if byte < 128:
            return found, at + index + 1
    raise ValueError("no number")
