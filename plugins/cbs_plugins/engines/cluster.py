"""Ray, as `cbs_plugins.engines.ray` uses it: joined or started, its machines, its actors."""

import logging
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from cbs_core.contract.errors import EngineError
from cbs_core.machine.scratch import clear, own
from cbs_core.machine.signals import ENDING, restore
from cbs_plugins.engines.lean import CONFIG, lean

INSTALL = "pip install 'class-based-styling[ray]'"

CORES = 4
"""Of a worker without a GPU: restyling gains little from more."""

STORE_BYTES = 100 << 20
"""Of the object store of a Ray of our own: tasks and values are small, frames do not pass."""

STARTS = 3
"""Ray gives up after half a minute, which a busy machine takes."""

REACHED_S = 10.0

SECRET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What a Ray of our own is reached by; one a process, because Ray keeps the first."""

PREFIX = "cbs-ray-"
"""Of the folder of a Ray of our own."""

ENDING_S = 10.0
"""Ray's processes that take longer to end are killed."""

Machine = dict[str, float]
"""What a machine has: ``CPU``, ``GPU``."""


class Lost(Exception):  # noqa: N818
    """An actor died before it answered."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a worker takes of a machine; None is not yet known."""

    cpus: int | None
    gpu: float | None

    @property
    def cores(self) -> int:
        """Whole cores."""
        return self.cpus or 1

    def fitted(self, machines: Sequence[Machine]) -> "Size":
        """Returns it with what was left open, by the machines that there are."""
        gpu = self.gpu
        if gpu is None:
            gpu = 1 if any(one.get("GPU") for one in machines) else 0
        cpus = self.cpus
        if cpus is None and gpu:
            seats = [(one.get("CPU", 0), one["GPU"] / gpu) for one in machines if one.get("GPU")]
            cpus = min((int(cores / max(1, workers)) for cores, workers in seats), default=1)
        elif cpus is None:
            cpus = min((int(one.get("CPU", 0)) or CORES for one in machines), default=CORES)
            cpus = min(cpus, CORES)
        return replace(self, cpus=max(1, cpus or 1), gpu=gpu)

    def room(self, machines: Sequence[Machine]) -> int:
        """Returns for how many workers there is room."""
        rooms = [math.floor(one.get("CPU", 0) / self.cores) for one in machines]
        if self.gpu:
            gpus = [math.floor(one.get("GPU", 0) / self.gpu) for one in machines]
            rooms = [min(pair) for pair in zip(rooms, gpus, strict=True)]
        return sum(rooms)

    def told(self, machines: Sequence[Machine]) -> str:
        """Returns what the machines have, in words."""
        return "; ".join(
            f"{one.get('CPU', 0):g} cores and {one.get('GPU', 0):g} GPUs" for one in machines
        )

    def __str__(self) -> str:
        return f"{self.cores} cores" + (f" and {self.gpu:g} GPU" if self.gpu else "")


