"""The bound that a process has on its addresses (``ulimit -v``), told before it is met.

What meets it is an import that fails, an allocation that raises, or an abort within the C library:
none of them says why. torch is not needed here.
"""

import subprocess
import sys

from cbs_core.contract.errors import CbsError, error_words

GIB = 1024**3

BESIDE = 3 * GIB // 4
"""Bytes of addresses that threads' stacks and heaps and a small picture take beside libraries."""

_TRIAL = """
import psutil, torch
for name in ("av", "openvino"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        pass
print(psutil.Process().memory_info().vms)
"""

_WORDS = (
    *("cannot allocate memory", "can't allocate memory", "failed to map segment", "bad_alloc"),
    *("not enough memory", "out of memory", "can't start new thread"),
)
"""How an operating system, torch's allocator, C++ and Python say that there is no memory left."""


class MemoryLimitError(CbsError):
    """A frame needs more memory than the device has, or a library more than the process may."""


def left() -> int | None:
    """Returns the bytes of addresses that this process may still take; None without a bound."""
    bound = _bound()
    if bound is None:
        return None
    import psutil  # not by a command that only tells of itself

    return max(0, bound - int(psutil.Process().memory_info().vms))


def check_libraries() -> None:
    """Refuses to load torch and what is loaded beside it where their addresses do not fit.

    They are loaded by a process of its own first: where one does not fit, the C library or the
    library itself may abort, which nobody can catch.

    Raises:
        MemoryLimitError: with what is due and what is allowed.
    """
    bound = _bound()
    if bound is None:
        return
    tried = subprocess.run(
        [sys.executable, "-c", _TRIAL], capture_output=True, text=True, check=False
    )
    need = "" if tried.returncode else f" takes {(int(tried.stdout) + BESIDE) / GIB:.1f}"
    if not need or int(tried.stdout) + BESIDE > bound:
        raise MemoryLimitError(
            f"this process may take {bound / GIB:.1f} GiB of addresses (ulimit -v), and torch with "
            f"its libraries{need or ' cannot be loaded in them'}: raise that limit"
        )


def memoryless(error: BaseException) -> str | None:
    """Returns the line for an error that means that there is no memory; None for another."""
    words = error_words(error)
    if not isinstance(error, MemoryError) and not any(one in words.lower() for one in _WORDS):
        return None
    bound = _bound()
    mend = "give it smaller pictures, or end other programs"
    if bound is not None:
        mend = f"this process may take {bound / GIB:.1f} GiB (ulimit -v): raise that limit, or "
        mend += "give it smaller pictures"
    said = words.partition(". ")[0][:200]
    return f"there is not enough memory{f' ({said})' if said else ''}: {mend}"


def _bound() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    bound = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if bound == resource.RLIM_INFINITY else bound
