"""The gate: a slower change fails it, and so does one that measures nothing."""

import json
import sys
import time

import pytest

from benchmarks import gate, machine
from benchmarks.workloads import NotOfferedError


def sleeps(seconds):
    return lambda: time.sleep(seconds)


REFERENCE = sleeps(0.02)
RECORDED = {"ours": 2.0}


def judge(workload, recorded=RECORDED):
    return gate.judge({"ours": workload}, REFERENCE, recorded, rounds=3)


def test_as_fast_as_recorded_passes():
    verdict = judge(sleeps(0.01))
    assert not verdict.faults
    assert verdict.ratios["ours"] > 1.7


def test_an_artificial_slowdown_fails():
    (fault,) = judge(sleeps(0.016)).faults
    assert "ours" in fault
    assert "below the recorded 2.00x" in fault


def test_a_slow_moment_is_measured_again():
    calls = iter([0.05] * 5)
    verdict = judge(lambda: time.sleep(next(calls, 0.01)))
    assert not verdict.faults


def test_a_spread_measurement_is_called_noisy():
    times = iter([0, 0, 0.01, 0.02, 0.05] * 3)
    verdict = judge(lambda: time.sleep(next(times)), recorded={})
    assert verdict.noisy == {"ours"}


def test_only_what_failed_is_measured_again():
    calls = []
    work = {"good": lambda: calls.append(1) or time.sleep(0.01), "bad": sleeps(0.04)}
    verdict = gate.judge(work, REFERENCE, {"good": 2.0, "bad": 2.0}, rounds=3)
    assert [fault.partition(":")[0] for fault in verdict.faults] == ["bad"]
    assert len(calls) == 5  # two to warm up, three rounds


def test_no_benchmark_executed_fails():
    assert gate.judge({}, REFERENCE, {}).faults == ["no benchmark was executed"]


def test_a_recorded_workload_that_is_gone_fails():
    (fault,) = gate.judge({"ours": sleeps(0.01)}, REFERENCE, {"gone": 3.0}, rounds=3).faults
    assert fault == "gone: recorded at 3.00x, and not measured now"


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs ``make gate`` with given workloads; records lie in a folder of the test's own."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(gate.Nets, "reference", lambda self, scene: REFERENCE)

    def run(workload, *words):
        def ours(nets, scene, width, overrides):
            if workload is None or overrides[-2:] != gate.CASES["eager"]:
                raise NotOfferedError("no such thing")
            return workload

        monkeypatch.setattr(gate, "ours", ours)
        monkeypatch.setattr(sys, "argv", ["gate", *words])
        return gate.main()

    return run


def test_it_records_and_then_fails_a_slowdown(command, tmp_path, capsys):
    assert command(sleeps(0.01), "--record") == 0
    (path,) = tmp_path.glob("*/gate.json")
    assert json.loads(path.read_text())["ratios"].keys() == {"eager"}
    assert command(sleeps(0.01)) == 0
    assert command(sleeps(0.02)) == 1
    assert "gate: FAILED: eager" in capsys.readouterr().err


def test_an_unknown_machine_measures_and_records_nothing(command, tmp_path, capsys):
    assert command(sleeps(0.01)) == 0
    assert "nothing is recorded for" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["--record"]])
def test_a_command_that_measures_nothing_fails(command, tmp_path, capsys, words):
    assert command(None, *words) == 1
    assert "no benchmark was executed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
