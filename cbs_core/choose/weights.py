"""Finding, checking and loading weights.

A weight is named by a file, or by ``ROOM/NAME`` (``johnson/starry_night``), which is looked for in
`search_folders`: what nobody named, a training's output say, never stands in for a package's file
of the same name. Files are safetensors, or torch pickles read with ``weights_only=True``: loading
weights never runs code from the file.
"""

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.choose import packages
from cbs_core.contract.errors import (
    WeightsError,
    WeightsHashError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.errors import closest as did_you_mean
from cbs_core.contract.types import WeightsFile

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt")

SUMS = "SHA256SUMS"
"""In a package's ``weights``: what ``sha256sum`` prints of its files, by paths from there."""

VARIABLE = "CBS_WEIGHTS"
"""The environment variable that names folders of weights, separated as in ``$PATH``."""

_noted: ContextVar[list[WeightsFile]] = ContextVar("noted")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a weight file and what the file says of them."""

    file: WeightsFile
    tensors: dict[str, "Tensor"] = field(repr=False)
    metadata: Mapping[str, str]
    """The safetensors header; empty for a torch file."""

    @property
    def remedy(self) -> str:
        """What to do where it is of another net, by what the header says."""
        kind, _, name = self.metadata.get("plugin", "").partition("/")
        return f"say {kind}={name}" if name else "name the plugin that it was made for"


def search_folders() -> tuple[Path, ...]:
    """Returns the folders in which a named weight is looked for, first match first.

    These are: each of ``$CBS_WEIGHTS``, which the user named; ``weights`` at the top of every
    package of plugins, the project's own first, then strangers' by name; and what happens to lie
    about, ``./weights`` and the user's cache folder. So a training, which writes to ``./weights``,
    adds names and takes none from a package.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "cbs" / "weights"
    return (*_named(), *packages.folders("weights").values(), Path("weights"), cache)


def _named() -> list[Path]:
    """Returns the folders of ``$CBS_WEIGHTS``."""
    paths = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(path).expanduser() for path in paths if path]


def origin(path: Path) -> str:
    """Returns where a weight file is from: ``package NAME``, ``$CBS_WEIGHTS`` or ``path``."""
    path = path.resolve()
    for folder in _named():
        if path.is_relative_to(folder.resolve()):
            return f"${VARIABLE}"
    for package, folder in packages.folders("weights").items():
        if path.is_relative_to(folder.resolve()):
            return f"package {package}"
    return "path"


def of(plugin: object) -> tuple[WeightsFile, ...]:
    """Returns the weight files that a plugin read."""
    from cbs_core.contract.interfaces import HasWeights

    return tuple(plugin.weights_files) if isinstance(plugin, HasWeights) else ()


@contextmanager
def noted() -> Iterator[list[WeightsFile]]:
    """Notes what `load` reads within: of a training, whose parts read files of their own."""
    found: list[WeightsFile] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def told(files: Iterable[WeightsFile]) -> str:
    """Returns weight files and where they are from, for people; ``none`` where there are none.

    ``smp/voc, johnson/wave (package cbs_pastel); mine.safetensors``: of a package the names, of
    other files the path.
    """
    found: dict[str, list[str]] = {}
    for file in dict.fromkeys(files):
        place = origin(file.path)
        short = f"{file.path.parent.name}/{file.path.stem}"
        found.setdefault(place, []).append(short if "package" in place else str(file.path))
    lists = (
        ", ".join(names) + ("" if place == "path" else f" ({place})")
        for place, names in found.items()
    )
    return "; ".join(lists) or "none"


def facts(files: Iterable[WeightsFile]) -> list[dict[str, str | None]]:
    """Returns what a report tells of weight files."""
    return [
        {
            "file": str(file.path),
            "from": origin(file.path),
            "sha256": file.sha256,
            "licence": file.licence or None,
            **({"revision": file.revision} if file.revision else {}),
        }
        for file in files
    ]


def rooms() -> list[str]:
    """Returns the rooms in which a weight file can be found, sorted."""
    found = {
        room.name for folder in search_folders() if folder.is_dir() for room in folder.iterdir()
    }
    return sorted(room for room in found if available(room))


