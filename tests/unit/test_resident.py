"""Of the benchmark that needs a CUDA device, what can be judged without one; and a short run."""

from pathlib import Path

import pytest
import torch

from benchmarks import floor, resident
from benchmarks.workloads import Nets, Scene, ours


def result(**measured):
    return {
        "scene": {"height": 1024, "width": 2048, "share": 1.0, "objects": 1},
        "words": ("styler.where=mask",),
        "must": 150,
        "aim": 300,
        "p95_ms": 10,
        "floor_ms": 2.0,
        "measured": measured,
        "not_offered": {"compile": "no such | thing"},
    }


def one(fps, p95=5.0):
    return {"fps": fps, "p50_ms": 1e3 / fps, "p95_ms": p95}


def test_a_row_is_judged_by_rate_and_latency():
    lines = resident.table(result(slow=one(100), good=one(200), late=one(310, 11.0), best=one(320)))
    verdicts = {line.split()[1]: line.split()[-2] for line in lines if line.endswith(" |")}
    assert "matte 100%** `styler.where=mask`: must 150 FPS with p95 at most 10 ms" in lines[0]
    assert list(verdicts)[1:5] == ["best", "late", "good", "slow"]
    assert [verdicts[name] for name in ("best", "late", "good", "slow")] == [
        "aim",
        "below",
        "must",
        "below",
    ]
    assert "| 64% |" in next(line for line in lines if line.startswith("| best"))
    assert "not offered here: no such / thing" in lines[-2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_is_claimed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["resident"])
    assert resident.main() == 1
    assert "nothing is measured" in capsys.readouterr().err


def test_frames_are_driven_through_a_scheduler_in_order(tmp_path):
    words = ("device=cpu", "scheduler=pipeline", "accelerator=eager")
    run = ours(Nets(Path(tmp_path)), Scene(64, 128), 8, words)
    found = list(resident.drive(run, run.raw, 7))
    run.close()
    assert [index for index, _ in found] == list(range(7))
    assert sorted(found, key=lambda one: one[1]) == found


@pytest.mark.cuda
def test_a_short_run(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "FRAMES", 20)
    nets = Nets(Path(tmp_path))
    row = resident.Row("matte", Scene(256, 512, 0.1, 2), 1, 2, ("styler.where=mask",))
    rate = floor.rate(torch.float16, torch.device("cuda"))
    found = resident.measure(row, nets, rate, ("eager", "cudagraph"))
    assert found["measured"].keys() == {
        f"{name} {scheduler}"
        for name in ("eager", "cudagraph")
        for scheduler in ("serial", "streams")
    }
    assert all(one["fps"] > 0 and one["p95_ms"] > 0 for one in found["measured"].values())
    print("\n".join(resident.table(found)))
