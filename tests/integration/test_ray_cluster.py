"""A film on three machines that are none: a node dies, an actor dies, the driver dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from cbs_core.contract.stored import Stored
from cbs_core.machine import stores
from tests import jobs, ray_batches
from tests.conftest import ROOT
from tests.media import frame_times as times
from tests.media import make_clip, sound_packets
from tests.media import rgb_frames as frames
from tests.ray_batches import HOLD, notes, said
from tests.stores import s3_bucket

pytestmark = pytest.mark.alone

PATIENCE_S = 240


@pytest.fixture(scope="module")
def films():
    """A folder of an S3 server of the test's own, which is there for whatever starts later."""
    with s3_bucket() as address:
        yield address


@pytest.fixture(scope="module")
def cluster(films):
    """Three nodes of a core each; the test's own process stands on the first."""
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20},
    )
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 frames at uneven times with sound, in groups of 12, with B-frames."""
    ticks = [i * 40 + (i % 3) * 7 for i in range(300)]
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, frames=300, ticks=ticks, time_base=Fraction(1, 1000), sound=12)


@pytest.fixture(scope="module")
def whole(clip: Path) -> list[np.ndarray]:
    """The frames of the run in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        plugins = {"segmenter": {"bright": ray_batches.Bright}}
        jobs.registered(patch, **plugins)
        output = clip.with_name("whole.mp4")
        config = {**said(), "input": str(clip), "output": str(output), "report": None}
        assert jobs.job(clip.parent, **config).run() is not None
    return frames(output)


def check(clip: Path, output: Path, whole: list[np.ndarray]) -> None:
    """The film is the run in one piece, with its times and its sound."""
    made = frames(output)
    assert len(made) == len(whole) == 300
    assert all(map(np.array_equal, made, whole))
    assert times(output) == times(clip)
    assert sound_packets(output) == sound_packets(clip)


def until(what: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


def engine(cluster, workers: int) -> dict[str, object]:
    return {"name": "ray", "address": cluster.address, "workers": workers, "cpus": 1}


def windows(folder: Path, what: str) -> Counter[str]:
    """How often each window was begun, or ended."""
    return Counter(name for name, *_ in notes(folder, what) if "-" in name)


def test_the_driver_is_killed_and_started_again(cluster, clip, whole, tmp_path) -> None:
    config = said(
        input=str(clip), output=str(tmp_path / "out"), window=100, engine=engine(cluster, 1)
    )
    (tmp_path / "said.json").write_text(json.dumps(config))
    hold = tmp_path / f"{HOLD} clip.mp4 96-192"
    hold.touch()
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.ray_batches", str(tmp_path), str(tmp_path / "said.json")],
        cwd=ROOT,
    )
    held = []

    def is_held() -> bool:
        assert driver.poll() is None
        held[:] = [pid for name, _, pid in notes(tmp_path, "begun") if "96-192" in name]
        return bool(held)

    try:
        until(is_held, "the second window was never begun")
    finally:
        driver.kill()
        driver.wait()
    until(lambda: not psutil.pid_exists(held[0]), "the killed driver's worker lives on")
    hold.unlink()
    assert windows(tmp_path, "ended") == {"clip.mp4 0-96": 1}
    assert ray_batches.batch(str(tmp_path), config) == 0
    check(clip, tmp_path / "out" / "clip.mp4", whole)
    ended, begun = windows(tmp_path, "ended"), windows(tmp_path, "begun")
    assert set(ended.values()) == {1}
    assert len(ended) == 3
    assert begun - ended == {"clip.mp4 96-192": 1}


def test_a_node_and_a_worker_die(cluster, clip, whole, tmp_path) -> None:
    config = said(
        input=str(clip), output=str(tmp_path / "out"), window=42, engine=engine(cluster, 3)
    )
    first = [f"clip.mp4 {span}" for span in ("0-42", "42-84", "84-126")]
    for name in first:
        (tmp_path / f"{HOLD} {name}").touch()
    failed: list[BaseException] = []

    def kill() -> None:
        try:
            until(lambda: len(windows(tmp_path, "begun")) == 3, "three windows were never begun")
            places = {name: (node, pid) for name, node, pid in notes(tmp_path, "begun")}
            nodes = {node.node_id: node for node in cluster.worker_nodes}
            there = [name for name in first if places[name][0] in nodes]
            elsewhere = next(name for name in first if places[name][0] not in nodes)
            os.kill(places[elsewhere][1], signal.SIGKILL)
            cluster.remove_node(nodes[places[there[0]][0]], allow_graceful=False)
        except BaseException as error:
            failed.append(error)
        for name in first:
            (tmp_path / f"{HOLD} {name}").unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert ray_batches.batch(str(tmp_path), config) == 0
    finally:
        killer.join()
    assert not failed
    check(clip, tmp_path / "out" / "clip.mp4", whole)
    ended, begun = windows(tmp_path, "ended"), windows(tmp_path, "begun")
    assert len(ended) == 7
    assert set(ended.values()) == {1}
    assert sum((begun - ended).values()) == 2
    assert set(begun - ended) < set(first)


def test_one_window(cluster, clip, whole, tmp_path) -> None:
    config = said(
        input=str(clip), output=str(tmp_path / "out"), window=300, engine=engine(cluster, 1)
    )
    assert ray_batches.batch(str(tmp_path), config) == 0
    assert windows(tmp_path, "ended") == {"clip.mp4 0-300": 1}
    check(clip, tmp_path / "out" / "clip.mp4", whole)


def test_workers_read_and_write_a_store(cluster, films, clip, whole, tmp_path) -> None:
    stores.Store(f"{films}/in").put(clip, "clip.mp4", over=False)
    config = said(input=f"{films}/in", output=f"{films}/out", window=150, engine=engine(cluster, 2))
    assert ray_batches.batch(str(tmp_path), config) == 0
    assert windows(tmp_path, "ended") == {"clip.mp4 0-144": 1, "clip.mp4 144-300": 1}
    made = tmp_path / "made.mp4"
    stores.fetch(Stored(f"{films}/out/clip.mp4"), made)
    check(clip, made, whole)
    assert not any("/parts/" in name for name in stores.Store(films).names("out.batch"))
