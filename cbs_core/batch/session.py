"""One run of ``cbs-batch``: finds the inputs, goes on where it was ended, and reports."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbs_core.batch import report
from cbs_core.batch.coordinator import Coordinator, told
from cbs_core.batch.items import Naming, find
from cbs_core.batch.journal import Journal
from cbs_core.batch.mirror import Mirror, following
from cbs_core.batch.progress import Shown
from cbs_core.batch.tasks import Hello
from cbs_core.batch.units import Entry, noted, units
from cbs_core.choose import registry, streams
from cbs_core.choose.sections import choice, flag
from cbs_core.contract.engines import Engine, Task, Worker
from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.machine import addresses, stores
from cbs_core.machine.terminal import PlainConsole
from cbs_core.machine.text import complain
from cbs_core.run.destinations import beside, refuse_beside, writable

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130

INDIFFERENT = frozenset(
    {"input", "output", "engine", "quiet", "overwrite", "report", "tries", "pictures", "scheduler"}
)
"""Keys of a configuration that change no pixel of an output."""


def batch_session(config: Mapping[str, object]) -> int:
    """Does a batch (``conf/batch.yaml``, as plain values).

    Returns:
        The exit code: 0; 2 where something could not be done; 130 where Ctrl-C ended it.

    Raises:
        CbsError: whatever a user can mend, before any work.
    """
    with following(config) as mirror:
        batch = _Batch(config, mirror)
        try:
            return batch.run()
        finally:
            batch.close()


def begun(config: Mapping[str, object], root: Path) -> Worker:
    """Builds a worker (`cbs_core.contract.engines.Start`).

    Args:
        config: of the batch.
        root: the path by which its driver knows the output.
    """
    from cbs_core.batch.away import Away  # torch, which the driver can do without
    from cbs_core.batch.work import Workplace

    output = config.get("output")
    far = None if stores.stored(output) is None else Mirror(str(output), root.parent)
    return Away(Workplace(config), far)


class _Batch:
    """A batch, from its configuration to its report."""

    def __init__(self, config: Mapping[str, object], mirror: Mirror | None = None) -> None:
        self._config = config
        self._mirror = mirror
        self._over = flag(config, "overwrite")
        self._window = _count(config, "window", least=2)
        self._bundle = _count(config, "pictures")
        self._tries = _count(config, "tries")
        self._engine = choice(config.get("engine"), "engine")
        self._console: Console = PlainConsole(quiet=flag(config, "quiet"))
        self._complete = False
        naming = _naming(config, mirror)
        self._root = naming.root
        self._found = find(config["input"], naming)
        self._journal: Journal | None = None
        identity = {key: value for key, value in config.items() if key not in INDIFFERENT}
        journal = Journal(naming.root, {"config": identity}, anew=self._over, far=mirror)
        self._journal = journal
        self._hello: Mapping[str, Any] | None = None
        try:
            if not self._over:
                there = [item for item in self._found.items if journal.found(item)]
                journal.end(
                    noted(Entry(item, int(item.still), output=self._address(item.output)))
                    for item in there
                )
            self._due = [
                replace(item, over=self._over or item.name in journal.begun)
                for item in self._found.items
                if not journal.has(item)
            ]
            self._refuse(journal)
        except BaseException:
            self.close()
            raise

    def _refuse(self, journal: Journal) -> None:
        """Refuses what would write over something, before any work.

        Raises:
            CbsError: with what is to be changed.
        """
        there = [item for item in self._due if os.path.lexists(item.output)]
        inputs = _files(one.input for one in self._found.items) if there else {}
        for item in there:
            taken_from = inputs.get(_file(self._address(item.output)))
            if taken_from is not None:
                whose = "its output" if taken_from == item.input else f"that of '{item.input}'"
                raise ConfigError(
                    f"'{taken_from}' would be written over by {whose}: choose another output="
                )
        taken = [item.output for item in there if not item.over]
        if taken:
            more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
            raise ConfigError(
                f"'{taken[0]}'{more} is there already: name another output=, or say overwrite=true"
            )
        for output in {item.output.suffix.lower(): item.output for item in self._due}.values():
            sink = streams.sink_for(str(output))
            given = choice(self._config.get("sink") or {"name": "null"}, "sink")
            params = given.params if given.name == sink else {}
            streams.check_output(sink, str(output), params)
        self._report = self._report_path()
        if self._report is not None:
            ours = bool(journal.done or journal.begun)
            refuse_beside("report", self._report, overwrite=self._over or ours)

    def _address(self, output: Path) -> str:
        """Returns what an output is called where it lies."""
        return str(output) if self._mirror is None else self._mirror.told(str(output))

    def _report_path(self) -> Path | None:
        name = self._config.get("report")
        if name is None:
            return None
        if Path(str(name)).name != name:
            raise ConfigError(f"report={name} is no plain file name: it lies beside the output")
        return beside(self._root, {"report": str(name)}, whole=not self._alone)["report"]

    @property
    def _alone(self) -> bool:
        """Whether its output is a file."""
        return len(self._found.items) == 1 and self._found.items[0].output == self._root

    def run(self) -> int:
        """Does what is left to do."""
        journal = self._journal
        assert journal is not None
        earlier = [journal.done[one.name] for one in self._found.items if journal.has(one)]
        if earlier:
            self._console.print(f"{len(earlier)} of {len(self._found.items)} were done before")
        shown = Shown(self._console, len(self._due), sum(one.still for one in self._due))
        if self._due:
            try:
                self._work(journal, shown)
            except KeyboardInterrupt:
                done = sum(journal.has(one) or journal.found(one) for one in self._found.items)
                complain(
                    f"interrupted: {done} of {len(self._found.items)} are done: the same command "
                    "goes on"
                )
                return INTERRUPTED
        self._complete = not shown.tally.failed
        passed = self._found.passed_over
        facts = report.as_dict(shown.tally, earlier, passed, self._hello, self._config)
        self._end(facts, shown)
        return 0 if self._complete else 2

    def _work(self, journal: Journal, shown: Shown) -> None:
        start = partial(begun, dict(self._config), self._root)
        with registry.engines.create(
            self._engine.name, start=start, **self._engine.params
        ) as engine:
            self._hello = _met(engine)
            other = journal.met(self._hello["depends"])
            for line in (*self._hello["lines"], *([] if other is None else [other])):
                self._console.print(line)
            parts = units(
                self._due,
                journal,
                window=self._window,
                pictures=self._bundle,
                tries=self._tries,
                workers=engine.workers,
            )
            with shown.showing():
                Coordinator(engine, parts, tries=self._tries, watcher=shown).run()

    def _end(self, facts: Mapping[str, Any], shown: Shown) -> None:
        written = None if self._report is None else report.write(facts, self._report, over=True)
        if written is not None and self._mirror is not None:
            self._mirror.put(written)
        tally, counts = shown.tally, facts["outputs"]
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        self._console.print(f"{told} · {tally.frames} frames · {tally.fps:.1f} FPS")
        places = [self._root, *([] if written is None else [written])]
        for place in places:
            self._console.print(self._address(place))
        if tally.failed:
            more = f" (and {len(tally.failed) - 1} more)" if len(tally.failed) > 1 else ""
            where = f"; '{self._address(written)}' tells of each" if written else ""
            first = tally.failed[0]
            complain(
                f"cbs-batch: error: {len(tally.failed)} of {len(self._found.items)} could not be "
                f"done: {addresses.shown(first.item.input)}: {first.error}{more}{where}; the same "
                "command tries these again"
            )

    def close(self) -> None:
        """Lets others at the output; where all is done, nothing of the work is left."""
        journal, self._journal = self._journal, None
        if journal is not None:
            shutil.rmtree(journal.folder / "drafts", ignore_errors=True)
            journal.close(complete=self._complete, kept=not self._alone)


def _file(path: str) -> object:
    """Returns what tells a file from another, whatever name it has; None where it is not there."""
    file = stores.stored(path)
    if file is not None:
        return file.path
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _files(paths: Iterable[str]) -> dict[object, str]:
    """Returns files by `_file`."""
    found = {_file(path): path for path in paths}
    found.pop(None, None)
    return found


def _met(engine: Engine) -> Mapping[str, Any]:
    """Returns what a worker says of itself, with its nets built.

    Raises:
        CbsError: the configuration is wrong, or a plugin cannot be had.
    """
    engine.submit(Task("hello", Hello(), size=0))
    outcome = engine.wait()
    if outcome.error is not None:
        raise outcome.error
    if outcome.lost:
        raise CbsError(f"no worker could build its nets ({told(outcome)})")
    facts: Mapping[str, Any] = outcome.value
    return facts


def _naming(config: Mapping[str, object], mirror: Mirror | None) -> Naming:
    output = config.get("output")
    if not isinstance(output, str) or not output:
        raise ConfigError("output= names nothing: name a folder")
    suffixes = {key: str(config.get(f"{key}_suffix")) for key in ("picture", "video")}
    for key, suffix in suffixes.items():
        if suffix != "auto" and not suffix.startswith("."):
            raise ConfigError(f"{key}_suffix={suffix} is no suffix: say .png, .mp4 or so")
        if suffix != "auto":
            streams.check_output(streams.for_suffix("sink", suffix), f"{key}{suffix}", {})
    root = Path(stores.local(output)).expanduser() if mirror is None else mirror.root
    if mirror is None:
        writable(root)
    if root.name in ("", ".."):  # of '.' the folder's own name, which what lies beside it has too
        root = Path(os.path.abspath(root))
    if not root.name:
        raise ConfigError(f"output={output} is no place for a batch: name a folder")
    address = None if mirror is None else output.rstrip("/")
    return Naming(root, suffixes["picture"], suffixes["video"], address)


def _count(config: Mapping[str, object], key: str, *, least: int = 1) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key}={value} is no whole number of {least} or more")
    return value
