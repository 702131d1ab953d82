"""The suite of engines passes a plain one, and finds each of the others, which break a rule."""

import pickle
from collections import deque

import pytest

from cbs_core import testing
from cbs_core.contract.engines import Engine, Outcome
from cbs_core.contract.errors import CbsError, EngineError


class Plain:
    """Does the tasks in this process, when they are waited for."""

    workers = 1

    def __init__(self, start):
        self._start, self._tasks, self._worker = start, deque(), None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._worker is not None:
            self._worker.close()

    def submit(self, task):
        self._tasks.append(task)

    def wait(self):
        if not self._tasks:
            raise EngineError("nothing was submitted")
        self._worker = self._worker or self._start()
        return self.done(self._tasks.popleft())

    def done(self, task):
        try:
            return Outcome(task, self._worker.do(task), worker="here")
        except Exception as error:
            return Outcome(task, error=error, worker="here")


class TestPlain(testing.EngineSuite):
    def create(self, start):
        engine = Plain(pickle.loads(pickle.dumps(start)))
        assert isinstance(engine, Engine)
        return engine


class Twice(Plain):
    """Tells the first task's end again in the last one's place."""

    first = None

    def done(self, task):
        self.first = self.first or super().done(task)
        return self.first if task.name == "task 11" else super().done(task)


class BuiltAnew(Plain):
    def done(self, task):
        self._worker = self._start()
        return super().done(task)


class NeverClosed(Plain):
    def __exit__(self, *exc):
        pass


class Raising(Plain):
    def done(self, task):
        return Outcome(task, self._worker.do(task), worker="here")


class Wordless(Plain):
    def done(self, task):
        ended = super().done(task)
        return Outcome(task, error=ended.error and CbsError("failed"), worker="here")


class Silent(Plain):
    def wait(self):
        return super().wait() if self._tasks else None


class Wrapping(Plain):
    def wait(self):
        try:
            return super().wait()
        except CbsError as error:
            raise EngineError("a worker cannot be built") from error


@pytest.mark.parametrize(
    ("engine", "test"),
    [
        (Twice, "test_each_task_ends_once_by_workers_built_once"),
        (BuiltAnew, "test_each_task_ends_once_by_workers_built_once"),
        (NeverClosed, "test_each_task_ends_once_by_workers_built_once"),
        (Raising, "test_an_error_is_its_tasks_alone"),
        (Wordless, "test_an_error_is_its_tasks_alone"),
        (Silent, "test_a_wait_for_nothing_is_refused"),
        (Wrapping, "test_a_worker_that_cannot_be_built_says_why"),
    ],
)
def test_an_engine_that_breaks_a_rule_is_found(engine, test, tmp_path):
    suite = type("Suite", (testing.EngineSuite,), {"create": staticmethod(engine)})()
    start = testing.EngineSuite.start.__wrapped__(suite, tmp_path)
    rest = [] if test.endswith("says_why") else [start]
    rest += [tmp_path] if test.endswith(("once", "wait")) else []
    with pytest.raises((AssertionError, CbsError, pytest.fail.Exception)):
        getattr(suite, test)(*rest)
