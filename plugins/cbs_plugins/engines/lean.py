"""A Ray of our own, without what a batch makes no use of and without what it need not wait for.

`ray.init` knows no way to say so. What is changed are functions of Ray's own; in a Ray that has
them no more, or otherwise, all starts as it likes.
"""

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

CONFIG = {"prestart_worker_first_driver": False, "worker_niceness": 0}
"""Of Ray: no process waits for each core, those of workers start when workers are asked for; and
these have the priority of any program (Ray's own choice is 15, behind whatever else runs)."""

NONE = -1
"""The port of a service that there is not, as Ray's agent says it."""

PORTS = 20_000, 32_000
"""Below those that systems give to whoever asks for any (Linux: from 32,768 on)."""

TRIES = 100

SERVING = ("aiohttp", "aiohttp_cors", "opencensus", "prometheus_client")
"""What comes with ``ray[default]``, without which no agent serves metrics."""

AGENTS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")

STAND_IN = "cat"
"""A raylet ends when an agent of it does, and wants a command of each. This one ends when the
raylet does, which holds its input."""

REGISTERED_S = 10.0
LOOK_S = 0.02
"""So often is looked whether the raylet is there; Ray itself looks once a second."""


@contextmanager
def lean() -> Iterator[None]:
    """Has `ray.init` start six of its processes of Python less, or later.

    Left out are what scales a cluster, what collects logs, what tells Ray's makers how it is used,
    and the two agents, where none of them would serve metrics: the ports that these would tell are
    told in their place.
    """
    try:
        changed = _changes()
    except (ImportError, AttributeError):  # another Ray
        yield
        return
    before = [(where, name, getattr(where, name)) for where, name, _ in changed]
    for where, name, new in changed:
        setattr(where, name, new)
    try:
        yield
    finally:
        for where, name, old in before:
            setattr(where, name, old)


def _changes() -> list[tuple[Any, str, Callable[..., Any]]]:
    from ray._private import parameter, services, utils
    from ray._private.node import Node

    less: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
    changed: list[tuple[Any, str, Callable[..., Any]]] = [
        (Node, "start_api_server", lambda node, **_: None),
    ]
    port = _free_port()
    if port and os.name == "posix" and not all(map(find_spec, SERVING)):
        less["runtime_env_agent_port"] = port
        changed += [
            (Node, "start_raylet", _told(Node.start_raylet, port)),
            (services, "start_ray_process", _alone(services.start_ray_process)),
            (utils, "get_dashboard_dependency_error", lambda: ImportError("ray[default]")),
        ]
    changed.append((parameter, "RayParams", partial(parameter.RayParams, **less)))
    return changed


def _told(start_raylet: Callable[..., Any], port: int) -> Callable[..., Any]:
    """Returns what starts a raylet that knows the agents' ports by then, and waits for it."""
    _raylet: Any = import_module("ray._raylet")  # built, and told of in part alone
    ports = {
        _raylet.RUNTIME_ENV_AGENT_PORT_NAME: port,
        _raylet.METRICS_AGENT_PORT_NAME: NONE,
        _raylet.METRICS_EXPORT_PORT_NAME: NONE,
        _raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: NONE,
    }
    persist = _raylet.persist_port

    def start(node: Any, *args: Any, **kwargs: Any) -> Any:
        for name, number in ports.items():
            persist(node._session_dir, node._node_id, name, number)
        started = start_raylet(node, *args, **kwargs)
        until = time.monotonic() + REGISTERED_S
        while not node.get_gcs_client().get_all_node_info() and time.monotonic() < until:
            time.sleep(LOOK_S)
        return started

    return start


def _alone(start_process: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what starts Ray's raylet, which starts its agents, with stand-ins for these."""

    def start(command: list[str], *args: Any, **kwargs: Any) -> Any:
        for agent in AGENTS:
            command = [f"{agent}{STAND_IN}" if one.startswith(agent) else one for one in command]
        return start_process(command, *args, **kwargs)

    return start


def _free_port() -> int | None:
    chance = random.SystemRandom()
    for _ in range(TRIES):
        port = chance.randrange(*PORTS)
        with socket.socket() as tried:
            try:
                tried.bind(("", port))
            except OSError:
                continue
            return port
    return None
