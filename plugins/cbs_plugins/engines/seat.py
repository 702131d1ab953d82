"""What sits in an actor, wherever that is: a worker, given tasks and asked for its values."""

import ctypes
import gc
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import psutil

from cbs_core.contract.engines import Task, Worker
from cbs_core.contract.errors import CbsError, EngineError

PARENT_DEATH = 1
"""``PR_SET_PDEATHSIG`` of ``linux/prctl.h``."""


def version() -> str:
    """Returns the version of this project that is installed."""
    return metadata.version("class-based-styling")


class Seat:
    """The actor: every answer is ``(value, error, seconds)``, pickled here, where it can fail.

    Args:
        cores: its share of the machine, which bounds its threads.
        gpu: likewise; with 0 it sees none.
        folder: where the driver stands, so that relative paths are the same.
    """

    def __init__(self, cores: int, gpu: float, folder: str) -> None:
        self._cores = cores
        self._worker: Worker | None = None
        self._numbers: Numbers | None = None
        _end_with_parent()
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if os.path.isdir(folder):
            os.chdir(folder)

    def begin(self, start: bytes, wanted: str) -> bytes:
        """Builds the worker; the answer's value is the machine's address."""
        began = time.perf_counter()
        try:
            if version() != wanted:
                raise EngineError(
                    f"{_address()} has class-based-styling {version()}, and this machine {wanted}: "
                    "install the same on all"
                )
            os.environ["OMP_NUM_THREADS"] = str(self._cores)  # of a torch that comes with the nets
            self._bound_threads()
            with _uncollected():
                self._worker = pickle.loads(start)()
            self._bound_threads()
            self._numbers = Numbers(_address())
        except Exception as error:
            return answer(None, error, began)
        return answer(_address(), None, began)

    def _bound_threads(self) -> None:
        if "torch" in sys.modules:  # which whoever builds the worker may import first
            sys.modules["torch"].set_num_threads(self._cores)

    def do(self, task: Task) -> bytes:
        """Does a task."""
        began = time.perf_counter()
        assert self._worker is not None
        try:
            reply = answer(self._worker.do(task), None, began)
        except Exception as error:
            self._count("failed", task, began)
            return answer(None, error, began)
        self._count("done", task, began)
        return reply

    def close(self) -> None:
        """Closes the worker."""
        if self._worker is not None:
            self._worker.close()

    def _count(self, ended: str, task: Task, began: float) -> None:
        if self._numbers is not None:
            self._numbers.count(ended, task.size, time.perf_counter() - began)


class Numbers:
    """What a worker has done, for Prometheus by Ray's own metrics (``ray_cbs_...``)."""

    def __init__(self, machine: str) -> None:
        from ray.util import metrics

        names = ("machine", "ended")
        self._machine = machine
        self._tasks = metrics.Counter("cbs_tasks", "Tasks that ended.", names)
        self._frames = metrics.Counter("cbs_frames", "Frames and pictures of these.", names)
        self._seconds = metrics.Histogram(
            "cbs_task_seconds", "How long they took.", [0.1, 1, 5, 15, 60, 240, 960], names
        )

    def count(self, ended: str, size: int, seconds: float) -> None:
        """Counts a task."""
        tags = {"machine": self._machine, "ended": ended}
        self._tasks.inc(1, tags)
        if size:
            self._frames.inc(size, tags)
        self._seconds.observe(seconds, tags)


def answer(value: Any, error: Exception | None, began: float) -> bytes:
    """Returns an answer that the driver can read; an error that cannot travel as its text."""
    seconds = time.perf_counter() - began
    try:
        reply = pickle.dumps((value, error, seconds))
        pickle.loads(reply)
    except Exception as unfit:
        cause = error or unfit
        told = f"{type(cause).__name__}: {cause}"
        text = told if error else f"the task's value cannot be sent ({told})"
        return pickle.dumps((None, CbsError(text), seconds))
    return reply


@contextmanager
def _uncollected() -> Iterator[None]:
    """Looks for no garbage: what nets import makes little, and looking takes a second of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _end_with_parent() -> None:
    """Has the worker end when Ray's raylet does; Ray lets it work on for a minute."""
    parent = psutil.Process().parent()
    if sys.platform == "linux" and parent is not None and parent.name() == "raylet":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def _address() -> str:
    import ray.util

    return str(ray.util.get_node_ip_address())