def available(room: str) -> dict[str, Path]:
    """Returns every weight of a room (``johnson``) that can be found, by file stem.

    A stem found in two folders is the first folder's.
    """
    return {stem: paths[0] for stem, paths in everywhere(room).items()}


def everywhere(room: str) -> dict[str, list[Path]]:
    """Returns the files of each stem of a room, the one in force first; the others are shadowed."""
    found: dict[str, list[Path]] = {}
    for folder in search_folders():
        for path in _files(folder / room):
            found.setdefault(path.stem, []).append(path)
    return found


def _files(folder: Path) -> list[Path]:
    """Returns the weight files of a folder, one a stem."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in SUFFIXES:
            found.setdefault(path.stem, path)
    return list(found.values())


def card(path: Path) -> Path | None:
    """Returns the model card of a weight file, the ``.md`` beside it, where there is one."""
    beside = path.with_suffix(".md")
    return beside if beside.is_file() else None


def licence(path: Path) -> str:
    """Returns what a safetensors file's header says of its licence; empty where nothing."""
    return str(header(path).get("licence", ""))


def header(path: Path) -> Mapping[str, str]:
    """Returns what a safetensors file says of itself; the tensors are not read.

    A damaged file says nothing here; `load` tells what is wrong with it.
    """
    import json

    if path.suffix != ".safetensors":
        return {}
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            said = json.loads(file.read(size)) if size <= path.stat().st_size else {}
        return dict(said["__metadata__"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _width(stem: str) -> int:
    width = re.search(r"_width(\d+)$", stem)
    return int(width.group(1)) if width else sys.maxsize


def names(room: str) -> list[str]:
    """Returns the names that `find` knows in a room: the stems without their width, sorted."""
    return sorted({re.sub(r"_width\d+$", "", stem) for stem in available(room)})


def find(room: str, name: str, *, flag: str) -> Path:
    """Returns the file of a named weight: ``NAME.*``, else the widest ``NAME_widthN.*``.

    The first of `search_folders` that has either decides.

    Args:
        room: folder within the search folders, such as ``johnson``.
        name: the weight's name, such as ``starry_night``.
        flag: the option that names a file instead, for the message (``styler.weights``).

    Raises:
        WeightsMissingError: with the closest name, those that there are, and where they were
            looked for.
    """
    pattern = re.compile(re.escape(name) + r"(_width\d+)?")
    for folder in search_folders():
        files = [path for path in _files(folder / room) if pattern.fullmatch(path.stem)]
        if files:
            return max(files, key=lambda path: _width(path.stem))
    known = names(room)
    have = f"there are: {', '.join(known)}" if known else f"no {room} weights were found"
    raise WeightsMissingError(
        f"no {room} weights named '{name}'{did_you_mean(name, known)} ({have}). Give a file with "
        f"{flag}=FILE, or put it as {room}/{name}.pth into one of: "
        f"{', '.join(str(f) for f in search_folders())} ($CBS_WEIGHTS adds a folder)"
    )


def there(path: str | Path, *, folder: bool = True) -> Path:
    """Returns the path of a weight file.

    Args:
        path: the file.
        folder: whether it may be a folder, as of some nets it is.

    Raises:
        WeightsMissingError: nothing is there.
    """
    path = Path(path).expanduser()
    if not path.is_file() and not (folder and path.is_dir()):
        raise WeightsMissingError(f"no weight file '{path}': check the path")
    return path


def load(path: str | Path, *, sha256: str | None = None) -> Checkpoint:
    """Reads a weight file onto the host.

    A torch file's tensors may lie at the top, or under ``model`` or ``state_dict``; a leading
    ``module.`` (DataParallel) is dropped.

    Args:
        path: the file, safetensors or torch.
        sha256: the expected digest, checked before anything is parsed.

    Raises:
        WeightsMissingError: no such file.
        WeightsHashError: another digest than expected.
        WeightsError: the file is damaged or holds no tensors.
    """
    path = there(path, folder=False)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read ({error.strerror}): check it") from error
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise WeightsHashError(f"'{path}' has SHA-256 {digest}, not {sha256}: get the file again")
    written = _written_down(path)
    if written is not None and digest != written:
        raise WeightsHashError(
            f"'{path}' has SHA-256 {digest}, and its package wrote down {written}: it was damaged "
            "or changed; install that package again, or give a file of your own another place"
        )
    tensors, metadata = _parse(path, data)
    tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    if not tensors:
        raise WeightsError(f"'{path}' holds no tensors: it is not a weight file of a net")
    file = WeightsFile(path, digest, metadata.get("licence", ""))
    _noted.get([]).append(file)
    return Checkpoint(file, tensors, metadata)


def _written_down(path: Path) -> str | None:
    """Returns the digest that a package of plugins has of its own weight file, in `SUMS`."""
    path = path.resolve()
    for folder in packages.folders("weights").values():
        if not path.is_relative_to(folder.resolve()):
            continue
        try:
            lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError):  # a stranger's package need not have one
            return None
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        return sums.get(path.relative_to(folder.resolve()).as_posix())
    return None


def _parse(path: Path, data: bytes) -> tuple[dict[str, "Tensor"], Mapping[str, str]]:
    import io
    import pickle

    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load as load_safetensors

    damaged = f"'{path}' is damaged or no weight file: get it again"
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return load_safetensors(data), metadata
        except (SafetensorError, ValueError, OSError) as error:
            raise WeightsError(f"{damaged} ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocol: many lines, and nobody's fault
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"'{path}' is damaged or holds more than tensors, which is not loaded because it could "
            "run code: save it as safetensors"
        ) from error
    except Exception as error:  # torch.load has no common exception for damaged files
        # Never torch's own words: they advise to load the file unsafely.
        raise WeightsError(f"{damaged} ({type(error).__name__})") from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return {}, {}
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}, {}


