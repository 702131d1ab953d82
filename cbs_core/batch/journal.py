"""How far a batch is: a folder beside its output, ``restyled.batch``, for one driver at a time.

``journal.jsonl`` in it tells by a line each what was begun and what is done. It only grows, so that
ten thousand outputs cost ten thousand short lines; one that was cut short by a crash is left out.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cbs_core.batch.items import Item, state_folder
from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine import files
from cbs_core.machine.addresses import shown
from cbs_core.machine.held import HeldFolder
from cbs_core.machine.text import first_difference

VERSION = 1
JOURNAL, PARTS = "journal.jsonl", "parts"


class Journal:
    """What was begun and what is done of one output; this process's alone while it is open.

    Args:
        output: the batch's own.
        identity: what its outputs depend on, but for their inputs.

    Raises:
        ConfigError: what is there is of another batch, or another one is at it.
        SinkError: nothing can be written there.
    """

    def __init__(self, output: Path, identity: object) -> None:
        self.output = output
        self.folder = state_folder(output)
        self.path = self.folder / JOURNAL
        self.done: dict[str, dict[str, Any]] = {}
        """By name, what is said of an output that is whole."""
        self.begun: set[str] = set()
        """Names of outputs that may be there, whole or not at all."""
        self.facts: Mapping[str, Any] | None = None
        """What the workers said of themselves (`cbs_core.batch.tasks.Hello`)."""
        self._shares: int | None = None
        self._identity = json.loads(json.dumps(identity, sort_keys=True, default=str))
        keeps = "a batch keeps how far it is"
        self._held = HeldFolder(self.folder, JOURNAL, output=output, who="batch", keeps=keeps)
        try:
            self._file = self._opened()
        except BaseException:
            self._give_back()
            raise

    def _opened(self) -> int:
        if not self.path.is_file():
            first = json.dumps({"version": VERSION, "identity": self._identity}) + "\n"
            files.replace(self.path, lambda file: file.write(first.encode()))
        else:
            self._read()
        return os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        try:
            first, *lines = map(json.loads, whole.splitlines())
            identity = first["identity"] if first["version"] == VERSION else {}
            for line in lines:
                self.begun.update(line.get("begun", ()))
                self.done.update({one["name"]: one for one in line.get("done", ())})
                self.facts = line.get("facts", self.facts)
                self._shares = line.get("shares", self._shares)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"'{self.path}' is damaged: remove '{self.folder}' to begin anew"
            ) from error
        self._same(identity, self._identity)

    def _same(self, old: object, new: object) -> None:
        if old != new:
            raise ConfigError(
                f"'{self.folder}' tells of another batch, of which {len(self.done)} outputs are "
                f"done ({first_difference(old, new)}): say what that one said, or remove the "
                "folder to begin anew"
            )

    def met(self, facts: Mapping[str, Any]) -> None:
        """Notes what workers say of themselves: the weights, versions and device they have.

        Raises:
            ConfigError: those before had others.
        """
        facts = json.loads(json.dumps(facts))
        if self.facts is None:
            self._write({"facts": facts})
        else:
            self._same(self.facts, facts)
        self.facts = facts

    def shares(self, count: int) -> int:
        """Returns for how many workers a video is cut: as many as when the batch was begun."""
        if self._shares is None:
            self._write({"shares": count})
            self._shares = count
        return self._shares

    def begin(self, names: Iterable[str]) -> None:
        """Notes that outputs may be there from now on, before they are."""
        new = [name for name in names if name not in self.begun]
        if new:
            self._write({"begun": new})
            self.begun.update(new)

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
        return os.path.lexists(one["output"] or item.output)

    def parts(self, item: Item) -> Path:
        """Returns the folder of an item's parts; it need not be there."""
        return self.folder / PARTS / item.name

    def forget_parts(self, item: Item) -> None:
        """Removes an item's parts."""
        shutil.rmtree(self.parts(item), ignore_errors=True)

    def close(self, *, complete: bool) -> None:
        """Lets others at it.

        Args:
            complete: whether all is done, so that nothing of it is needed any more.
        """
        os.close(self._file)
        if complete or not (self.done or self.begun or any(self._kept())):
            # The journal last: without it what lies there would be another's.
            shutil.rmtree(self.folder / PARTS, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        self._give_back()

    def _kept(self) -> Iterable[Path]:
        return (self.folder / PARTS).rglob("*.json")

    def _give_back(self) -> None:
        self._held.give_back()
        with suppress(OSError):  # it tells of what is left to do, or holds something of the user's
            self.folder.rmdir()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = (json.dumps(line) + "\n").encode()
        try:
            while text:  # of a disk that becomes full a part is taken, without an error
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError as error:
            raise SinkError(
                f"cannot write '{self.path}': {files.reason(error)}; free some space and say the "
                "same again"
            ) from error
