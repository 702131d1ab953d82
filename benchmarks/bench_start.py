"""Start-up, and the memory of a frame: each in a process of its own."""

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

HELP = "import sys; sys.argv = ['cbs-run', '--help']; from cbs_core.cli.run import main; main()"

PEAK = """
import re, sys, tempfile
from pathlib import Path
from benchmarks.workloads import FRAME_BY_FRAME, Nets, Scene, ours
def peak():  # not getrusage, which counts what the parent had before exec
    return re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
height, width = map(int, sys.argv[1:])
words = (*FRAME_BY_FRAME, "accelerator=eager", "precision=fp32")
with tempfile.TemporaryDirectory() as folder:
    nets = Nets(Path(folder))
    small = ours(nets, Scene(64, 128), width, words)
    before = peak()
    ours(nets, Scene(height, 2 * height), width, words)()
    print(before, peak())
"""


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_help(benchmark: BenchmarkFixture) -> None:
    out = benchmark.pedantic(python, args=("-c", HELP), rounds=5, iterations=1, warmup_rounds=1)
    assert "restyle" in out


def test_import(benchmark: BenchmarkFixture) -> None:
    args = ("-c", "import cbs_core.run.workshop")
    benchmark.pedantic(python, args=args, rounds=3, iterations=1, warmup_rounds=1)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("height", [256, 512])
@pytest.mark.parametrize("width", [16, 32])
def test_memory(benchmark: BenchmarkFixture, height: int, width: int) -> None:
    args = ("-c", PEAK, str(height), str(width))
    out = benchmark.pedantic(python, args=args, rounds=1, iterations=1)
    before, after = (int(word) / 1024 for word in out.split()[-2:])
    benchmark.extra_info |= {"peak_mib": after, "before_mib": before}
    print(f"\n{height}x{2 * height}, width {width}: peak {after:.0f} MiB, {before:.0f} before")
    assert after >= before
