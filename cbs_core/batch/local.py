"""The engine of this process: one task after another, in the thread that waits for them."""

import time
from collections import deque
from types import TracebackType
from typing import Self

from cbs_core.contract.engines import Outcome, Start, Task, Worker
from cbs_core.contract.errors import EngineError


class LocalEngine:
    """Does tasks itself (`Engine`); its one worker is built when the first is due.

    Args:
        start: builds the worker.
    """

    def __init__(self, start: Start) -> None:
        self.workers = 1
        self._start = start
        self._worker: Worker | None = None
        self._tasks: deque[Task] = deque()

    def __enter__(self) -> Self:
        """Does nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drops what is not done, and frees the worker."""
        self._tasks.clear()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def submit(self, task: Task, /) -> None:
        """Takes a task."""
        self._tasks.append(task)

    def wait(self) -> Outcome:
        """Does the task that came first.

        Raises:
            EngineError: there is none.
        """
        if not self._tasks:
            raise EngineError("nothing was submitted, so there is nothing to wait for")
        task = self._tasks.popleft()
        if self._worker is None:
            self._worker = self._start()
        began = time.perf_counter()
        value, failed = None, None
        try:
            value = self._worker.do(task)
        except Exception as error:
            failed = error
        took = time.perf_counter() - began
        return Outcome(task, value, failed, worker="local", seconds=took)
