"""A batch whose output lies in an object store, as its driver sees it: a folder that tells of it.

In that folder lie the journal, what is told of parts, and an empty file for whatever else is there,
so that the driver looks at paths as always. What is true lies in the store: the folder is made anew
by each run, on whatever machine. There the journal is an object a line, numbered; a number is given
once, so that the store itself tells a second driver, which then leaves all as it is.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cbs_core.batch.items import state_folder
from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.machine.scratch import scratch
from cbs_core.machine.stores import Store, TakenError, stored

JOURNAL, LINES, STATE = "journal.jsonl", "journal/", ".state"


@contextmanager
def following(config: Mapping[str, object]) -> "Iterator[Mirror | None]":
    """Yields the mirror of an output in a store; None of another one.

    Raises:
        CbsError: the store cannot be had; whatever is raised within names addresses there.
    """
    output = config.get("output")
    if stored(output) is None:
        yield None
        return
    with scratch("cbs-batch-") as made:
        mirror = Mirror(str(output), made)
        try:
            mirror.pull(str(config.get("report")))
            yield mirror
        except CbsError as error:
            text = mirror.told(str(error))
            if text == str(error):
                raise
            raise type(error)(text) from error


class Mirror:
    """Follows a store (`cbs_core.batch.journal.Far`).

    Args:
        address: of the output.
        folder: an empty one here, or whose there is none, by which paths are known all the same.

    Raises:
        ConfigError: nothing can be written to such an address, or an extra is not installed.
    """

    def __init__(self, address: str, folder: Path) -> None:
        output = address.rstrip("/")
        if "/" not in output.partition("://")[2]:
            raise ConfigError(f"output={address} names a bucket alone: name a folder in it")
        self.store = Store(output.rpartition("/")[0])
        self.root = folder / output.rpartition("/")[2]
        """The path by which the output is known here."""
        self._lines = 0
        self._ours = False
        """Whether the last line there is known to be this driver's."""

    def name(self, path: Path) -> str:
        """Returns a path's name in the store."""
        return path.relative_to(self.root.parent).as_posix()

    def told(self, text: str) -> str:
        """Returns a text with addresses for paths."""
        return text.replace(str(self.root.parent), self.store.root.address)

    def here(self, address: str) -> Path:
        """See `Far`."""
        return Path(address.replace(self.store.root.address, str(self.root.parent), 1))

    def pull(self, report: str) -> None:
        """Has lie here what tells of the store.

        Args:
            report: what the configuration calls it.

        Raises:
            SinkError: it cannot be read.
        """
        reports = {f"{self.root.name}.report.json", f"{self.root.stem}.report.json", report}
        state, lines = state_folder(self.root), self._numbered()
        below = [self.root.name, self.name(state), *sorted(reports)]
        for name in dict.fromkeys(name for one in below for name in self.store.names(one)):
            path = self.root.parent / name
            if name not in lines and not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.store.read(name) if path.suffix == ".json" else b"")
        if lines:
            state.mkdir(parents=True, exist_ok=True)
            (state / JOURNAL).write_bytes(b"".join(map(self.store.read, lines)))
            self._lines = 1 + int(Path(lines[-1]).stem)

    def put(self, path: Path) -> None:
        """Copies a file of the driver's to the store."""
        self.store.put(path, self.name(path), over=True)

    def begin(self, line: bytes) -> None:
        """See `Far`; what was there is removed when it is known that no other driver is at it."""
        number = self._lines
        self.add(line)
        self.store.remove([one for one in self._numbered() if int(Path(one).stem) < number])

    def add(self, line: bytes) -> None:
        """See `Far`.

        Raises:
            ConfigError: another driver has added one meanwhile.
        """
        try:
            self.store.write(line, f"{self._journal}{self._lines:09d}.jsonl", over=False)
        except TakenError as error:
            self._ours = False
            raise ConfigError(
                f"another batch is writing '{self.root}': wait for it, or choose another output="
            ) from error
        self._lines += 1
        self._ours = True

    @property
    def _journal(self) -> str:
        return f"{self.name(state_folder(self.root))}/{LINES}"

    def _numbered(self) -> list[str]:
        """Returns the names of the journal's lines, in order."""
        return self.store.names(self._journal)

    def fetch(self, file: Path) -> None:
        """See `Far`."""
        note = file.with_suffix(".json")
        there = {*self.store.names(self.name(file.parent))}
        if self.name(note) not in there:
            return
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(self.store.read(self.name(note)))
        for one in (file, file.with_suffix(STATE)):
            if self.name(one) in there:
                one.touch()

    def forget(self, *places: Path) -> None:
        """See `Far`; what may be another driver's stays."""
        for place in places if self._ours else ():
            if not os.path.lexists(place):
                below = self._journal if place.name == JOURNAL else self.name(place)
                self.store.remove(self.store.names(below))
