"""One run of ``cbs-augment``: a labelled set becomes a restyled one."""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cbs_core.augment import journal
from cbs_core.augment.journal import Journal
from cbs_core.augment.making import Maker, Variants, Wanted, put
from cbs_core.augment.rules import Rule
from cbs_core.augment.sets import ORIGINAL, Layout
from cbs_core.choose import registry
from cbs_core.choose.sections import Choice, choice, flag
from cbs_core.contract.engines import Task
from cbs_core.contract.errors import ConfigError, error_words
from cbs_core.frame.routes import Route
from cbs_core.machine.files import MARK
from cbs_core.machine.inputs import frame_count, picture_formats
from cbs_core.machine.terminal import PlainConsole
from cbs_core.machine.text import complain
from cbs_core.run.destinations import writable

ELSEWHERE = ("data", "output", "remake", "quiet", "device", "engine")
"""Keys that do not tell how the pictures are made, or that stand beside the others."""

NUMBERS = {"variants": (0, 1000), "seed": (-(2**63), 2**63 - 1), "quality": (1, 100)}
"""Keys that are whole numbers, with the least and the greatest."""

VERSIONS = ("class-based-styling", "torch", "pillow")
"""With others of these the bytes may be others."""


INTERRUPTED = 130

Due = Mapping[str, Variants]
"""What is to be made of each picture, by the name that it has in its set."""

BUNDLE = 32
"""Pictures that a worker copies in one task: asking an engine takes longer than one copy."""

SHOWN = 6
"""Names that a line lists."""

TRIES = 3
"""How often a picture is tried before it is given up and named."""


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
    _check_names(due, layout)
    rules = _prepared(wanted, layout)
    styles = _styles(rules) if again is None else again[0].get("styles")
    log = Journal(output, _head(wanted, styles))
    try:
        left = {name: what for name, what in due.items() if name not in log.done}
        _check_same(output, log, due, left)
        if len(left) < len(due) and left:
            console.print(f"{len(due) - len(left)} of {len(due)} pictures are made already")
        for line in _told(left, layout):
            console.print(line, markup=False)
        failed = _make(choice(config.get("engine"), "engine"), wanted, left, log, console)
        if not failed:
            items = {one.name: one for one in (*layout.items, *layout.others)}
            for file in layout.common:
                put(output / file.named(ORIGINAL), file.source.read_bytes())
            made = [(items[str(one["of"])], int(one["variant"])) for one in log.records()]
            log.finish(layout.index(made))
        changed = _changed(again[1], log) if again is not None else []
    except KeyboardInterrupt:
        told = f"interrupted: {len(log.done)} of {len(due)} pictures are made"
        complain(f"cbs-augment: {told}: the same command goes on")
        return INTERRUPTED
    finally:
        log.close()
    for line in (*failed, *changed):
        complain(line)
    pictures = sum(map(len, log.done.values()))
    console.print(f"{pictures} pictures in {time.perf_counter() - start:.1f} s: {output}")
    return 2 if failed or changed else 0


def _told(left: Due, layout: Layout) -> Iterator[str]:
    """Yields what of a set's pictures is not restyled, a line each."""
    items = {item.name: item for item in layout.items}
    moving = [
        item.pair.picture.name
        for name, variants in left.items()
        if (item := items.get(name)) is not None and any(one != ORIGINAL for one in variants)
        if _moves(item.pair.picture)
    ]
    if moving:
        yield f"of several frames the first is taken: {_names(moving)}"
    if layout.labelled.unlabelled:
        yield f"left out, for they have no labels: {_names(layout.labelled.unlabelled)}"


def _moves(picture: Path) -> bool:
    try:
        with Image.open(picture, formats=picture_formats()) as image:
            return frame_count(image) > 1
    except Exception:  # whoever reads it tells
        return False


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _prepared(wanted: Wanted, layout: Layout) -> Sequence[Rule]:
    """Returns the rules, of which all nets can be had; none of these is kept: workers have theirs.

    Raises:
        CbsError: one cannot be had.
    """
    painter, rules = wanted.painter(layout.labelled)
    painter.prepare(rules)
    return rules


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


def _styles(rules: Sequence[Rule]) -> list[list[str]]:
    """Returns what each rule draws from: one that names none draws from all that there are today.

    Their order counts too, by which chance is drawn.
    """

    def told(route: Route) -> str:
        return json.dumps([route.styler, dict(route.params)], sort_keys=True)

    return [[told(route) for route in rule.pool] for rule in rules]


