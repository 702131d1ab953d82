"""Workers on one machine or on many, by Ray Core (extra ``[ray]``).

A worker is an actor. At most one task is with each: what waits, waits here, so that a worker that
dies takes nothing along but its own task. Ray itself tries nothing again: a dead actor is replaced
by another, wherever there is room, and its task is told as lost.
"""

import logging
import os
import pickle
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

from cbs_core.contract.engines import Outcome, Start, Task
from cbs_core.contract.errors import CbsError, ConfigError, EngineError
from cbs_plugins.engines import cluster
from cbs_plugins.engines.seat import Seat, version

LOG = logging.getLogger("cbs")

TICK_S = 2.0
"""So often is looked whether machines joined, also while tasks end one after another."""

CLOSING_S = 30.0
"""A worker that takes longer to close is ended."""

BAD_STARTS = 3
"""So many deaths in a row before a first task, and the cause is not the machine's."""


@dataclass(eq=False, slots=True)
class _Place:
    """Where a worker sits."""

    number: int
    actor: Any
    name: str = ""
    task: Task | None = None


class RayEngine:
    """Has tasks done by Ray actors.

    Args:
        start: builds a worker.
        address: None: a Ray of its own on this machine, which is stopped in the end; ``auto``, a
            ``HOST:PORT`` or ``ray://HOST:PORT`` joins a cluster. A process that has joined one
            already keeps to that.
        workers: how many; None: as many as the machines have room for, also as machines join.
        cpus: cores of a worker, which are its threads too; None: those of a machine by its GPUs,
            or at most 4.
        gpu: of a worker, 0 to 1; a share lets several have one. None: 1 where there are any.
        timeout_s: how long to wait while there is no worker.

    Raises:
        ConfigError: a number out of range.
        EngineError: Ray is not installed, cannot be started or not be joined.
    """

    def __init__(
        self,
        start: Start,
        address: str | None = None,
        workers: int | None = None,
        cpus: int | None = None,
        gpu: float | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        _check(workers=workers, cpus=cpus, gpu=gpu, timeout_s=timeout_s)
        self.workers = workers or 1
        self._wanted = workers
        self._start = start
        self._timeout = timeout_s
        self._size = cluster.Size(cpus, gpu)
        self._ray = cluster.Cluster(address)
        self._tasks: deque[Task] = deque()
        self._ended: deque[Outcome] = deque()
        self._idle: list[_Place] = []
        self._refs: dict[Any, _Place] = {}
        """What actors were asked for, and have not answered."""
        self._pickled = b""
        self._number = 0
        self._bad_starts = 0
        self._since = 0.0
        """When there was last a worker."""
        self._looked = 0.0
        """When it was last looked whether machines joined."""

    def __enter__(self) -> Self:
        """Starts or joins Ray, and orders workers.

        Raises:
            EngineError: it cannot be had.
        """
        self._ray.enter()
        try:
            self._pickled = self._ray.pickled(self._start)
            self._since = time.monotonic()
            self._size = self._size.fitted(self._ray.machines())
            self._grow()
        except BaseException:
            self._ray.leave()
            raise
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        """Ends the workers, and Ray where it was started here."""
        try:
            if kind is None:
                self._close_idle()
        finally:
            for place in (*self._idle, *self._refs.values()):
                self._ray.end(place.actor)
            self._idle, self._refs = [], {}
            self._ray.leave()

    def submit(self, task: Task, /) -> None:
        """Takes a task."""
        self._tasks.append(task)
        self._hand_out()

    def wait(self) -> Outcome:
        """Returns how the next task ended.

        Raises:
            EngineError: no worker can be had, or nothing was submitted.
            CbsError: what building a worker raised.
        """
        if not self._ended and not self._tasks and not self._busy():
            raise EngineError("nothing was submitted that could end")
        while not self._ended:
            self._hand_out()
            answered = self._ray.answered([*self._refs], TICK_S)
            for ref in answered:
                self._take(ref)
            if time.monotonic() >= self._looked + TICK_S:
                self._grow()
            if not answered:
                self._be_patient()
        return self._ended.popleft()

    def _busy(self) -> bool:
        return any(place.task is not None for place in self._refs.values())

    def _hand_out(self) -> None:
        while self._tasks and self._idle:
            place = self._idle.pop(0)
            place.task = self._tasks.popleft()
            self._refs[place.actor.do.remote(place.task)] = place

    def _take(self, ref: Any) -> None:
        place = self._refs.pop(ref)
        try:
            reply = self._ray.reply(ref)
        except cluster.Lost as lost:
            self._lost(place, str(lost))
            return
        value, error, seconds = pickle.loads(reply)
        if place.task is None:
            self._built(place, value, error)
            return
        task, place.task = place.task, None
        self._idle.append(place)
        self._ended.append(Outcome(task, value, error, worker=place.name, seconds=seconds))

    def _built(self, place: _Place, node: str, error: Exception | None) -> None:
        if isinstance(error, CbsError):
            raise error
        if error is not None:
            raise EngineError(
                f"a worker cannot be built ({type(error).__name__}: {error})"
            ) from error
        place.name = f"{place.number} on {node}"
        self._bad_starts = 0
        self._since = time.monotonic()
        self._idle.append(place)

    def _lost(self, place: _Place, reason: str) -> None:
        self._ray.end(place.actor)
        if place.task is not None:
            LOG.warning("worker %s was lost with '%s' (%s)", place.name, place.task.name, reason)
            self._ended.append(Outcome(place.task, lost=True, worker=place.name))
        else:
            self._bad_starts += 1
            if self._bad_starts >= BAD_STARTS * max(1, self.workers):
                raise EngineError(f"no worker lives long enough to do a task ({reason})")
        if not self._idle and not self._busy():
            self._since = time.monotonic()
        self._place(place.number)

    def _grow(self) -> None:
        """Orders the workers that there is room for and that were not ordered."""
        self._looked = time.monotonic()
        room = self._wanted or self._size.room(self._ray.machines())
        self.workers = max(self.workers, room)
        while self._number < self.workers:
            self._number += 1
            self._place(self._number)

    def _place(self, number: int) -> None:
        cores, gpu = self._size.cores, self._size.gpu or 0
        actor = self._ray.actor(Seat, cores, gpu).remote(cores, gpu, os.getcwd())
        self._refs[actor.begin.remote(self._pickled, version())] = _Place(number, actor)

    def _be_patient(self) -> None:
        if not self._idle and not self._busy() and time.monotonic() > self._since + self._timeout:
            raise EngineError(
                f"no worker came within {self._timeout:g} s: each needs {self._size}, and the "
                f"machines have {self._size.told(self._ray.machines())}; say engine.cpus= or "
                "engine.gpu=, or add a machine"
            )

    def _close_idle(self) -> None:
        refs = [place.actor.close.remote() for place in self._idle]
        self._ray.answered(refs, CLOSING_S, every=True)


def _check(**given: float | None) -> None:
    for key, value in given.items():
        least = 0 if key in ("gpu", "timeout_s") else 1
        if value is not None and value < least:
            raise ConfigError(f"engine.{key}={value} must be {least} or more")
    if (given["gpu"] or 0) > 1:
        raise ConfigError(f"engine.gpu={given['gpu']} must be 1, a share of one, or 0")
