"""Work beside a stream, which gives way to it."""

import os
import sys
import threading

import pytest
import torch

from cbs_core.machine import background
from cbs_core.machine.background import (
    LOWER,
    TURN_S,
    in_short_turns,
    in_turn,
    stand_back,
    threads,
)


def in_thread(work):
    """Returns what a thread of its own returns."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_that_stands_back_leaves_all_others_as_they_are():
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    try:

        def beside():
            stand_back()
            return torch.get_num_threads(), nice() if sys.platform == "linux" else LOWER

        before = nice() if sys.platform == "linux" else 0
        cores, lower = in_thread(beside)
        assert cores == 2
        assert lower == min(before + LOWER, 19)
        assert torch.get_num_threads() == 4
        assert in_thread(torch.get_num_threads) == 4
        assert sys.platform != "linux" or nice() == in_thread(nice) == before
    finally:
        torch.set_num_threads(usual)


def test_what_is_built_for_others_is_built_for_all_their_cores():
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    try:

        def built(**builds):
            stand_back(**builds)
            return threads(), torch.get_num_threads()

        assert in_thread(lambda: built(builds=True)) == (4, 2)
        assert in_thread(built) == (2, 2)
        assert threads() == in_thread(threads) == 4
    finally:
        torch.set_num_threads(usual)


def test_short_turns_end_with_what_they_are_for():
    usual = sys.getswitchinterval()
    with in_short_turns():
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == usual


LONG = 60.0


def test_what_is_done_in_turn_is_done_by_one_thread_at_a_time():
    under_way, most = [], []

    def work():
        for _ in range(200):
            with in_turn(LONG), in_turn(LONG):  # within a turn it is no other
                under_way.append(1)
                most.append(len(under_way))
                under_way.pop()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(most), max(most)) == (800, 1)


def test_nobody_waits_longer_for_a_turn_than_said():
    had, over = threading.Event(), threading.Event()

    def keep():
        with in_turn(LONG):
            had.set()
            over.wait(LONG)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        assert had.wait(LONG)
        for _ in range(2):  # nor is it his who went on without
            with in_turn(0.01):
                pass
    finally:
        over.set()
        keeper.join()
    with in_turn(LONG):
        assert in_thread(lambda: not background._cores.acquire(blocking=False))
    assert background._cores.acquire(blocking=False)
    background._cores.release()
