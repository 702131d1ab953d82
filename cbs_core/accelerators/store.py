"""What accelerators keep on the disk between runs: converted nets, and what was measured of them.

A name is made of everything that a kept thing depends on, so that nothing is ever out of date, only
unused: the folder may be deleted at any time. Each file begins with the SHA-256 of the rest; one
that does not fit it is made again.
"""

import hashlib
import inspect
import json
import logging
import os
import pickle
import platform
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import WeightsFile
from cbs_core.machine.background import threads
from cbs_core.machine.files import replace
from cbs_core.machine.memory import available

log = logging.getLogger("cbs")

DIGEST = 64
"""Characters of a SHA-256."""


def folder() -> Path:
    """Returns ``accelerators`` in ``$CBS_CACHE``, or else in ``$XDG_CACHE_HOME/cbs``."""
    named = os.environ.get("CBS_CACHE")
    cache = Path(named or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "cbs")
    return cache.expanduser() / "accelerators"


UNWRITABLE = (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError)
"""What `pickle` raises of lambdas, open files, cycles and the like."""


class Store:
    """Kept things of one module on one device.

    Args:
        module: see `fingerprint`; one that has none is not kept.
        device: whose name is part of every name.
        told_apart: `fingerprint`; `form` for what holds whatever the weights' values, or `design`
            for what holds for all modules of one design.
        anywhere: whether its things hold on every machine, so that they may be copied to another.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        told_apart: Callable[[nn.Module], str] | None = None,
        *,
        anywhere: bool = False,
    ) -> None:
        self._folder = folder()
        self._of = module, device
        try:
            parts = (
                (told_apart or fingerprint)(module),
                "anywhere" if anywhere else _machine(device),
                versions("class-based-styling", "torch"),
            )
        except UNWRITABLE as error:
            log.debug("%s is not kept between runs: %s", type(module).__name__, error)
            self.base: str | None = None
            """What tells it from other modules' things; None where nothing is kept."""
        else:
            self.base = repr(parts)

    @cached_property
    def shared(self) -> "Store":
        """What is kept of all modules of this one's design, whatever their weights."""
        return self if self.base is None else Store(*self._of, design)

    @cached_property
    def alike(self) -> "Store":
        """What is kept of all modules that differ from this one in their weights' values alone."""
        return self if self.base is None else Store(*self._of, form)

    @cached_property
    def anywhere(self) -> "Store":
        """What is kept of this very module and holds on every machine."""
        return self if self.base is None else Store(*self._of, anywhere=True)

    def read(self, *parts: object) -> bytes | None:
        """Returns what was kept under these parts, or None."""
        path = self._path(parts)
        if path is None:
            return None
        try:
            # A pipe there would never be read to its end.
            if not path.is_file() or path.stat().st_size > available(torch.device("cpu")) // 2:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        digest, content = data[:DIGEST], data[DIGEST:]
        if digest != hashlib.sha256(content).hexdigest().encode():
            log.info("'%s' is damaged and is made again", path)
            return None
        return content

    def write(self, content: bytes, *parts: object) -> None:
        """Keeps something; where that cannot be, warns once and goes on without."""
        path = self._path(parts)
        if path is None:
            return
        data = hashlib.sha256(content).hexdigest().encode() + content
        try:
            if path.is_dir():  # under another name it would never be found
                raise SinkError(f"'{path.name}' is a folder")
            replace(path, lambda file: file.write(data))
        except SinkError as error:
            if str(path.parent) not in _warned:
                _warned.add(str(path.parent))
                reason = str(error.__cause__ or error).partition("\n")[0]
                log.warning(
                    "nothing is kept for the next run, because '%s' cannot be written (%s): make "
                    "room there, or set CBS_CACHE to another folder",
                    path.parent,
                    reason,
                )

    def read_json(self, *parts: object) -> Any:
        """Returns plain values that were kept, or None."""
        content = self.read(*parts)
        try:
            return None if content is None else json.loads(content)
        except (ValueError, RecursionError):
            log.info("what was kept of %s is no JSON and is made again", parts[0])
            return None

    def write_json(self, values: object, *parts: object) -> None:
        """Keeps plain values."""
        self.write(json.dumps(values).encode(), *parts)

    def _path(self, parts: tuple[object, ...]) -> Path | None:
        if self.base is None:
            return None
        return self._folder / hashlib.sha256(repr((self.base, parts)).encode()).hexdigest()


