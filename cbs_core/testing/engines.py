"""The suite of engines."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cbs_core.contract.engines import Engine, Outcome, Start, Task
from cbs_core.contract.errors import CbsError, SourceError, WeightsMissingError


class UnpicklableError(Exception):
    """An error that no other process can be sent, as some libraries raise."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Toy:
    """A worker whose tasks say what becomes of them.

    Args:
        folder: where it notes, by a file each, that it was built and that it was closed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._tasks = 0
        self._name = f"{os.getpid()}-{time.monotonic_ns()}"
        (self._folder / f"{self._name}.built").touch()

    def do(self, task: Task, /) -> Any:
        """Does ``(verb, argument)``, or returns ``task.what`` and how many tasks it has done."""
        self._tasks += 1
        verb, argument = task.what
        if verb == "fail":
            raise SourceError(str(argument))
        if verb == "fail oddly":
            raise UnpicklableError(str(argument))
        if verb == "die":
            os._exit(7)
        while verb == "wait for" and not Path(argument).exists():
            time.sleep(0.01)
        return argument, self._tasks

    def close(self) -> None:
        """Notes that it was."""
        (self._folder / f"{self._name}.closed").touch()


def no_worker() -> Toy:
    """A `Start` that fails.

    Raises:
        WeightsMissingError: always.
    """
    raise WeightsMissingError("no such weights: bring some")


class EngineSuite:
    """Conformance of an `Engine`: each task ends once, and nothing is left."""

    def create(self, start: Start) -> Engine:
        """Returns a new engine."""
        raise NotImplementedError("override create() to return your plugin")

    @pytest.fixture
    def start(self, tmp_path: Path) -> Callable[[], Toy]:
        """Builds workers that note their lives in the test's folder."""
        return partial(Toy, str(tmp_path))

    def test_each_task_ends_once_by_workers_built_once(
        self, start: Callable[[], Toy], tmp_path: Path
    ) -> None:
        """Values come back by their tasks, each worker does several, and all are closed."""
        tasks = [Task(f"task {number}", ("return", number), size=3) for number in range(12)]
        with self.create(start) as engine:
            assert engine.workers >= 1
            ended = all_of(engine, tasks)
        assert sorted(one.task.name for one in ended) == sorted(task.name for task in tasks)
        assert all(one.value[0] == one.task.what[1] and one.task.size == 3 for one in ended)
        assert all(one.error is None and not one.lost and one.seconds >= 0 for one in ended)
        workers = {one.worker for one in ended}
        assert all(workers)
        done = {name: [one.value[1] for one in ended if one.worker == name] for name in workers}
        assert all(sorted(counts) == [*range(1, len(counts) + 1)] for counts in done.values())
        built = {file.stem for file in tmp_path.glob("*.built")}
        assert len(workers) <= len(built) <= max(len(workers), engine.workers)
        assert {file.stem for file in tmp_path.glob("*.closed")} == built

    def test_an_error_is_its_tasks_alone(self, start: Callable[[], Toy]) -> None:
        """The others are done, and an error that cannot travel is told by its text."""
        tasks = [
            Task("bad", ("fail", "a.mp4 is damaged: replace it")),
            Task("odd", ("fail oddly", "the moon is full")),
            Task("good", ("return", 1)),
        ]
        with self.create(start) as engine:
            ended = {one.task.name: one for one in all_of(engine, tasks)}
        bad, odd = ended["bad"].error, ended["odd"].error
        assert isinstance(bad, SourceError)
        assert str(bad) == "a.mp4 is damaged: replace it"
        assert odd is not None
        assert "the moon is full" in str(odd)
        assert ended["good"].value[0] == 1
        assert not any(one.lost for one in ended.values())

    def test_submit_does_not_wait(self, start: Callable[[], Toy], tmp_path: Path) -> None:
        """More tasks than workers, none of which can end before all are submitted."""
        gate = tmp_path / "open"
        with self.create(start) as engine:
            tasks = [Task(f"task {n}", ("wait for", str(gate))) for n in range(engine.workers + 3)]
            for task in tasks:
                engine.submit(task)
            gate.touch()
            ended = [engine.wait() for _ in tasks]
        assert {one.task.name for one in ended} == {task.name for task in tasks}

    def test_a_worker_that_cannot_be_built_says_why(self) -> None:
        """The error of `Start` is the engine's, as it was raised."""
        with pytest.raises(WeightsMissingError, match="no such weights: bring some"):
            one_of(self.create(no_worker), Task("any", ("return", 1)))

    def test_a_wait_for_nothing_is_refused(self, start: Callable[[], Toy]) -> None:
        """It would never end."""
        with self.create(start) as engine, pytest.raises(CbsError, match="nothing"):
            engine.wait()

    def test_leaving_drops_what_is_not_done(self, start: Callable[[], Toy], tmp_path: Path) -> None:
        """After an error, tasks that would never end hold nothing up."""
        before = threading.active_count()
        task = Task("endless", ("wait for", str(tmp_path / "never")))
        with pytest.raises(KeyError, match="endless"):
            left_by_error(self.create(start), task)
        assert threading.active_count() <= before


class ProcessEngineSuite(EngineSuite):
    """Conformance of an `Engine` whose workers are processes of their own: it survives them."""

    def test_a_worker_that_dies_costs_its_task(self, start: Callable[[], Toy]) -> None:
        """The task is told as lost, and another worker does the rest."""
        tasks = [Task("deadly", ("die", 0)), *(Task(f"t{n}", ("return", n)) for n in range(6))]
        with self.create(start) as engine:
            ended = {one.task.name: one for one in all_of(engine, tasks)}
        assert len(ended) == 7
        assert [name for name, one in ended.items() if one.lost] == ["deadly"]
        assert ended["deadly"].error is None
        assert sorted(one.value[0] for one in ended.values() if not one.lost) == [*range(6)]


def all_of(engine: Engine, tasks: list[Task]) -> list[Outcome]:
    """Submits tasks and returns how each ended, in that order."""
    for task in tasks:
        engine.submit(task)
    return [engine.wait() for _ in tasks]


def one_of(engine: Engine, task: Task) -> Outcome:
    """Enters an engine for one task."""
    with engine:
        engine.submit(task)
        return engine.wait()


def left_by_error(engine: Engine, task: Task) -> None:
    """Leaves an engine with a task under way on each worker, and two that wait.

    Raises:
        KeyError: the error by which it is left.
    """
    with engine:
        for number in range(engine.workers + 2):
            engine.submit(replace(task, name=f"{task.name} {number}"))
        raise KeyError(task.name)
