"""What a batch does: files, folders, globs and manifests, made into inputs with their outputs."""

import csv
import glob
import json
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TypeVar

from cbs_core.choose import streams
from cbs_core.contract.errors import ConfigError, SourceError, closest
from cbs_core.machine import stores
from cbs_core.machine.addresses import shown
from cbs_core.machine.files import alike, is_marked, reason
from cbs_core.machine.inputs import missing

MANIFESTS = (".csv", ".jsonl", ".txt")
"""Suffixes of files that list inputs, a line each."""

AUTO = "auto"

Pure = TypeVar("Pure", bound=PurePath)


@dataclass(frozen=True, slots=True)
class Item:
    """An input and its output."""

    name: str
    """The output below the batch's own, with ``/``: what it is called everywhere."""

    input: str
    output: Path
    still: bool = False
    """Whether it is one picture."""

    stamp: str = ""
    """Tells the file from a changed one: its size and time."""

    over: bool = False
    """Whether an output of that name is replaced."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the inputs are."""

    items: tuple[Item, ...]
    passed_over: tuple[str, ...] = ()
    """Files of folders that are neither picture nor video by their names."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How outputs are called."""

    root: Path
    """What ``output=`` names."""

    pictures: str = ".png"
    """Suffix of every picture."""

    videos: str = AUTO
    """Of every video; ``auto``: the input's, where such a file can be written, else ``.mp4``."""

    address: str | None = None
    """Of the root, where that lies in a store."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An input, and where it lies below what was named."""

    path: str
    below: Path
    output: str | None = None
    """As a manifest names it."""

    stamp: str | None = None
    """`Item.stamp`, where it is known."""


def find(inputs: object, naming: Naming) -> Found:
    """Returns all inputs with their outputs, in order.

    Args:
        inputs: a file, a folder, a glob, a manifest (`MANIFESTS`), or a list of these.
        naming: of the outputs.

    Raises:
        CbsError: one is not there, none is, or two have one output.
    """
    named = [str(one) for one in inputs] if isinstance(inputs, Sequence | Iterable) else []
    named = [str(inputs)] if isinstance(inputs, str) else named
    passed: list[str] = []
    entries = [entry for one in named for entry in _entries(one, naming, passed)]
    if not entries:
        raise SourceError(f"no picture and no video in {', '.join(named) or 'input='}")
    unique = list({(os.path.abspath(one.path), one.output): one for one in entries}.values())
    return Found(tuple(_items(unique, naming)), tuple(passed))


def _entries(named: str, naming: Naming, passed: list[str]) -> Iterator[_Entry]:
    named, root = stores.local(named), naming.root
    path = Path(named).expanduser()
    if "://" in named:
        yield from _in_store(named, naming.address, passed)
    elif path.is_dir():
        yield from _below(path, root, passed)
    elif path.suffix.lower() in MANIFESTS and path.is_file():
        yield from _listed(path)
    elif not os.path.lexists(path) and glob.has_magic(named):
        base = _fixed(path)
        own = _own_below(base, root)
        files = sorted(_like(path, base), key=lambda one: _natural(str(one)))
        if own:  # what the batch itself wrote, when it is said again
            files = [one for one in files if own.isdisjoint(one.resolve().parents)]
        if not files:
            raise SourceError(f"no file is like '{named}': check the pattern")
        yield from (_Entry(str(one), one.relative_to(base)) for one in files)
    elif not os.path.lexists(path):
        raise SourceError(missing(path))
    else:
        yield _Entry(str(path), Path(path.name))


def _in_store(named: str, root: str | None, passed: list[str]) -> Iterator[_Entry]:
    """Yields a file of a store, those below a folder there, or those like a glob.

    Raises:
        SourceError: there is none.
    """
    place = stores.stored(named)
    if place is None or stores.is_file(place):
        yield _address(named)
        return
    wild = glob.has_magic(named)
    found = stores.listed(place)
    if not found:
        like = "is like" if wild else "is called, or lies below,"
        raise SourceError(f"no file {like} '{place}': check the address")
    known = streams.suffixes("source")
    base = _fixed(place.path) if wild else place.path
    own = _own_there(base, root)
    for file, stamp in found:
        if not own.isdisjoint(file.path.parents):  # what the batch itself wrote
            continue
        if not wild and not _wanted(file.name, known):
            passed.append(str(file))
            continue
        yield _Entry(file.address, Path(file.path.relative_to(base)), stamp=stamp)


