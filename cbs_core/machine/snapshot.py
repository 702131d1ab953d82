"""Plain values and tensors as bytes and back: how a state travels to another process.

The bytes are a safetensors file whose header holds the plain values: reading it runs no code.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cbs_core.contract.errors import StateError

PLAIN = (str, int, float, bool, type(None))

TENSOR, TUPLE = "__tensor__", "__tuple__"
"""What stands for a tensor, by its number, and for a tuple, in the header."""


def dumps(tree: Mapping[str, object]) -> bytes:
    """Returns a tree of mappings, lists, tuples, plain values and tensors as bytes.

    Tensors are taken to the host.

    Raises:
        StateError: it holds something else.
    """
    tensors: dict[str, Tensor] = {}

    def written(value: object) -> object:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {TENSOR: name}
        if isinstance(value, Mapping):
            return {str(key): written(one) for key, one in value.items()}
        if isinstance(value, tuple):
            return {TUPLE: [written(one) for one in value]}
        if isinstance(value, list):
            return [written(one) for one in value]
        if isinstance(value, PLAIN):
            return value
        raise StateError(
            f"a state holds {type(value).__name__}, which cannot be written down: keep tensors, "
            "numbers, texts, lists and mappings"
        )

    header = json.dumps(written(tree))
    return save(tensors or {"none": torch.zeros(0)}, {"tree": header})


def loads(data: bytes) -> dict[str, Any]:
    """Returns what `dumps` was given, its tensors on the host.

    Raises:
        StateError: the bytes are not those of a state.
    """
    try:
        tensors = load(data)
        header = json.loads(_metadata(data)["tree"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise StateError(f"this is no state, or a damaged one ({error})") from error

    def read(value: Any) -> Any:
        if isinstance(value, list):
            return [read(one) for one in value]
        if not isinstance(value, dict):
            return value
        if TENSOR in value:
            return tensors[value[TENSOR]]
        if TUPLE in value:
            return tuple(read(one) for one in value[TUPLE])
        return {key: read(one) for key, one in value.items()}

    tree = read(header)
    assert isinstance(tree, dict)
    return tree


def _metadata(data: bytes) -> dict[str, str]:
    # safetensors tells the header of files alone; the bytes begin with its length.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found = header.get("__metadata__")
    if not isinstance(found, dict):
        raise ValueError("it has no header")
    return found