def load_into(module: "nn.Module", checkpoint: Checkpoint, *, net: str) -> None:
    """Copies a checkpoint's tensors into a module, strictly.

    Args:
        module: the net.
        checkpoint: its weights; every name and shape must match.
        net: the net's name, for the message.

    Raises:
        WeightsKeysError: with what is missing, unexpected or of another shape.
        WeightsError: numbers are not finite, or no floats where floats are due.
    """
    want = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    have = {name: tuple(t.shape) for name, t in checkpoint.tensors.items()}
    problems = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for what, names in (
            ("missing", sorted(want.keys() - have.keys())),
            ("unexpected", sorted(have.keys() - want.keys())),
            (
                "of another shape",
                [f"{n} {have[n]} for {want[n]}" for n in want if have.get(n, want[n]) != want[n]],
            ),
        )
        if names
    ]
    if problems:
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds the weights of another net than {net}: tensors "
            f"{'; '.join(problems)}. Give weights made for {net}, or {checkpoint.remedy}"
        )
    for name, due in module.state_dict().items():
        _check_numbers(name, checkpoint.tensors[name], due, checkpoint.file.path)
    module.load_state_dict(checkpoint.tensors, strict=True)


def _check_numbers(name: str, tensor: "Tensor", due: "Tensor", path: Path) -> None:
    stored = "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
    if stored != "strided":
        raise WeightsError(f"'{path}' holds {stored} as {name}: give weights that are stored whole")
    kind = str(tensor.dtype).removeprefix("torch.")
    floats = tensor.is_floating_point() and tensor.itemsize > 1  # those of a byte are quantised
    if due.is_floating_point() and not floats:
        raise WeightsError(
            f"'{path}' holds {kind} as {name}, where floats are due: give weights that are not "
            "quantised or encoded"
        )
    if tensor.is_complex() and not due.is_complex():
        raise WeightsError(f"'{path}' holds {kind} as {name}: give weights of real numbers")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise WeightsError(
            f"'{path}' holds NaN or infinity as {name}: it is damaged, or its training failed; "
            "get it again, or give other weights"
        )