class Cluster:
    """Ray, while it is used.

    Args:
        address: None: one of our own.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._ray: Any = None
        self._ours = False
        self._joined = False
        self._folder: str | None = None
        self._owned: int | None = None
        self._environment: dict[str, str | None] = {}
        self._processes: list[psutil.Process] = []

    def enter(self) -> None:
        """Starts or joins it.

        Raises:
            EngineError: it cannot be had.
        """
        # Read when Ray is imported; each says something on the terminal otherwise.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._keep_secret()
        try:
            import ray
        except ImportError as error:
            raise EngineError(f"engine=ray needs {error.name}: {INSTALL}") from error
        self._ray = ray
        _say_nothing()
        if ray.is_initialized():
            self._forget_secret()
            return
        tries = 1 if self._address else STARTS
        while True:
            tries -= 1
            try:
                with _same_handlers():
                    self._init()
                return
            except Exception as error:
                self.leave()
                if not tries:
                    raise EngineError(self._refused(error)) from error
            except BaseException:  # Ctrl-C, while Ray starts
                self.leave()
                raise

    def _refused(self, error: Exception) -> str:
        line = " ".join(str(error).split()).partition(". ")[0]
        where = f"no Ray cluster can be joined at '{self._address}'"
        return (
            f"{where if self._address else 'Ray cannot be started'} "
            f"({type(error).__name__}: {line})"
        )

    def _init(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address:
            _check_reached(self._address)
            self._joined = True
            self._ray.init(self._address, **quiet)
            return
        self._keep_secret()
        base = "/tmp" if os.name == "posix" else None  # its sockets' paths must be short
        clear(Path(base or tempfile.gettempdir()), PREFIX)
        self._folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        self._owned = own(Path(self._folder))
        before = {*psutil.Process().children()}
        self._ours = True
        try:
            with lean():
                self._ray.init(
                    "local",
                    num_cpus=_cores(),
                    include_dashboard=False,
                    object_store_memory=STORE_BYTES,
                    _temp_dir=self._folder,
                    _system_config=CONFIG,
                    **quiet,
                )
        finally:
            self._processes = [*{*psutil.Process().children()} - before]

    def leave(self) -> None:
        """Leaves it, or ends the one of our own; none of its processes are left."""
        self._forget_secret()
        if not self._ours and not self._joined:
            return
        every = [*self._processes, *(one for p in self._processes for one in _below(p))]
        with _same_handlers():
            self._ray.shutdown()
        self._joined = self._ours = False
        _, left = psutil.wait_procs(every, timeout=ENDING_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=ENDING_S)
        self._processes = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._owned is not None:
            os.close(self._owned)
            self._owned = None

    def _keep_secret(self) -> None:
        """Has a Ray of our own do nobody else's will, though its ports are open to the network."""
        if not self._address and not self._environment:
            self._environment = {key: os.environ.get(key) for key in SECRET}
            os.environ |= {key: os.environ.get(key, value) for key, value in SECRET.items()}

    def _forget_secret(self) -> None:
        for key, value in self._environment.items():
            os.environ.pop(key, None)
            os.environ |= {} if value is None else {key: value}
        self._environment = {}

    def machines(self) -> list[Machine]:
        """Returns what each machine has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def pickled(self, start: Callable[..., object]) -> bytes:
        """Returns what builds a worker; of a function in a notebook, the whole of it."""
        from ray import cloudpickle

        made: bytes = cloudpickle.dumps(start)
        return made

    def actor(self, kind: type, cores: int, gpu: float) -> Any:
        """Returns what makes actors of a class, which Ray does not make again by itself."""
        return self._ray.remote(kind).options(
            num_cpus=cores,
            num_gpus=gpu,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )

    def answered(self, refs: list[Any], timeout: float, *, every: bool = False) -> list[Any]:
        """Returns which answers are there, after one or ``every`` one is, or after ``timeout``."""
        if not refs:
            return []
        count = len(refs) if every else 1
        ready: list[Any] = self._ray.wait(refs, num_returns=count, timeout=timeout)[0]
        return ready

    def reply(self, ref: Any) -> bytes:
        """Returns an answer.

        Raises:
            Lost: its actor died.
        """
        try:
            answer: bytes = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            raise Lost(_reason(error)) from error
        return answer

    def end(self, actor: Any) -> None:
        """Ends an actor, with its task."""
        with suppress(Exception):  # it, or Ray, may be gone
            self._ray.kill(actor)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    for said in ("its node has died", "its worker process has died", "out of memory", "OOM"):
        if said in text and (said != "OOM" or "OutOfMemory" in type(error).__name__):
            return said
    return f"{type(error).__name__}: {text[:160]}"


def _say_nothing() -> None:
    """Has Ray keep what it tells of a worker's death off the terminal: the engine tells it."""
    with suppress(ImportError):
        from ray._private import worker

        worker.print_to_stdstream = lambda *args, **kwargs: None  # it knows no other way


def _check_reached(address: str) -> None:
    """Fails at once where nobody listens: Ray tries for minutes, and says so on the terminal.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_S).close()


def _cores() -> int | None:
    """Returns the cores that this process may use, where they are fewer than the machine's."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = len(os.sched_getaffinity(0))
    return allowed if allowed < (os.cpu_count() or 1) else None


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


@contextmanager
def _same_handlers() -> Iterator[None]:
    """Keeps signals ours: Ray has SIGTERM end the process where it stands."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, object] = {one: signal.getsignal(one) for one in ENDING}
    try:
        yield
    finally:
        restore(before)
