"""What of a new set is made already: a line a picture, so that a run that was ended goes on."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine import files
from cbs_core.machine.inputs import refuse_pipe
from cbs_core.machine.locks import lock

MANIFEST = "manifest.jsonl"
"""How each picture was made; it is there when the set is whole."""

JOURNAL = "manifest.part.jsonl"
"""Likewise, of a set that is being made."""


RECORD = ("of", "picture", "variant", "sha256")
"""What is told of each picture."""


class Journal:
    """The lines of a set that is being made; one process at a time writes it.

    Args:
        output: the new set's folder, which is made.
        head: what all pictures have in common; a set of another head is not gone on with.

    Raises:
        ConfigError: something else lies there, or another process writes it.
        SinkError: nothing can be written there.
    """

    def __init__(self, output: Path, head: Mapping[str, Any]) -> None:
        self._output, self._head = output, dict(head)
        self.done: dict[str, list[dict[str, Any]]] = {}
        """The records of each picture of the old set whose variants are all made."""
        self.whole = (output / MANIFEST).is_file()
        path = output / (MANIFEST if self.whole else JOURNAL)
        if not path.is_file():
            if output.is_dir() and not all(
                files.is_temporary(one.name) for one in output.iterdir()
            ):
                raise ConfigError(
                    f"'{output}' holds something already, which is no unfinished set of "
                    "cbs-augment: name another output="
                )
            line = _line(self._head)
            files.replace(path, lambda file: file.write(line), over=False)
        self._file = path.open("rb+")
        if not lock(self._file.fileno()):
            self._file.close()
            raise ConfigError(f"another run is making '{output}': wait for it")
        try:
            self._read(path)
        except BaseException:
            self._file.close()
            raise

    def _read(self, path: Path) -> None:
        *lines, cut = self._file.read().split(b"\n")
        try:
            head, *rest = [json.loads(line) for line in lines]
            # Of a set that is being made a line has all of a picture's variants, or is not whole.
            for one in rest if self.whole else chain.from_iterable(rest):
                self.done.setdefault(str(one["of"]), []).append(one)
            changed = [key for key in {*head, *self._head} if head.get(key) != self._head.get(key)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"'{path}' is damaged, or none of cbs-augment ({error}): name another output="
            ) from error
        if changed:
            key = min(changed)
            was, now = json.dumps(head.get(key)), json.dumps(self._head.get(key))
            raise ConfigError(
                f"'{self._output}' was begun with another {key} ({was[:200]}, and now "
                f"{now[:200]}): say what was said then, or name another output="
            )
        # What a process that was killed left; only now is it known to be none of the user's.
        self._file.seek(-len(cut), os.SEEK_END)
        self._file.truncate()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Writes down what became of a picture of the old set.

        Raises:
            SinkError: it cannot be written.
        """
        for one in records:
            self.done.setdefault(str(one["of"]), []).append(one)
        try:
            self._file.write(_line(records))
            self._file.flush()
        except OSError as error:
            raise SinkError(
                f"cannot write '{self._file.name}': {files.reason(error)}: make room there"
            ) from error

    def finish(self, index: Mapping[str, bytes]) -> None:
        """Makes the set whole: what lists its pictures, and the manifest, by the pictures' names.

        Raises:
            SinkError: a file cannot be written.
        """
        if self.whole:
            return
        for name, data in index.items():
            files.replace(self._output / name, partial(_fill, data))
        lines = b"".join(map(_line, (self._head, *self.records())))
        files.replace(self._output / MANIFEST, lambda file: file.write(lines), over=False)
        (self._output / JOURNAL).unlink(missing_ok=True)
        self.whole = True

    def records(self) -> Iterator[dict[str, Any]]:
        """Yields what became of the pictures, sorted by the old set's names and by variant."""
        for name in sorted(self.done):
            yield from sorted(self.done[name], key=lambda one: int(one["variant"]))

    def close(self) -> None:
        """Lets another process write it."""
        with suppress(OSError):  # of a full disk `add` has told
            self._file.close()


def read(manifest: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the head and the records of a manifest.

    Raises:
        ConfigError: it is none.
        SourceError: it is a pipe.
    """
    refuse_pipe(manifest)
    try:
        head, *records = [json.loads(line) for line in manifest.read_bytes().splitlines()]
        known = {"data", "config"} <= head.keys() and all(
            {*RECORD} <= one.keys() for one in records
        )
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"remake={manifest} is no manifest of cbs-augment ({error})") from error
    if not known:
        raise ConfigError(f"remake={manifest} is no manifest of cbs-augment")
    return head, records


def _fill(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _line(values: Mapping[str, Any] | list[dict[str, Any]]) -> bytes:
    return json.dumps(values, sort_keys=True).encode() + b"\n"