_warned: set[str] = set()
"""Folders that a warning has named: one line a process is enough."""


def fingerprint(module: nn.Module) -> str:
    """Returns a SHA-256 of a module: its tensors, its other attributes and its classes' files.

    Raises:
        Exception: one of `UNWRITABLE`, where it holds what cannot be written down.
    """
    return _written(module, _Pickler)


def form(module: nn.Module) -> str:
    """Returns a SHA-256 of what `fingerprint` is of, but of parameters their shapes and types only.

    Which weight file they are from does not count either.

    Raises:
        Exception: as `fingerprint`.
    """
    return _written(module, _FormPickler)


def _written(module: nn.Module, kind: "type[_Pickler]") -> str:
    digest = hashlib.sha256(_pickled(module, kind))
    _add_classes(digest, module)
    return digest.hexdigest()


def _pickled(value: object, kind: "type[_Pickler]") -> bytes:
    written = BytesIO()
    pickler = kind(written, protocol=5)
    # Without memory of what was written, equal values are written alike, whatever they share.
    pickler.fast = True
    pickler.dump(value)
    return written.getvalue()


def design(module: nn.Module) -> str:
    """Returns a SHA-256 of what two modules have in common that do the same work.

    They are its parts and their classes' files, and the shapes and types of its tensors.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__qualname__}\n".encode())
    tensors = chain(module.named_parameters(), module.named_buffers())
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    _add_classes(digest, module)
    return digest.hexdigest()


def _add_classes(digest: "hashlib._Hash", module: nn.Module) -> None:
    files = set()
    for kind in {type(part) for part in module.modules()}:
        if not kind.__module__.startswith("torch."):
            try:
                files.add(inspect.getfile(kind))
            except (OSError, TypeError):  # a class typed into a notebook has none
                digest.update(kind.__qualname__.encode())
    for content in sorted(Path(file).read_bytes() for file in files if Path(file).is_file()):
        digest.update(hashlib.sha256(content).digest())


class _Pickler(pickle.Pickler):
    """Writes a tensor as its digest: torch's own way has addresses in it.

    A set is written in an order of its own: Python's is another in each process.
    """

    def persistent_id(self, obj: Any) -> object:
        if isinstance(obj, set | frozenset):
            return type(obj).__name__, sorted(_pickled(one, type(self)) for one in obj)
        if not isinstance(obj, Tensor):
            return None
        values = obj.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        return str(obj.dtype), tuple(obj.shape), hashlib.sha256(values.data).hexdigest()


class _FormPickler(_Pickler):
    """Writes of a parameter what it is like."""

    def persistent_id(self, obj: Any) -> object:
        if isinstance(obj, nn.Parameter):
            return str(obj.dtype), tuple(obj.shape)
        return "weights" if isinstance(obj, WeightsFile) else super().persistent_id(obj)


def versions(*names: str) -> tuple[str, ...]:
    """Returns the versions of some distributions, empty where one is absent."""
    found = []
    for name in names:
        try:
            found.append(version(name))
        except PackageNotFoundError:
            found.append("")
    return tuple(found)


def _machine(device: torch.device) -> tuple[object, ...]:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device), torch.version.cuda
    return platform.machine(), _cpu_name(), threads()


def _cpu_name() -> str:
    """Returns the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = dict(line.partition("\t")[::2] for line in lines)
    return "".join(told.get(key, "") for key in ("model name", "flags"))
