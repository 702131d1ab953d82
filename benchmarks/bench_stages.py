"""What each stage of a frame takes: eager float32, 512x1024, width 16, a matte of 10%."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workloads import FRAME_BY_FRAME, Nets, Ours, Scene, ours
from cbs_core.pipeline import Pipeline
from cbs_core.types import Frame

STAGES = ("upload", "segment", "matte", "style", "composite", "download")


@pytest.fixture(scope="module")
def run(folder: Path) -> Ours:
    return ours(Nets(folder), Scene(512, 1024, 0.1, 2), 16, (*FRAME_BY_FRAME, "accelerator=eager"))


@pytest.mark.parametrize("stage", STAGES)
def test_stage(benchmark: BenchmarkFixture, run: Ours, stage: str) -> None:
    pipeline: Pipeline = run.built.pipeline
    frame: Frame = pipeline.upload(run.raw)
    image, size = frame.image, (run.raw.pixels.shape[0], run.raw.pixels.shape[1])
    with torch.inference_mode():
        result = pipeline(image)
    (style,) = pipeline.stylers
    work = {
        "upload": lambda: pipeline.upload(run.raw),
        "segment": lambda: pipeline.segment(image),
        "matte": lambda: pipeline.present(pipeline.regions(result.logits, size)),
        "style": lambda: pipeline.style(image, result.mattes, style),
        "composite": lambda: pipeline.composite(image, result.mattes, result.styled),
        "download": lambda: pipeline.download(result.image, run.raw),
    }[stage]
    with torch.inference_mode():
        benchmark.pedantic(work, rounds=7, iterations=1, warmup_rounds=2)
    print(f"\n{stage}: {1e3 * benchmark.stats.stats.median:.1f} ms")
