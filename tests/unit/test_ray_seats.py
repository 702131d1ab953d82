"""The Ray engine and what is around it, without Ray."""

import gc
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cbs_plugins.engines import cluster, lean, ray, seat
from cbs_plugins.engines.cluster import Cluster
from cbs_plugins.engines.ray import RayEngine
from cbs_plugins.engines.seat import Seat, version

from cbs_core.contract.engines import Task


class Ref:
    """What was asked for."""

    def __init__(self, made: bytes) -> None:
        self.made = made


class Growing:
    """A cluster whose actors answer at once, and which a second machine joins after the start."""

    def __init__(self) -> None:
        self.looks = 0
        self.room: list[cluster.Machine] = [{"CPU": 1.0}]

    def __getattr__(self, name: str) -> Any:  # enter, leave, end: nothing is to be done
        return lambda *args: None

    def machines(self) -> list[cluster.Machine]:
        self.looks += 1
        return self.room

    def actor(self, *size: object) -> Any:
        def answer(value: object) -> Any:
            made = pickle.dumps((value, None, 0.1))
            return SimpleNamespace(remote=lambda *args: Ref(made))

        return SimpleNamespace(
            remote=lambda *args: SimpleNamespace(
                begin=answer("here"), do=answer(1), close=answer(None)
            )
        )

    def answered(self, refs: list[Any], timeout: float, *, every: bool = False) -> list[Any]:
        return refs[:1]

    def reply(self, ref: Any) -> bytes:
        return ref.made


def test_a_machine_that_joins_is_found_while_tasks_end_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(ray, "time", SimpleNamespace(monotonic=lambda: next(clock) / 4))
    engine = RayEngine(dict, cpus=1)  # type: ignore[arg-type]
    made = Growing()
    engine._ray = made  # type: ignore[assignment]
    with engine:
        assert engine.workers == 1
        made.room = [{"CPU": 1.0}, {"CPU": 1.0}]
        for number in range(40):
            engine.submit(Task(str(number)))
            engine.wait()
        assert engine.workers == 2
    assert made.looks < 40  # and not after each


def test_ctrl_c_while_ray_starts_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def init(*args: object, **kwargs: Any) -> None:
        folders.append(Path(kwargs["_temp_dir"]))
        assert folders[0].is_dir()
        raise KeyboardInterrupt

    fake = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(KeyboardInterrupt):
        Cluster(None).enter()
    assert not folders[0].exists()
    assert "RAY_AUTH_TOKEN" not in cluster.os.environ


THREADS = []


def begun() -> object:
    """Imports torch only when the worker is built, as `cbs_core.batch.session.begun` does."""
    torch = ModuleType("torch")
    torch.set_num_threads = THREADS.append  # type: ignore[attr-defined]
    sys.modules["torch"] = torch
    return object()


def test_a_workers_threads_are_bounded_though_it_imports_torch_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]  # and put back
    del sys.modules["torch"]
    monkeypatch.setattr(seat, "_address", lambda: "here")
    monkeypatch.setattr(seat, "Numbers", lambda machine: None)
    THREADS.clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = Seat(3, 1, str(Path.cwd()))
    value, error, _ = pickle.loads(place.begin(pickle.dumps(begun), version()))
    assert (value, error) == ("here", None)
    assert THREADS == [3]
    assert gc.isenabled()
    assert seat.os.environ["OMP_NUM_THREADS"] == "3"  # for the one that the worker builds nets by


def test_a_ray_of_our_own_starts_leaner_and_nothing_stays_changed() -> None:
    pytest.importorskip("ray")
    from ray._private import parameter, services, utils
    from ray._private.node import Node

    def now() -> tuple[object, ...]:
        start = services.start_ray_process
        return (
            *(parameter.RayParams, Node.start_api_server, Node.start_raylet, start),
            utils.get_dashboard_dependency_error,
        )

    before = now()
    with lean.lean():
        params = parameter.RayParams()
        assert params.no_monitor
        assert params.include_log_monitor is False
        assert params.runtime_env_agent_port in (None, *range(*lean.PORTS))
        assert Node.start_api_server(None, include_dashboard=False) is None
    assert now() == before


def test_another_ray_starts_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray._private import parameter

    before = parameter.RayParams
    monkeypatch.setitem(sys.modules, "ray._private.node", ModuleType("another"))
    with lean.lean():
        assert parameter.RayParams is before


def test_a_raylet_is_told_the_agents_ports_before_it_starts_and_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    looks = iter([{}, {}, {"this": "machine"}])
    gcs = SimpleNamespace(get_all_node_info=lambda: next(looks))
    node = SimpleNamespace(
        _session_dir=str(tmp_path), _node_id="11" * 28, get_gcs_client=lambda: gcs
    )
    started = lean._told(lambda node, *args: [path.name for path in tmp_path.iterdir()], 21_000)
    names = ("dashboard_agent_listen", "metrics_agent", "metrics_export", "runtime_env_agent")
    there = started(node)
    assert all(any(one.startswith(name) for one in there) for name in names)
    told = next(tmp_path.glob("runtime_env_agent*"))
    assert told.read_text().strip() == "21000"
    assert next(looks, None) is None


def test_agents_have_stand_ins_and_all_else_starts_as_it_would() -> None:
    command = ["raylet", "--head", "--dashboard_agent_command=python agent.py --node=1"]
    start = lean._alone(lambda command, kind, *, shared: (command, kind, shared))
    agentless = ["raylet", "--head", f"--dashboard_agent_command={lean.STAND_IN}"]
    assert start(command, "raylet", shared=True) == (agentless, "raylet", True)
    assert start(["gcs_server"], "gcs", shared=False) == (["gcs_server"], "gcs", False)
