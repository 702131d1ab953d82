"""A process ends with its own code, whatever a plugin leaves running or hangs in."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import atexit, hashlib, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from cbs_core.cli import ending
from cbs_core.cli.app import hydra_app
from cbs_core.contract.errors import ConfigError

how = sys.argv[1]
if how == "daemon":  # as a tool that starts the command does
    atexit.register(print, "called last", flush=True)
ending.PATIENCE = ending.INSISTED = 1.0
ends = []
if how == "fork":
    ending.Ending._wait_for_threads = lambda self: ends.append(1)

def tell_that_it_hangs():
    # The main thread works on, and has nothing to do but what is in C.
    clock = time.pthread_getcpuclockid(threading.main_thread().ident)
    begun = time.clock_gettime(clock)
    while time.clock_gettime(clock) < begun + 0.2:
        time.sleep(0.01)
    print("hanging", flush=True)

def task(config):
    if how in ("thread", "failure"):
        threading.Thread(target=lambda: time.sleep(1e6), name="theirs").start()
    if how == "failure":
        raise ConfigError("wrong")
    if how == "pool":
        global pool
        pool = ThreadPoolExecutor(2)
        pool.submit(print, "x").result()
    if how == "fork":
        child = multiprocessing.get_context("fork").Process(target=print)
        child.start()
        child.join()
        time.sleep(0.5)
        return 3 + len(ends)
    if how == "daemon":
        import torch

        def add():
            numbers = torch.zeros(100)
            while True:
                numbers + numbers

        threading.Thread(target=add, daemon=True).start()
        atexit.register(print, "called", flush=True)
        sys.stdout.write("written")
        time.sleep(0.2)
    if how == "leaver":
        atexit.register(lambda: os._exit(0))
        atexit.register(print, "called", flush=True)
    if how == "own":  # as a training has
        heard = []
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
            while len(heard) < count:
                pass
        time.sleep(2 * ending.PATIENCE)
    if how.startswith("swallow"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:  # as OmegaConf does, in the midst of what it copies
            if how == "swallowed":
                raise AttributeError("no attribute '_flags_cache'") from None
            raise ConfigError("wrong")
    if how == "stubborn":
        while True:
            try:
                print("hanging", flush=True)
                time.sleep(1e6)
            except BaseException:
                pass
    if how == "hang":
        threading.Thread(target=tell_that_it_hangs, daemon=True).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes in C
    return 3

hydra_app("cbs-run", task, ["input=sample:cat"])
"""


def start(how: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("thread", 3, "(theirs): it is ended with this process\n"),
        ("failure", 2, "(theirs): it is ended with this process\n"),
        ("pool", 3, ""),
        ("fork", 3, ""),
        ("own", 3, ""),
    ],
)
def test_what_is_left_behind_holds_nothing_up(
    how: str, code: int, told: str, tmp_path: Path
) -> None:
    ran = start(how, tmp_path)
    _, errors = ran.communicate(timeout=120)
    assert ran.returncode == code
    assert errors.endswith(told)
    assert errors.count("\n") == (how == "failure") + bool(told)


def test_who_leaves_at_the_end_does_not_change_the_exit_code(tmp_path: Path) -> None:
    ran = start("leaver", tmp_path)
    written, errors = ran.communicate(timeout=120)
    assert (ran.returncode, written) == (3, "called\n"), errors
    assert "__main__ called os._exit(0)" in errors


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("swallowed", 130, "cbs-run: interrupted\n"),
        ("swallowed and told", 2, "cbs-run: error: wrong\n"),
    ],
)
def test_what_follows_from_an_interrupt_is_no_fault_of_the_program(
    how: str, code: int, told: str, tmp_path: Path
) -> None:
    ran = start(how, tmp_path)
    _, errors = ran.communicate(timeout=120)
    assert (ran.returncode, errors) == (code, told)


def test_a_daemon_thread_in_a_librarys_code_does_not_change_the_exit_code(tmp_path: Path) -> None:
    ran = start("daemon", tmp_path)
    written, errors = ran.communicate(timeout=120)
    assert ran.returncode == 3, errors
    assert written == "writtencalled\ncalled last\n"
    assert errors == ""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_who_hangs_in_a_library_is_ended_by_the_second_ctrl_c(tmp_path: Path) -> None:
    with start("hang", tmp_path) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        assert ran.stdout.readline() == "hanging\n"
        ran.send_signal(signal.SIGINT)
        # Two at once are one to the operating system: the first must be taken.
        while signal.SIGINT in pending(ran.pid):
            pass
        ran.send_signal(signal.SIGINT)
        assert ran.wait(timeout=120) == 130
        assert "did not return" in ran.stderr.read()


def test_who_catches_ctrl_c_is_ended_where_it_is_pressed_on(tmp_path: Path) -> None:
    with start("stubborn", tmp_path) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        for _ in range(2):
            assert ran.stdout.readline() == "hanging\n"
            ran.send_signal(signal.SIGINT)
        end = time.monotonic() + 120
        while ran.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.2)
            ran.send_signal(signal.SIGINT)
        assert ran.returncode == 130
        assert "did not return" in ran.stderr.read()


def pending(process: int) -> set[int]:
    """The signals that a process has not taken yet."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("ShdPnd"))
    bits = int(line.split()[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}