def _head(wanted: Wanted, styles: list[list[str]] | None) -> dict[str, Any]:
    return {
        "styles": styles,
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


def _planned(wanted: Wanted, layout: Layout) -> Due:
    """Returns what is to be made of each picture, sorted by name."""
    config = wanted.config
    first = ORIGINAL if config["originals"] else ORIGINAL + 1
    variants = tuple(range(first, int(str(config["variants"])) + 1))
    limit = min(int(str(config["limit"] or len(layout.items))), len(layout.items))
    chosen = {index * len(layout.items) // limit for index in range(limit)}
    due: dict[str, Variants] = {
        item.name: variants if index in chosen else variants[: first == ORIGINAL]
        for index, item in enumerate(layout.items)
    }
    due |= {item.name: (ORIGINAL,) for item in layout.others}
    return {name: due[name] for name in sorted(due) if due[name]}


def _again(records: list[dict[str, Any]], layout: Layout) -> Due:
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
    return {name: due[name] for name in sorted(due)}


def _check_names(due: Due, layout: Layout) -> None:
    """Refuses a set in which a variant would have the name of another picture.

    Raises:
        ConfigError: one would.
    """
    taken: dict[str, str] = {}
    files = {one.name: one.picture for one in (*layout.items, *layout.others)}
    for name, variants in due.items():
        for one in variants:
            made = files[name].named(one if isinstance(one, int) else int(one["variant"]))
            if (other := taken.setdefault(made, name)) != name:
                raise ConfigError(
                    f"a variant of '{min(name, other, key=len)}' would be called '{made}', as "
                    "another picture is: restyle the set that this one was made of, or rename it"
                )


def _check_same(output: Path, log: Journal, due: Due, left: Due) -> None:
    """Refuses to go on with what was made of other pictures than the set has now.

    Raises:
        ConfigError: there are pictures more, though all were made, or less.
    """
    other = sorted(log.done.keys() - due.keys()) or (sorted(left) if log.whole else [])
    if other:
        raise ConfigError(
            f"'{output}' was made of other pictures than the set has now ('{other[0]}' and "
            f"{len(other) - 1} more differ): name another output="
        )


def _tasks(due: Due) -> Iterator[Task]:
    """Yields tasks: a picture that is painted is one, those that are but copied go together."""
    copied = [name for name, what in due.items() if [*what] == [ORIGINAL]]
    together = {*copied}
    for name in (name for name in due if name not in together):
        yield _task({name: due[name]})
    for at in range(0, len(copied), BUNDLE):
        yield _task({name: due[name] for name in copied[at : at + BUNDLE]})


def _task(due: Due) -> Task:
    first, *more = due
    name = f"{first} and {len(more)} more" if more else first
    return Task(name, {**due}, sum(map(len, due.values())))


def _make(
    engine: Choice, wanted: Wanted, due: Due, log: Journal, console: PlainConsole
) -> list[str]:
    """Has an engine make what is due; returns a line for each picture that could not be made."""
    failed, tried, left = [], Counter[str](), deque(_tasks(due))
    if not due:
        return []
    start = partial(Maker, wanted)
    with (
        registry.engines.create(engine.name, start=start, **engine.params) as workers,
        _progress(len(due), console) as step,
    ):
        out = 0
        while left or out:
            while left and out < max(1, workers.workers):
                workers.submit(left.popleft())
                out += 1
            outcome = workers.wait()
            out -= 1
            name, pictures = outcome.task.name, outcome.task.what
            if outcome.error is None and not outcome.lost:
                for records in outcome.value:
                    log.add(records)
                    step()
                continue
            if len(pictures) > 1:  # which one it was, they tell one by one
                left.extend(_task({one: what}) for one, what in pictures.items())
                continue
            tried[name] += 1
            if tried[name] < TRIES:
                left.append(outcome.task)
            else:
                why = "its worker died each time"
                if outcome.error is not None:
                    why = error_words(outcome.error) or type(outcome.error).__name__
                failed.append(f"not made: {name}: {why}")
                step()
    return failed


@contextmanager
def _progress(total: int, console: PlainConsole) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("restyling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        bar = bars.add_task("", total=total)
        yield lambda: bars.advance(bar)


def _changed(records: list[dict[str, Any]], log: Journal) -> list[str]:
    """Returns a line for each picture that was made again and has other bytes."""
    now = {str(one["picture"]): one["sha256"] for one in log.records()}
    return [
        f"made again with other bytes: {one['picture']} (other versions of a library, or weights)"
        for one in records
        if now.get(str(one["picture"]), one["sha256"]) != one["sha256"]
    ]
