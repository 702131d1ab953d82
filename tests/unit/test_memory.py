"""A frame that would not fit is refused, and what is freed goes back to the system."""

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from cbs_core.machine import limits, memory
from cbs_core.machine.memory import GIB, MemoryLimitError, available, check_memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A host with 8 GiB free, whose container's files the test writes."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GIB))
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def limit(folder: Path, maximum: int | str, current: int, **stat: int) -> None:
    (folder / "memory.max").write_text(f"{maximum}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    if stat:
        (folder / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in stat.items()))


def test_without_a_container_it_is_the_hosts(machine):
    assert available(CPU) == 8 * GIB


def test_a_container_without_a_limit_has_the_hosts(machine):
    limit(machine, "max", GIB)
    assert available(CPU) == 8 * GIB


def test_a_containers_limit_counts(machine):
    limit(machine, 4 * GIB, GIB, anon=GIB)
    assert available(CPU) == 3 * GIB


def test_a_limit_above_the_hosts_memory_gives_nothing_more(machine):
    limit(machine, 64 * GIB, GIB)
    assert available(CPU) == 8 * GIB


def test_cached_files_are_not_in_use(machine):
    limit(machine, 4 * GIB, 4 * GIB, anon=GIB, inactive_file=2 * GIB, active_file=GIB)
    assert available(CPU) == 3 * GIB


def test_a_container_over_its_limit_has_nothing(machine):
    limit(machine, GIB, 2 * GIB)
    assert available(CPU) == 0


def test_what_the_process_may_take_counts(machine, monkeypatch):
    taken = psutil.Process().memory_info().vms
    monkeypatch.setattr(limits, "_bound", lambda: taken + 2 * GIB)
    assert available(CPU) == pytest.approx(2 * GIB, abs=GIB // 4)
    monkeypatch.setattr(limits, "_bound", lambda: taken // 2)
    assert available(CPU) == 0


def test_a_gpu_also_gives_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB)
    assert available(torch.device("cuda")) == 4 * GIB


def test_what_fits_passes(machine):
    check_memory(1024, 1024, 8 * 1024, CPU)


def test_what_does_not_fit_is_told_with_a_size_that_does(machine):
    with pytest.raises(MemoryLimitError) as error:
        check_memory(16384, 8192, 256, CPU)
    assert str(error.value).startswith(
        "a frame of 8192x16384 needs about 32.0 GiB of memory and cpu has 8.0 GiB free: make it "
        "smaller than about 4096x8192"
    )
    check_memory(8192, 4096, 256, CPU)


def test_no_memory_at_all_is_told_too(machine):
    limit(machine, GIB, 2 * GIB)
    with pytest.raises(MemoryLimitError, match=r"0\.0 GiB free"):
        check_memory(1, 1, 1, CPU)


def resident() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return int(told["RssAnon"].split()[0]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_holes_in_the_heap_go_back():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("needs glibc")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size, count = 65536, 2048  # too small for pages of their own
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last keeps the heap's end where it is
        libc.free(block)
    full = resident()
    memory.give_back()
    assert full - resident() > size * count // 2
    libc.free(blocks[-1])


def test_a_stream_gives_back_where_the_size_changes(monkeypatch):
    from cbs_core.run import stream

    given: list[int] = []
    monkeypatch.setattr(stream, "give_back", lambda: given.append(1))
    plan = SimpleNamespace(bytes_per_pixel=lambda height, width: 1, device=CPU)
    made = stream.Stream(plan)
    for height, changes in ((8, 0), (8, 0), (9, 1), (9, 1), (8, 2)):
        made.check(height, 8)
        assert len(given) == changes