def _own_there(base: PurePath, root: str | None) -> set[PurePath]:
    """Returns those of the batch's own folders in a store that lie below ``base``."""
    place = stores.stored(root)
    own = set() if place is None else {place.path, state_folder(place.path)}
    return {one for one in own if base in one.parents}


def _address(named: str, output: str | None = None) -> _Entry:
    file = stores.stored(named)
    below = Path(file.name if file else named.partition("://")[2].rpartition("/")[2])
    if not below.name or named.endswith("/"):
        raise ConfigError(f"'{shown(named)}' names no file: a batch takes files")
    return _Entry(named, below, output)


def _wanted(name: str, known: frozenset[str]) -> bool:
    """Tells whether a file is a picture or a video by its name."""
    suffix = Path(name).suffix.lower()
    kind = mimetypes.guess_type(f"a{suffix}")[0] or ""
    return suffix in known or kind.startswith("video/")


def _own(root: Path) -> set[Path]:
    return {root.resolve(), state_folder(root).resolve()}


def _own_below(base: Path, root: Path) -> set[Path]:
    """Returns those of the batch's own folders that a glob below ``base`` may find."""
    return {one for one in _own(root) if base.resolve() in one.parents}


def _below(folder: Path, root: Path, passed: list[str]) -> Iterator[_Entry]:
    own, known = _own(root), streams.suffixes("source")

    def failed(error: OSError) -> None:
        raise SourceError(f"folder '{error.filename}' cannot be read: {reason(error)}") from error

    for above, folders, names in os.walk(folder, onerror=failed):
        here = Path(above)
        folders[:] = sorted(
            (
                one
                for one in folders
                if not one.startswith(".") and (here / one).resolve() not in own
            ),
            key=_natural,
        )
        for name in sorted(names, key=_natural):
            file = here / name
            if name.startswith(".") or (name.endswith(".sheet.png") and is_marked(file)):
                continue
            if _wanted(name, known):
                yield _Entry(str(file), file.relative_to(folder))
            else:
                passed.append(str(file))


