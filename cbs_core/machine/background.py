"""Work that is not to hold up other work of the same process."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

LOWER = 10
"""By how much such a thread is nicer: beside one that computes it gets a tenth of a core."""

TURN_S = 0.0005
"""Seconds that a thread of Python's may go on while another waits; by itself 0.005."""

_here = threading.local()

_next, _cores = threading.Lock(), threading.Lock()
"""Of `in_turn`: who is the next to have the cores, and who has them."""


@contextmanager
def in_short_turns() -> Iterator[None]:
    """Has the threads of this process take turns ten times as often as usual.

    A net lets go of Python's lock at each of its layers. While another thread computes in Python,
    such as one that builds the next net, it waits a whole turn each time to get it back.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@contextmanager
def in_turn(patience: float) -> Iterator[None]:
    """Has the cores for what this thread does, apart from others that do it in turn, in order.

    Two nets that both run on all of them at once wait for each other layer by layer.

    Args:
        patience: seconds, after which it is done all the same; within a turn nothing is waited for.
    """
    end = time.monotonic() + patience
    mine = getattr(_here, "turn", False)
    if mine or not _next.acquire(timeout=patience):
        yield
        return
    try:
        _here.turn = _cores.acquire(timeout=max(0.0, end - time.monotonic()))
    finally:
        _next.release()
    try:
        yield
    finally:
        if _here.turn:
            _here.turn = False
            _cores.release()


def stand_back(*, builds: bool = False) -> None:
    """Has this thread give way to the others of the process, where the system can.

    It computes on half of the cores from now on: two nets that both run on all of them wait for
    each other layer by layer, and take many times as long.

    Args:
        builds: whether what it builds is for the others, and for all of the cores (`threads`).
    """
    if sys.platform == "linux":  # elsewhere this is the priority of the process
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice + LOWER)
    usual = torch.get_num_threads()
    if builds:
        _here.threads = usual
    torch.set_num_threads(max(1, usual // 2))
    # Threads that begin later take the number that was said last, by whichever thread.
    last = threading.Thread(target=torch.set_num_threads, args=(usual,))
    last.start()
    last.join()


def threads() -> int:
    """Returns how many threads a net has that is built in this one, for whoever runs it."""
    found: int = getattr(_here, "threads", None) or torch.get_num_threads()
    return found
