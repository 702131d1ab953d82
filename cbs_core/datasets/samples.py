"""Training data: which files, in which order, read ahead without changing that order."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Generic, TypeVar

import torch

from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.datasets.chance import mixed

T = TypeVar("T")
Item = TypeVar("Item")

log = logging.getLogger("cbs")


def generator(seed: int, step: int) -> torch.Generator:
    """Returns the generator of a step's data: a function of its arguments alone."""
    return torch.Generator().manual_seed(mixed(seed, step))


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
