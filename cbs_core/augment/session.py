"""One run of ``cbs-augment``: a labelled set becomes a restyled one."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cbs_core.augment import journal
from cbs_core.augment.journal import Journal
from cbs_core.augment.making import Maker, Wanted, put
from cbs_core.augment.sets import ORIGINAL, Layout
from cbs_core.choose.sections import flag
from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.machine.files import MARK
from cbs_core.machine.terminal import PlainConsole
from cbs_core.run.destinations import writable

ELSEWHERE = ("data", "output", "remake", "quiet", "device")
"""Keys that do not tell how the pictures are made, or that stand beside the others."""

NUMBERS = {"variants": (0, 1000), "seed": (-(2**63), 2**63 - 1), "quality": (1, 100)}
"""Keys that are whole numbers, with the least and the greatest."""

VERSIONS = ("class-based-styling", "torch", "pillow")
"""With others of these the bytes may be others."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be made of one picture of the old set."""

    name: str
    variants: tuple[int | dict[str, Any], ...]
    """Numbers, or records of a manifest that is made again."""


def augment_session(config: Mapping[str, object]) -> int:
    """Makes the set that a composed configuration (``conf/augment.yaml``) describes.

    Returns:
        The exit code: 2 where some pictures could not be made.

    Raises:
        CbsError: whatever a user can mend.
    """
    start = time.perf_counter()
    console = PlainConsole(quiet=flag(config, "quiet"))
    again = None if config["remake"] is None else journal.read(Path(str(config["remake"])))
    wanted = _wanted(config, None if again is None else again[0])
    output = Path(wanted.output)
    writable(output / journal.MANIFEST)
    layout = wanted.layout
    _apart(output, layout)
    due = _planned(wanted, layout) if again is None else _again(again[1], layout)
    maker = Maker(wanted, layout)
    log = Journal(output, _head(wanted))
    try:
        left = [one for one in due if one.name not in log.done]
        if len(left) < len(due) and left:
            console.print(f"{len(due) - len(left)} of {len(due)} pictures are made already")
        failed = _make(maker, left, log, console)
        if not failed:
            items = {one.name: one for one in (*layout.items, *layout.others)}
            for file in layout.common:
                put(output / file.named(ORIGINAL), file.source.read_bytes())
            made = [(items[str(one["of"])], int(one["variant"])) for one in log.records()]
            log.finish(layout.index(made))
        changed = _changed(again[1], log) if again is not None else []
    finally:
        log.close()
    for line in (*failed, *changed):
        console.print(line, markup=False)
    pictures = sum(map(len, log.done.values()))
    console.print(f"{pictures} pictures in {time.perf_counter() - start:.1f} s: {output}")
    return 2 if failed or changed else 0


def _wanted(config: Mapping[str, object], head: Mapping[str, Any] | None) -> Wanted:
    """Reads the configuration; of a manifest that is made again what it tells goes first.

    Raises:
        ConfigError: a value is wrong.
    """
    output = str(Path(str(config["output"])).expanduser())
    if head is not None:
        return Wanted(
            str(config["data"] or head["data"]),
            output,
            {**head["config"], "device": config["device"]},
        )
    if config["data"] is None:
        raise ConfigError("data= names no labelled set: say data=FOLDER, or remake=MANIFEST")
    if config["mattes"] not in ("labels", "segmenter"):
        raise ConfigError(f"mattes={config['mattes']} is neither labels nor segmenter")
    for key, (least, most) in {**NUMBERS, "threads": (1, 1024)}.items():
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"{key}={value} is no whole number in {least}..{most}")
    limit = config["limit"]
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit={limit} is no whole number of 1 or more")
    flag(config, "originals")
    flag(config, "others")
    rest = {key: value for key, value in config.items() if key not in ELSEWHERE}
    data = str(Path(str(config["data"])).expanduser())
    return Wanted(data, output, {**rest, "device": config["device"]})


def _head(wanted: Wanted) -> dict[str, Any]:
    return {
        "program": f"{MARK.decode()} {version('class-based-styling')}",
        "data": wanted.data,
        "config": {key: value for key, value in wanted.config.items() if key not in ELSEWHERE},
        "versions": {name: version(name) for name in VERSIONS},
    }


def _apart(output: Path, layout: Layout) -> None:
    """Refuses a new set inside of the old one, or the other way round.

    Raises:
        ConfigError: they are not apart.
    """
    new, old = output.resolve(), layout.labelled.root.resolve()
    if new == old or new in old.parents or old in new.parents:
        raise ConfigError(f"output={output} is not apart from the set '{old}': name another")


def _planned(wanted: Wanted, layout: Layout) -> list[Due]:
    """Returns what is to be made of each picture, sorted by name."""
    config = wanted.config
    first = ORIGINAL if config["originals"] else ORIGINAL + 1
    variants = tuple(range(first, int(str(config["variants"])) + 1))
    limit = min(int(str(config["limit"] or len(layout.items))), len(layout.items))
    chosen = {index * len(layout.items) // limit for index in range(limit)}
    due = [
        Due(item.name, variants if index in chosen else variants[: first == ORIGINAL])
        for index, item in enumerate(layout.items)
    ]
    due += [Due(item.name, (ORIGINAL,)) for item in layout.others]
    return sorted((one for one in due if one.variants), key=lambda one: one.name)


def _again(records: list[dict[str, Any]], layout: Layout) -> list[Due]:
    """Returns what a manifest tells of each picture.

    Raises:
        ConfigError: the set has no such picture.
    """
    known = {item.name for item in (*layout.items, *layout.others)}
    due: dict[str, list[int | dict[str, Any]]] = {}
    for one in records:
        if one["of"] not in known:
            raise ConfigError(f"the set holds no '{one['of']}', of which the manifest tells")
        number = int(one["variant"])
        due.setdefault(str(one["of"]), []).append(one if number != ORIGINAL else ORIGINAL)
    return [Due(name, tuple(due[name])) for name in sorted(due)]


def _make(maker: Maker, due: list[Due], log: Journal, console: PlainConsole) -> list[str]:
    """Makes what is due; returns a line for each picture that could not be made."""
    failed = []
    for one in _shown(due, console):
        try:
            log.add(maker.make(one.name, one.variants))
        except CbsError as error:
            failed.append(f"not made: {one.name}: {error}")
    return failed


def _shown(due: list[Due], console: PlainConsole) -> Iterator[Due]:
    columns = (TextColumn("restyling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        yield from bars.track(due)


def _changed(records: list[dict[str, Any]], log: Journal) -> list[str]:
    """Returns a line for each picture that was made again and has other bytes."""
    now = {str(one["picture"]): one["sha256"] for one in log.records()}
    return [
        f"made again with other bytes: {one['picture']} (other versions of a library, or weights)"
        for one in records
        if now.get(str(one["picture"]), one["sha256"]) != one["sha256"]
    ]
