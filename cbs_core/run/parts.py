"""What a run that may be ended leaves beside its output: segments, and a manifest of them.

The folder ``out.mp4.parts`` holds a file a window of frames, the stream's state behind each, and
``manifest.json``, which names those that are whole. It is replaced in one step, after the files
that it names are on the disk. Whoever does a window needs the state behind the one before it and
nothing else, so that another machine may.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cbs_core.choose import presets
from cbs_core.contract.errors import ConfigError, StateError
from cbs_core.contract.types import RawFrame, Segment
from cbs_core.machine import files
from cbs_core.machine.held import HeldFolder
from cbs_core.machine.text import first_difference
from cbs_core.temporal.state import State

VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Part:
    """A window that is done."""

    segment: Segment
    last: str
    """`digest` of the source's last frame in it."""

    @property
    def state(self) -> Path:
        """The file with the stream's state behind it."""
        return self.segment.path.with_suffix(".state")


class Parts:
    """The windows of one output that are done, in order.

    Args:
        output: the whole's path.
        identity: what the parts depend on; those of another are not gone on with.

    Raises:
        ConfigError: what is there is of another run, or another run is at it.
        SinkError: nothing can be written there.
    """

    def __init__(self, output: Path, identity: object) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.parts")
        self._identity = json.loads(json.dumps(identity, sort_keys=True, default=str))
        self.done: list[Part] = []
        manifest = self.folder / MANIFEST
        keeps = "resume=true keeps its parts"
        self._held = HeldFolder(self.folder, MANIFEST, output=output, who="run", keeps=keeps)
        try:
            if manifest.is_file():
                self._read(manifest)
            else:
                self._write()
        except BaseException:
            self._held.give_back()
            raise

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return sum(len(part.segment.times) for part in self.done)

    def state(self) -> State | None:
        """Returns where the stream stands behind them; None at its start.

        Raises:
            StateError: it cannot be read.
        """
        if not self.done:
            return None
        file = self.done[-1].state
        try:
            return State.from_bytes(file.read_bytes())
        except OSError as error:
            raise StateError(
                f"'{file}' cannot be read ({files.reason(error)}): remove '{self.folder}' to begin "
                "anew"
            ) from error

    def next_path(self) -> Path:
        """Returns where the next window's segment goes."""
        return self.folder / f"{self.frames:08d}{self.output.suffix}"

    def add(self, part: Part, state: bytes) -> None:
        """Notes a window whose segment is whole.

        Raises:
            SinkError: it cannot be written.
        """
        files.replace(part.state, lambda file: file.write(state))
        self.done.append(part)
        self._write()

    def drop_last(self) -> None:
        """Forgets the last window, which is to be done again."""
        part = self.done.pop()
        self._write()
        for file in (part.segment.path, part.state):
            file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes them: the whole is there."""
        for part in self.done:
            for file in (part.segment.path, part.state):
                file.unlink(missing_ok=True)
        self.done = []
        self.close()

    def close(self) -> None:
        """Lets others at them; without a window that is done, nothing is left."""
        self._held.give_back()
        if not self.done:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            with suppress(OSError):  # something of the user's lies there
                self.folder.rmdir()

    def _read(self, manifest: Path) -> None:
        try:
            kept = json.loads(manifest.read_text(encoding="utf-8"))
            identity = kept["identity"] if kept["version"] == VERSION else {}
            self.done = [self._part(one) for one in kept["parts"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"'{manifest}' is damaged: remove '{self.folder}' to begin anew"
            ) from error
        identity = presets.grown(identity, self._identity)
        if identity != self._identity:
            changed = first_difference(identity, self._identity)
            raise ConfigError(
                f"'{self.folder}' holds {self.frames} frames of another run ({changed}): say what "
                "that one said, or remove the folder to begin anew"
            )

    def _part(self, kept: Mapping[str, Any]) -> Part:
        name = str(kept["file"])
        if Path(name).name != name:
            raise ValueError(name)
        lasts = kept["duration"]
        segment = Segment(
            self.folder / name,
            tuple(Fraction(time) for time in kept["times"]),
            None if lasts is None else Fraction(lasts),
        )
        return Part(segment, str(kept["last"]))

    def _write(self) -> None:
        kept = {
            "version": VERSION,
            "identity": self._identity,
            "parts": [
                {
                    "file": part.segment.path.name,
                    "times": [str(time) for time in part.segment.times],
                    "duration": None
                    if part.segment.duration is None
                    else str(part.segment.duration),
                    "last": part.last,
                }
                for part in self.done
            ],
        }
        text = json.dumps(kept, indent=1).encode()
        files.replace(self.folder / MANIFEST, lambda file: file.write(text))


def digest(frame: RawFrame) -> str:
    """Returns what tells a source's frame from others."""
    return hashlib.sha256(frame.pixels.cpu().numpy().tobytes()).hexdigest()


def fingerprint(path: Path) -> str:
    """Returns what tells an input from a changed one: its size, and 3 MB of what it holds.

    Of a folder: the names, sizes and times of its files.
    """
    found = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.iterdir()):
            stat = file.stat()
            found.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return found.hexdigest()
    size = path.stat().st_size
    found.update(str(size).encode())
    with path.open("rb") as opened:
        for place in (0, size // 2, max(size - (1 << 20), 0)):
            opened.seek(place)
            found.update(opened.read(1 << 20))
    return found.hexdigest()
