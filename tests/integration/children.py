"""Commands in children of a process that has imported all already, ended at a moment that is known.

The child tells when its styler has been called so many times, and is slow from then on: whoever
ends it finds it at work.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = "here"
PATIENCE = 240
"""Seconds for a child to do what it is to do, on however slow a machine."""

FAST = (
    *("segmenter=half_sky", "styler=slow_invert", "routes=[sky]", "accelerator=eager"),
    *("scheduler=serial", "device=cpu", "precision=fp32", "steady=off"),
)


@dataclass
class Child:
    """A command that is under way."""

    server: "subprocess.Popen[str]"
    pid: int
    told: Path

    def wait_until_here(self) -> bool:
        """Waits until it is so far; False where it ended before."""
        line = self._line()
        if line.startswith("ended"):
            self._code = int(line.split()[1])
        return line == HERE

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it may have ended meanwhile
            os.kill(self.pid, number)

    def ended(self) -> int:
        """Waits for its end; returns its exit code, which a signal makes negative."""
        while not hasattr(self, "_code"):
            line = self._line()
            if line.startswith("ended"):
                self._code = int(line.split()[1])
        return self._code

    @property
    def out(self) -> str:
        return self.told.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self.told.with_suffix(".err").read_text()

    def _line(self) -> str:
        assert self.server.stdout is not None
        line = self.server.stdout.readline().strip()
        assert line, "the server is gone"
        return line


class Children:
    """Starts one child after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("HYDRA_FULL_ERROR", None)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.children"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._under_way: Child | None = None

    def start(
        self,
        command: str,
        words: Sequence[str],
        *,
        place: Path,
        here: int = 0,
        slow: float = 0.0,
        window: int | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Child:
        """Starts a command.

        Args:
            command: ``run``, ``batch``: the module of `cbs_core.cli`.
            words: what is said to it.
            place: its working folder.
            here: the call of the styler in which it tells that it is so far; 0: it does not.
            slow: seconds that each call takes from then on.
            window: frames of a window of ``resume=true``.
            limits: of its resources, by name: ``{"RLIMIT_FSIZE": 10000}``.
        """
        assert self._server.stdin is not None
        if self._under_way is not None:
            self._under_way.ended()
        self._number += 1
        told = self._folder / f"child{self._number}"
        order = {
            "command": command,
            "words": [*words],
            "place": str(place),
            "here": here,
            "slow": slow,
            "window": window,
            "limits": dict(limits or {}),
            "told": str(told),
        }
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        assert self._server.stdout is not None
        line = self._server.stdout.readline().split()
        assert line[:1] == ["pid"], line
        self._under_way = Child(self._server, int(line[1]), told)
        return self._under_way

    def run(self, command: str, words: Sequence[str], *, place: Path, **more: object) -> Child:
        """Runs a command to its end."""
        child = self.start(command, words, place=place, **more)  # type: ignore[arg-type]
        child.ended()
        return child

    def close(self) -> None:
        child = self._under_way
        if child is not None and not hasattr(child, "_code"):
            child.send(signal.SIGKILL)
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE)


@contextmanager
def children(folder: Path) -> Iterator[Children]:
    server = Children(folder)
    try:
        yield server
    finally:
        server.close()


def serve() -> None:
    """Forks a child for each line that comes in."""
    import av  # noqa: F401
    import torch

    from cbs_core.choose import registry
    from cbs_core.cli import augment, batch, live, run, scene, train  # noqa: F401
    from cbs_core.run import job, resuming
    from cbs_core.testing.runs import CameraSource
    from tests import jobs
    from tests.toy_task import ToyTask

    torch.set_num_threads(1)
    signs, calls = os.dup(1), 0

    def called() -> None:
        nonlocal calls
        calls += 1
        if calls == order["here"]:
            os.write(signs, f"{HERE}\n".encode())
        if order["here"] and calls >= order["here"]:
            time.sleep(order["slow"])

    class SlowTask(ToyTask):
        def step(self, *views):
            called()
            return super().step(*views)

    class SlowInvert(jobs.Invert):
        @classmethod
        def task(cls, data, steps, seed):
            return SlowTask(steps)

        def __call__(self, image):
            called()
            return 1 - image

    registry.segmenters.register("half_sky", jobs.HalfSky)
    registry.stylers.register("slow_invert", SlowInvert)
    registry.sources.register("desk", CameraSource)
    assert job
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            child(order, signs, resuming)
        status = os.waitpid(pid, 0)[1]
        os.write(signs, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


def child(order: dict, signs: int, resuming) -> None:
    import importlib
    import resource
    import traceback

    from cbs_core.machine import signals

    code = 99
    try:
        os.chdir(order["place"])
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, suffix in ((1, ".out"), (2, ".err")):
            file = os.open(order["told"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        for number in signals.ENDING:  # which whoever started the tests may have had ignored
            signal.signal(number, signal.SIG_DFL)
        if order["window"]:
            resuming.WINDOW = order["window"]
        for name, most in order["limits"].items():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(getattr(resource, name), (most, most))
        sys.argv = [f"cbs-{order['command']}", *order["words"]]
        os.write(signs, f"pid {os.getpid()}\n".encode())
        importlib.import_module(f"cbs_core.cli.{order['command']}").main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
