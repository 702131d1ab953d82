"""Where a run's files go, and that nothing of anybody's lies there.

Only what ``output=`` names is ever written over, and that only where ``overwrite=true`` says so. A
report and a sheet that this program wrote go with their output; a file that it did not write never
does.
"""

import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

from cbs_core.contract.errors import ConfigError, SinkError
from cbs_core.machine.files import is_marked, reason
from cbs_core.machine.unfinished import being_written, written_already

AUTO = "auto"
"""Names a report or a sheet after the output."""

ENDINGS = {
    "report": ".report.json",
    "sheet": ".sheet.png",
    "turntable": ".turntable.mp4",
    "viewer": ".viewer.html",
}
"""Key of the configuration -> what follows the output's name."""

NOT_RESUMED = (
    "resume=true is for a file as input= and one video file as output=out.mp4, without "
    "output_matte="
)
"""What is told where a run cannot be gone on with."""


_LONGEST = 255
"""Bytes of a name that file systems hold."""


ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""What an address begins with; a drive's name has one letter."""


@dataclass(frozen=True, slots=True)
class Places:
    """The files of a run."""

    output: Path | None
    """None where the sink writes none."""

    beside: dict[str, Path]
    """``report`` and ``sheet``, where they are wanted."""

    def __iter__(self) -> Iterator[Path]:
        """Yields all."""
        return iter([*([self.output] if self.output else []), *self.beside.values()])


def beside(output: Path, wanted: dict[str, str | None], *, whole: bool = False) -> dict[str, Path]:
    """Returns the files that lie beside an output, by their keys.

    Args:
        output: a file or a folder.
        wanted: key of `ENDINGS` -> a plain file name, `AUTO`, or None for none.
        whole: whether the output's name has no suffix, as a folder's.
    """
    if output.name in ("", ".."):
        output = output.resolve()
    stem = output.name if whole else output.stem
    return {
        key: output.parent / (_after(stem, ENDINGS[key]) if name == AUTO else name)
        for key, name in wanted.items()
        if name
    }


def _after(stem: str, ending: str) -> str:
    """Returns both as one name, of a stem that may have the longest length already."""
    while len(os.fsencode(stem + ending)) > _LONGEST:
        stem = stem[:-1]
    return stem + ending


def fresh(folder: Path, name: str, suffix: str | None, wanted: dict[str, str | None]) -> Places:
    """Returns places in a run folder that nobody has: ``photo.png``, ``photo.2.png`` and on.

    Args:
        folder: the run folder.
        name: the output's, without its suffix.
        suffix: empty for a folder, None where there is no output.
        wanted: as of `beside`.
    """
    for number in count(1):
        numbered = name if number == 1 else f"{name}.{number}"
        output = folder / f"{numbered}{suffix or ''}"
        files = beside(output, wanted, whole=not suffix)
        chosen = [path for key, path in files.items() if wanted[key] == AUTO]
        chosen += [output] if suffix is not None else []
        if not any(map(os.path.lexists, chosen)) and not being_written(output):
            return Places(None if suffix is None else output, files)
    raise AssertionError("one of all numbers is free")


def check(
    places: Places,
    *,
    source: Path | None,
    taken: Iterable[Path] | None = None,
    overwrite: bool = False,
    ours: Container[Path] = (),
) -> None:
    """Refuses what would write over a file, before any work.

    Args:
        places: of the run.
        source: the input's path, which is never written over.
        taken: files that the sink would write over, where it writes several; None: the output.
        overwrite: whether the output may be.
        ours: files beside it that are known to be of an earlier run.

    Raises:
        ConfigError: with the key to change.
        SinkError: another run writes the output, or nothing can be written there.
    """
    names: dict[Path, str] = {}
    for key, path in (("output", places.output), *places.beside.items()):
        if path is None:
            continue
        if path in names:
            raise ConfigError(
                f"{names[path]} and {key} are both named '{path.name}': say {key}=OTHER"
            )
        names[path] = key
        if source is not None and same(source, path):
            how = "choose another output=" if key == "output" else f"say {key}=OTHER"
            raise ConfigError(f"'{source}' would be written over by the {key}: {how}")
    if places.output is not None:
        there = [places.output] if taken is None else [*taken]
        if source is not None and any(same(source, path) for path in there):
            raise ConfigError(
                f"'{source}' would be written over by the output: choose another output="
            )
        refuse([path for path in there if taken is not None or not path.is_dir()], overwrite)
        if being_written(places.output):
            raise SinkError(written_already(places.output))
    for key, path in places.beside.items():
        refuse_beside(key, path, overwrite=overwrite, ours=path in ours)
    for path in places:
        writable(path)


def refuse(
    paths: Iterable[Path],
    overwrite: bool,
    instead: str = "name another output=, or say overwrite=true",
) -> None:
    """Refuses to write over files, unless that is said; ``instead`` is the way on.

    Raises:
        ConfigError: one is there, and ``overwrite`` is not true.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise ConfigError(f"'{there[0]}'{more} is there already: {instead}")


def refuse_beside(key: str, path: Path, *, overwrite: bool, ours: bool = False) -> None:
    """Refuses to write over a file beside the output.

    Args:
        key: of the configuration, which names another.
        path: the file.
        overwrite: whether one that this program wrote may be.
        ours: whether it is known to be one; else it tells (`cbs_core.machine.files.MARK`).

    Raises:
        ConfigError: it is there, and not to be written over.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ConfigError(
            f"'{path}', where the {key} goes, is there already: say {key}=OTHER or {key}=null, or "
            "overwrite=true"
        )
    if not (ours or is_marked(path)):
        raise ConfigError(
            f"'{path}', where the {key} goes, was not written by this program, and is left as it "
            f"is: say {key}=OTHER or {key}=null"
        )


def refuse_part(path: Path, *, overwrite: bool) -> None:
    """Refuses to write over a file that belongs to an output without being named by it.

    Raises:
        ConfigError: it is there, and not to be written over.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ConfigError(
            f"'{path}', which goes with the output, is there already: name another output=, or "
            "say overwrite=true"
        )
    if not is_marked(path):
        raise ConfigError(
            f"'{path}', which goes with the output, was not written by this program, and is left "
            "as it is: name another output="
        )


def writable(path: Path) -> None:
    """Refuses a place where nothing can be written.

    Raises:
        SinkError: with the reason.
    """
    if str(path) == "-" or path.name.startswith("pipe:"):
        raise SinkError(
            f"'{path}' is a pipe, and only files are written, which can be mended at their "
            "beginning when they end: name one with output="
        )
    first = path.parts[0] if path.parts else ""
    if ADDRESS.fullmatch(first) and not os.path.lexists(first):
        raise SinkError(
            f"'{path}' begins as an address does, '{first}//', and files are written here: name a "
            "file or a folder of this machine with output="
        )
    above = next((one for one in path.parents if os.path.lexists(one)), path.parent)
    why = ""
    if not above.is_dir():
        why = f"'{above}' is a file, not a folder"
    else:
        try:
            with TemporaryFile(dir=above):  # of no name, where the system can
                pass
        except OSError as error:
            why = reason(error)
    if why:
        raise SinkError(f"cannot write '{path}': {why}; choose another place with output=")


def same(a: Path, b: Path) -> bool:
    """Tells whether both are one file that is there."""
    try:
        return a.samefile(b)
    except OSError:  # one of them is not there yet
        return False