def _listed(manifest: Path) -> Iterator[_Entry]:
    """Yields what a manifest lists; its paths are from its own folder.

    Raises:
        SourceError: it cannot be read.
        ConfigError: it is none.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as opened:
            rows = [_checked(row) for row in _rows(opened, manifest.suffix.lower())]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"'{manifest}' cannot be read: {reason(error)}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(
            f"'{manifest}' is no manifest ({error}): .txt holds a path a line, .csv a column "
            'input and perhaps one output, .jsonl {"input": PATH, "output": PATH} a line'
        ) from error
    for row in rows:
        path, output = stores.local(row["input"]), row.get("output") or None
        if "://" in path:
            yield _address(path, output)
            continue
        relative = Path(path).expanduser()
        inside = not relative.is_absolute() and ".." not in relative.parts
        file = manifest.parent / relative
        yield _Entry(str(file), relative if inside else Path(relative.name), output)


def _checked(row: Mapping[str, str]) -> Mapping[str, str]:
    """Returns a row of a manifest, which says nothing but what is known.

    Raises:
        ValueError: it says more, or what no file is called.
    """
    known = ("input", "output")
    for key, value in row.items():
        if key not in known and value:
            word = "more in a line than it has columns" if key is None else f"unknown key '{key}'"
            raise ValueError(f"{word}{closest(str(key), known)}")
        if key in known and "\0" in (value or ""):
            raise ValueError(f"a null byte in '{value[:60]}'")
    return row


def _rows(opened: Iterable[str], suffix: str) -> Iterator[Mapping[str, str]]:
    if suffix == ".csv":
        for row in csv.DictReader(opened):
            if not row.get("input"):
                raise ValueError("no column 'input', or nothing in it")
            yield row
        return
    for line in map(str.strip, opened):
        if not line or line.startswith("#"):
            continue
        one = json.loads(line) if suffix == ".jsonl" else {"input": line}
        if not isinstance(one, dict) or not isinstance(one.get("input"), str):
            raise ValueError(f"'{line[:60]}' names no input")
        if not isinstance(one.get("output") or "", str):
            raise ValueError(f"'{line[:60]}' names no output")
        yield one


def _items(entries: Sequence[_Entry], naming: Naming) -> Iterator[Item]:
    alone = len(entries) == 1 and naming.root.suffix and not naming.root.is_dir()
    kinds: dict[str, tuple[bool, str]] = {}
    for entry in entries:  # by suffix, for to look through all packages takes a millisecond
        suffix = entry.below.suffix
        if suffix not in kinds:
            still = streams.is_still(streams.for_suffix("source", suffix))
            kinds[suffix] = still, _suffix(suffix.lower(), still, naming)
    made = [_item(one, naming, kinds[one.below.suffix], alone=bool(alone)) for one in entries]
    # a.jpg beside a.png: with their suffixes their outputs stay two.
    count = Counter(alike(item.name) for item in made)
    names: dict[str, str] = {}
    for entry, item in zip(entries, made, strict=True):
        if count[alike(item.name)] > 1 and entry.output is None:
            suffix = item.output.suffix
            name = entry.below.with_name(entry.below.name + suffix).as_posix()
            item = replace(item, name=name, output=naming.root / name)
        other = names.setdefault(alike(item.name), entry.path)
        if other is not entry.path:
            raise ConfigError(
                f"'{other}' and '{entry.path}' would both become '{item.output}': rename one, or "
                "name their outputs in a manifest"
            )
        yield item


def _item(entry: _Entry, naming: Naming, kind: tuple[bool, str], *, alone: bool) -> Item:
    path, (still, suffix) = entry.path, kind
    if alone:
        output, name = naming.root, naming.root.name
    elif entry.output is not None:
        name = Path(entry.output).as_posix()  # ./a.png is a.png
        if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).suffix:
            raise ConfigError(
                f"'{name}', an output of a manifest, must be a file's name below '{naming.root}'"
            )
        output = naming.root / name
    else:
        below = entry.below.with_suffix(suffix)
        output, name = naming.root / below, below.as_posix()
    stamp = _stamp(path) if entry.stamp is None else entry.stamp
    return Item(name, path, output, still, stamp)


def _stamp(path: str) -> str:
    try:
        if (file := stores.stored(path)) is not None:
            return stores.stamp(file)
        stat = os.stat(path)
    except (OSError, SourceError):  # whoever reads it tells
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _suffix(own: str, still: bool, naming: Naming) -> str:
    """Returns the suffix of an output, given its input's."""
    if still:
        return naming.pictures
    if naming.videos != AUTO:
        return naming.videos
    sink = streams.sink_for("a.mp4")
    said = streams.by_path("sink", sink) or {}
    return own if own in said.get("writes", ()) else streams.unnamed(sink)


def _fixed(pattern: Pure) -> Pure:
    """Returns the folders of a glob before its first wild one."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return type(pattern)(*parts)


def _like(pattern: Path, base: Path) -> list[Path]:
    """Returns the files below a folder that a glob means, hidden ones where it names such.

    ``**`` follows no links, which may lead back.

    Raises:
        SourceError: it is no pattern.
    """
    parts = pattern.relative_to(base).parts
    parts += ("*",) if parts[-1] == "**" else ()
    try:
        found = [one for one in base.glob("/".join(parts)) if one.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise SourceError(f"'{pattern}' is no pattern ({error}): check it") from error
    if any(part.startswith(".") for part in parts):
        return found
    return [one for one in found if not any(_hidden(one.relative_to(base)))]


def _hidden(path: Path) -> Iterator[bool]:
    return (part.startswith(".") for part in path.parts)


def _natural(text: str) -> list[tuple[int, str]]:
    # "img2" before "img10": runs of digits compare as numbers.
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", text.casefold())
    ]


def state_folder(output: Pure) -> Pure:
    """Returns the folder in which a batch keeps how far it is: ``restyled.batch``."""
    return output.with_name(f"{output.name}.batch")
