"""Photographs that a folder holds or a list names: read without torch."""

import csv
from collections.abc import Iterator
from pathlib import Path

from cbs_core.contract.errors import ConfigError
from cbs_core.machine.inputs import refuse_pipe

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""By which photographs are told from a folder's other files, in lower case."""

COLUMNS = ("file", "path", "image", "filename")
"""Names of the column of a table that holds the files, the first one there is taken."""


def find_photos(data: str | Path, *, split: str | None = None) -> list[Path]:
    """Returns photographs, sorted as their names are, so that every machine has the same order.

    Args:
        data: a folder, searched with all folders in it; a CSV with a column of `COLUMNS`; or a text
            file with a name a line. Names are relative to the file's folder, or to the folder
            beside it of the file's stem (``photos.csv``, ``photos/``).
        split: of a CSV with a column ``split``, the value to choose; None for every row.

    Raises:
        ConfigError: no such place, no photographs in it, or one listed that is not there.
    """
    root = place(data)
    if root.is_dir():
        found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    else:
        found = sorted(_located(root, name) for name in _names(root, split))
    if not found:
        of = f" of the split '{split}'" if split else ""
        raise ConfigError(
            f"'{data}' holds no photographs{of} ({', '.join(sorted(SUFFIXES))}): say data=FOLDER"
        )
    return found


def place(data: str | Path) -> Path:
    """Returns the folder or the list that ``data`` names.

    Raises:
        ConfigError: it is neither.
    """
    root = Path(data).expanduser()
    refuse_pipe(root)
    if not root.is_dir() and not root.is_file():
        raise ConfigError(f"no folder or list of photographs '{data}': check data=")
    return root


def has_split(data: str | Path, split: str) -> bool:
    """Tells whether ``data`` is a table with rows of such a split."""
    root = Path(data).expanduser()
    return root.suffix == ".csv" and root.is_file() and any(_names(root, split, strict=True))


def _names(table: Path, split: str | None, *, strict: bool = False) -> Iterator[str]:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            if table.suffix != ".csv":
                yield from filter(None, map(str.strip, file))
                return
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            column = next((name for name in COLUMNS if name in columns), None)
            if column is None:
                raise ConfigError(
                    f"'{table}' has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}: "
                    "name the one with the files so"
                )
            by_split = split is not None and ("split" in columns or strict)
            for row in rows:
                if not by_split or row.get("split") == split:
                    yield row[column]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"'{table}' is no readable list of photographs ({error})") from error


def _located(table: Path, name: str) -> Path:
    for folder in (table.parent, table.with_suffix("")):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"'{table}' lists '{name}', which is neither beside it nor in its folder")
