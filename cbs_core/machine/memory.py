"""How much memory a frame needs and how much there is: a frame too large is refused beforehand.

Asking first matters on Linux: an allocation too large succeeds there, and the process is killed
without a word when it touches the pages.
"""

import ctypes
from functools import cache
from pathlib import Path

import psutil
import torch

from cbs_core.machine import limits
from cbs_core.machine.limits import GIB, MemoryLimitError

__all__ = ["GIB", "MemoryLimitError", "available", "check_memory", "give_back"]

CGROUP = Path("/sys/fs/cgroup")
"""Where a container with cgroup v2 finds its limits."""


def available(device: torch.device) -> int:
    """Returns the bytes that the device can still give.

    On the host a container's limit (cgroup v2) counts too, and the process's own (``ulimit -v``).
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    free = int(psutil.virtual_memory().available)
    addresses = limits.left()
    free = free if addresses is None else min(free, addresses)
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return free
    return max(0, min(free, limit - used + _cached_files()))


def _cached_files() -> int:
    """Returns the bytes of a container's memory that are only copies of files: given up if due."""
    try:
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def give_back() -> None:
    """Returns to the system what was freed in the midst of the heap, where the C library can.

    Blocks of one frame's size leave holes that those of the next do not fit; over a hundred sizes
    glibc's heap is half holes. Its ``malloc_trim`` takes milliseconds.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> "ctypes._NamedFuncPointer | None":
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows
        return None


def check_memory(
    height: int, width: int, bytes_per_pixel: int, device: torch.device, *, what: str = "a frame"
) -> None:
    """Refuses a frame, or what is named instead, that would not fit.

    Raises:
        MemoryLimitError: with the memory needed, that there is, and a size that would fit.
    """
    need = height * width * bytes_per_pixel
    free = available(device)
    if need > free:
        scale = (free / need) ** 0.5
        raise MemoryLimitError(
            f"{what} of {width}x{height} needs about {need / GIB:.1f} GiB of memory and "
            f"{device} has {free / GIB:.1f} GiB free: make it smaller than about "
            f"{int(width * scale)}x{int(height * scale)}, or use a smaller net"
        )
