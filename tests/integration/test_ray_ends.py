"""Of a Ray that was started for a batch nothing is left, whatever ends it."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.alone

PATIENCE_S = 240

GONE_S = 30 if sys.platform == "linux" else PATIENCE_S
"""Ray by itself lets a worker that is at a task work on for a minute."""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left(by: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.ray_ends", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert driver.stdout is not None
    line = driver.stdout.readline().split()
    processes, words = [], ""
    for pid in line:
        with suppress(psutil.NoSuchProcess):  # Ray ends one now and then by itself
            processes.append(psutil.Process(int(pid)))
            words += " ".join(processes[-1].cmdline())
    assert len(processes) >= 3
    assert "dashboard.py" not in words  # which tells Ray's makers of its use
    secrets = {one.environ().get("RAY_AUTH_TOKEN", "") for one in processes[:2]}
    assert {len(secret) for secret in secrets} == {64}
    driver.send_signal(by)
    rest = driver.stdout.read()
    assert driver.wait(PATIENCE_S) == (0 if by == signal.SIGINT else -signal.SIGKILL)
    assert rest.split() == (["interrupted"] if by == signal.SIGINT else [])
    deadline = time.monotonic() + GONE_S
    while left := [one for one in processes if _lives(one)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
