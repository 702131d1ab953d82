"""Training data: which files, in which order, read ahead without changing that order."""

import csv
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from cbs_core.contract.errors import CbsError, ConfigError

T = TypeVar("T")
Item = TypeVar("Item")

log = logging.getLogger("cbs")

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
    root = Path(data).expanduser()
    if root.is_dir():
        found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    elif root.is_file():
        found = sorted(_located(root, name) for name in _names(root, split))
    else:
        raise ConfigError(f"no folder or list of photographs '{data}': check data=")
    if not found:
        of = f" of the split '{split}'" if split else ""
        raise ConfigError(
            f"'{data}' holds no photographs{of} ({', '.join(sorted(SUFFIXES))}): say data=FOLDER"
        )
    return found


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


def generator(seed: int, step: int) -> torch.Generator:
    """Returns the generator of a step's data: a function of its arguments alone."""
    return torch.Generator().manual_seed(mixed(seed, step))


def mixed(*numbers: int) -> int:
    """Returns a seed of 63 bits in which nearby numbers have nothing in common."""
    low, high = np.random.SeedSequence([n % 2**64 for n in numbers]).generate_state(2)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


class Shuffled:
    """An endless order of ``count`` samples: another permutation each epoch.

    Args:
        count: samples in an epoch.
        seed: with the epoch's number it alone decides the permutation.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count

        @lru_cache(maxsize=4)
        def permutation(epoch: int) -> list[int]:
            order: list[int] = torch.randperm(count, generator=generator(seed, ~epoch)).tolist()
            return order

        self._permutation = permutation

    def __call__(self, number: int) -> int:
        """Returns the index of the sample at a place in the order, from 0 on."""
        return self._permutation(number // self.count)[number % self.count]


class Samples(Generic[Item, T]):
    """Samples by their place in an endless order; a broken one is named once and passed over.

    The one behind it takes its place, so that the order depends on the files alone.

    Args:
        items: what each sample is read from: a file, or a picture and its mask.
        read: reads one; a `CbsError` or `OSError` says that it is broken.
        order: place -> index of an item; `Shuffled` usually.
    """

    def __init__(
        self, items: Sequence[Item], read: Callable[[Item], T], order: Callable[[int], int]
    ) -> None:
        self.items = items
        self._read = read
        self._order = order
        self.broken: set[int] = set()
        """Indices of the items that could not be read so far."""

    def __call__(self, number: int) -> T:
        """Returns the sample at a place; safe to call from several threads.

        Raises:
            ConfigError: none of the items can be read.
        """
        first = self._order(number)
        for offset in range(len(self.items)):
            index = (first + offset) % len(self.items)
            try:
                return self._read(self.items[index])
            except (CbsError, OSError) as error:
                if index not in self.broken:
                    self.broken.add(index)
                    log.warning("passed over: %s", " ".join(str(error).split()))
        raise ConfigError(f"none of the {len(self.items)} training pictures can be read")


def prefetch(
    make: Callable[[int], T], steps: Iterable[int], *, workers: int
) -> Generator[T, None, None]:
    """Yields ``make(step)`` in order, computed ahead by a few threads.

    Args:
        make: called from the threads; what it raises is raised here, at its place in the order.
        steps: their numbers.
        workers: threads; twice as many results are kept ready. 0 computes in this thread.
    """
    if workers < 1:
        yield from map(make, steps)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cbs-data")
    ready: deque[Future[T]] = deque()
    try:
        for step in steps:
            ready.append(pool.submit(make, step))
            if len(ready) > 2 * workers:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
