"""What each stage of a frame takes, by the pipeline's own meter: 512x1024, a matte of 10%."""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workloads import FRAME_BY_FRAME, Nets, NotOfferedError, Scene, ours
from cbs_core.machine.meter import Meter

SETTINGS = {
    "eager": ("accelerator=eager", "precision=fp32"),
    "eager-mask": ("accelerator=eager", "precision=fp32", "styler.where=mask"),
    "openvino": ("accelerator=openvino", "precision=bf16"),
    "openvino-mask": ("accelerator=openvino", "precision=bf16", "styler.where=mask"),
}


@pytest.fixture(scope="module")
def nets(folder: Path) -> Nets:
    return Nets(folder)


@pytest.mark.parametrize("setting", SETTINGS)
def test_stages(benchmark: BenchmarkFixture, nets: Nets, setting: str) -> None:
    try:
        run = ours(nets, Scene(512, 1024, 0.1, 2), 16, (*FRAME_BY_FRAME, *SETTINGS[setting]))
    except NotOfferedError as error:
        pytest.skip(f"not offered here: {error}")
    meter: Meter = run.meter
    benchmark.pedantic(run, rounds=7, iterations=1, warmup_rounds=2)
    stages = {name: latency.p50 for name, latency in meter.latencies().items()}
    benchmark.extra_info["stages_ms"] = stages
    print(f"\n{setting}: " + ", ".join(f"{name} {ms:.1f}" for name, ms in stages.items()) + " ms")
    assert {"segment", "style", "composite"} <= stages.keys()
