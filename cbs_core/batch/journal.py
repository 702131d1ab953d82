"""How far a batch is: a folder beside its output, ``restyled.batch``, for one driver at a time.

``journal.jsonl`` in it tells by a line each what was begun and what is done. It only grows, so that
ten thousand outputs cost ten thousand short lines; one that was cut short by a crash is left out.
It stays when all is done, so that files that are new in the inputs are then done alone.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from cbs_core.batch.items import Item, state_folder
from cbs_core.batch.pieces import Part
from cbs_core.choose import presets
from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine import files
from cbs_core.machine.addresses import shown
from cbs_core.machine.held import HeldFolder
from cbs_core.machine.text import first_difference

VERSION = 1
JOURNAL, PARTS = "journal.jsonl", "parts"

VERSIONS = ("versions", "plugins")
"""Of what workers say of themselves: with others of these the pixels may be a little other."""


class Far(Protocol):
    """A store in which the output lies, and the journal with it."""

    def begin(self, line: bytes) -> None:
        """Begins the journal anew there."""
        ...

    def add(self, line: bytes) -> None:
        """Adds a line to it."""
        ...

    def fetch(self, file: Path) -> None:
        """Has what is told of a part lie here, where there is one."""
        ...

    def forget(self, *places: Path) -> None:
        """Removes there what lies no more at these places here."""
        ...

    def here(self, address: str) -> Path:
        """Returns the path by which an output is known here."""
        ...


class Journal:
    """What was begun and what is done of one output; this process's alone while it is open.

    Args:
        output: the batch's own.
        identity: what its outputs depend on, but for their inputs.
        anew: whether a batch that was wholly done is begun anew.
        far: keeps it too, where the output lies in a store.

    Raises:
        ConfigError: what is there is of another batch, or another one is at it.
        SinkError: nothing can be written there.
    """

    def __init__(
        self, output: Path, identity: object, *, anew: bool = False, far: Far | None = None
    ) -> None:
        self.output = output
        self.folder = state_folder(output)
        self.path = self.folder / JOURNAL
        self.done: dict[str, dict[str, Any]] = {}
        """By name, what is said of an output that is whole."""
        self.begun: set[str] = set()
        """Names of outputs that may be there, whole or not at all."""
        self._free: dict[str, list[str]] = {}
        """Of those that were not there when they were begun, input and stamp."""
        self.facts: Mapping[str, Any] | None = None
        """What the workers said of themselves (`cbs_core.batch.tasks.Hello`)."""
        self._far = far
        self._shares: int | None = None
        self._whole = False
        """Whether all that it tells of was done, when it was closed."""
        self._identity = json.loads(json.dumps(identity, sort_keys=True, default=str))
        keeps = "a batch keeps how far it is"
        self._held = HeldFolder(self.folder, JOURNAL, output=output, who="batch", keeps=keeps)
        try:
            self._file = self._opened(anew)
        except BaseException:
            self._give_back()
            raise

    def _opened(self, anew: bool) -> int:
        if not self.path.is_file() or not self._read(anew):
            self.done, self.begun, self.facts, self._shares = {}, set(), None, None
            self._free = {}
            first = json.dumps({"version": VERSION, "identity": self._identity}) + "\n"
            files.replace(self.path, lambda file: file.write(first.encode()))
            if self._far is not None:
                self._far.begin(first.encode())
        return os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def _read(self, anew: bool) -> bool:
        """Takes what it tells; returns whether that is to be gone on with."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = [*map(json.loads, whole.splitlines())]
            # Of a store: one that was begun anew, and killed before what was there was removed.
            first, *lines = lines[max(at for at, one in enumerate(lines) if "identity" in one) :]
            identity = first["identity"] if first["version"] == VERSION else {}
            for line in lines:
                self._whole = "whole" in line
                if self._whole:  # what is there is no half, but may be another's by now
                    self.begun.clear()
                    self._free.clear()
                self.begun.update(line.get("begun", ()))
                self._free.update(line.get("free", {}))
                self.done.update({one["name"]: one for one in line.get("done", ())})
                self.facts = line.get("facts", self.facts)
                self._shares = line.get("shares", self._shares)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"'{self.path}' is damaged: remove '{self.folder}' to begin anew"
            ) from error
        if self._whole and (anew or not any(map(self._is_there, self.done.values()))):
            return False
        self._same(presets.grown(identity, self._identity, "batch"), self._identity)
        if len(whole) < len(content):  # only now is it known to be none of the user's
            os.truncate(self.path, len(whole))
        return True

    def _same(self, old: object, new: object) -> None:
        if old != new and self._whole:
            raise ConfigError(
                f"'{self.output}' holds what another batch made ({first_difference(old, new)}): "
                "name another output=, or say overwrite=true"
            )
        if old != new:
            raise ConfigError(
                f"'{self.folder}' tells of another batch, of which {len(self.done)} outputs are "
                f"done ({first_difference(old, new)}): say what that one said, or remove the "
                "folder to begin anew"
            )

    def met(self, facts: Mapping[str, Any]) -> str | None:
        """Notes what workers say of themselves: the weights, versions and device they have.

        Returns:
            A line where what is done, and stays, was made by other versions.

        Raises:
            ConfigError: those before had others, of which not all agree with these.
        """
        facts, before = json.loads(json.dumps(facts)), self.facts
        self.facts = facts
        if before == facts:
            return None
        line = None
        if before is not None:
            if _but_versions(before) != _but_versions(facts):
                self._same(_but_versions(before), _but_versions(facts))
            line = first_difference(before, facts)
            if not self._whole:
                raise ConfigError(
                    f"'{self.folder}' tells of a batch that another version began ({line}): "
                    "install that one again, or remove the folder to begin anew"
                )
            line = f"what is there was made by another version ({line}), and stays as it is"
        self._write({"facts": facts})
        return line

    def shares(self, count: int) -> int:
        """Returns for how many workers a video is cut: as many as when the batch was begun."""
        if self._shares is None:
            self._write({"shares": count})
            self._shares = count
        return self._shares

    def begin(self, items: Iterable[Item]) -> None:
        """Notes that outputs may be there from now on, before they are."""
        new = [item for item in items if item.name not in self.begun]
        if new:
            free = [item for item in new if not os.path.lexists(item.output)]
            said = {item.name: [shown(item.input), item.stamp] for item in free}
            self._write({"begun": [item.name for item in new], "free": said})
            self.begun.update(item.name for item in new)
            self._free.update(said)

    def found(self, item: Item) -> bool:
        """Tells whether an output is there that a batch which was ended did not note as done.

        It is whole, for nothing half has its name: the batch's own, or somebody's who put it there,
        or changed it, meanwhile. It is not written over.
        """
        begun = self._free.get(item.name) == [shown(item.input), item.stamp]
        return begun and item.name not in self.done and os.path.lexists(item.output)

    def end(self, done: Iterable[dict[str, Any]]) -> None:
        """Notes outputs that are whole, each with its ``name``, ``input`` and ``stamp``."""
        told = list(done)
        if told:
            self._write({"done": told})
            self.done.update({one["name"]: one for one in told})

    def has(self, item: Item) -> bool:
        """Tells whether an item's output is whole, and of the input as it is now."""
        one = self.done.get(item.name)
        if one is None or (one["input"], one["stamp"]) != (shown(item.input), item.stamp):
            return False
        return self._is_there(one)

    def _is_there(self, done: Mapping[str, Any]) -> bool:
        far = self._far
        return os.path.lexists(done["output"] if far is None else far.here(done["output"]))

    def part(self, file: Path, key: str) -> Part | None:
        """Returns the part of a segment's path (`Part.read`)."""
        if self._far is not None:
            self._far.fetch(file)
        return Part.read(file, key)

    def parts(self, item: Item) -> Path:
        """Returns the folder of an item's parts; it need not be there."""
        return self.folder / PARTS / item.name

    def forget_parts(self, item: Item) -> None:
        """Removes an item's parts."""
        shutil.rmtree(self.parts(item), ignore_errors=True)
        if self._far is not None:
            self._far.forget(self.parts(item))

    def close(self, *, complete: bool, kept: bool = False) -> None:
        """Lets others at it.

        Args:
            complete: whether all is done.
            kept: whether it is to tell of that from now on; else nothing of it is left.
        """
        empty = not (self.done or self.begun or any(self._kept()))
        try:
            if complete:
                with suppress(SinkError):
                    self._write({"whole": True})
        finally:
            os.close(self._file)
            if complete or empty:
                # The journal last: without it what lies there would be another's.
                shutil.rmtree(self.folder / PARTS, ignore_errors=True)
                if empty or not kept:
                    self.path.unlink(missing_ok=True)
            self._give_back()

    def _kept(self) -> Iterable[Path]:
        return (self.folder / PARTS).rglob("*.json")

    def _give_back(self) -> None:
        if self._far is not None:
            self._far.forget(self.folder / PARTS, self.path)
        self._held.give_back()
        with suppress(OSError):  # it tells of what is left to do, or holds something of the user's
            self.folder.rmdir()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = (json.dumps(line) + "\n").encode()
        if self._far is not None:
            self._far.add(text)
        try:
            while text:  # of a disk that becomes full a part is taken, without an error
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError as error:
            raise SinkError(
                f"cannot write '{self.path}': {files.reason(error)}; free some space and say the "
                "same again"
            ) from error


def _but_versions(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in VERSIONS}
