"""A frame from uint8 to uint8, codecs aside: sizes, widths, mattes, schedulers, accelerators.

By default one thing is varied at a time around 256x512, width 16, a matte of 10%, `eager` and
`serial`; ``make bench`` must stay short. ``pytest benchmarks --full`` runs every combination, up to
1024x2048. What this version or machine does not offer is skipped, by name; so is, but for
``--full``, plain torch in bfloat16 where the CPU only emulates it: it takes dozens of times
as long.
"""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workloads import Nets, NotOfferedError, Ours, Scene, ours
from cbs_core.choose import registry
from cbs_core.contract.types import RawFrame
from cbs_core.machine.device import multiplies_in_bf16

FRAMES = 6
"""In flight together at most, where a scheduler overlaps neighbours."""


class Case(NamedTuple):
    """A point of the comparison."""

    height: int = 256
    width: int = 16
    percent: int = 10
    scheduler: str = "serial"
    accelerator: str = "eager"
    precision: str = "fp32"
    where: str = "frame"

    def __str__(self) -> str:
        height, *rest = self
        return "-".join([f"{height}x{2 * height}", *map(str, rest)])


SCHEDULERS = registry.schedulers.names()
ACCELERATORS = registry.accelerators.names()
PRECISIONS = ("fp32", "bf16")

FEW = (
    Case(),
    Case(height=512),
    Case(width=32),
    *(Case(percent=percent) for percent in (0, 30, 100)),
    *(Case(scheduler=name) for name in SCHEDULERS if name != "serial"),
    *(Case(accelerator=name, precision="bf16") for name in ("eager", "openvino")),
    *(Case(where="mask", precision=precision) for precision in PRECISIONS),
    Case(accelerator="openvino", precision="bf16", where="mask"),
)

ALL = tuple(
    Case(*point)
    for point in product(
        (256, 512, 1024),
        (16, 32),
        (0, 10, 30, 100),
        SCHEDULERS,
        ACCELERATORS,
        PRECISIONS,
        ("frame", "mask"),
    )
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", ALL if metafunc.config.getoption("--full") else FEW, ids=str)


@pytest.fixture(scope="module")
def nets(folder: Path) -> Nets:
    return Nets(folder)


def clip(run: Ours) -> int:
    """Restyles a clip; returns how many frames came out."""
    out = 0
    for index in range(FRAMES):
        run.scheduler.submit(RawFrame(run.raw.pixels, index, run.raw.pts))
        out += len(list(run.scheduler.ready()))
    return out + len(list(run.scheduler.drain()))


def dear(case: Case) -> bool:
    """Tells whether a case is plain torch in a precision that the CPU only emulates."""
    plain_half = (case.accelerator, case.precision) == ("eager", "bf16")
    return plain_half and not multiplies_in_bf16(torch.device("cpu"))


def test_end_to_end(
    benchmark: BenchmarkFixture, nets: Nets, case: Case, pytestconfig: pytest.Config
) -> None:
    if dear(case) and not pytestconfig.getoption("--full"):
        pytest.skip("this CPU emulates bf16: --full has it")
    scene = Scene(case.height, 2 * case.height, case.percent / 100, 2)
    words = [
        "device=cpu",
        f"scheduler={case.scheduler}",
        f"accelerator={case.accelerator}",
        f"precision={case.precision}",
        *(["styler.where=mask"] if case.where == "mask" else []),
    ]
    try:
        run = ours(nets, scene, case.width, words)
    except NotOfferedError as error:
        pytest.skip(f"not offered here: {error}")
    try:
        out = benchmark.pedantic(clip, args=(run,), rounds=3, iterations=1)
    finally:
        run.close()
    assert out == FRAMES
    each = 1e3 * benchmark.stats.stats.median / FRAMES
    benchmark.extra_info |= case._asdict() | {"share": run.share, "ms_a_frame": each}
    print(f"\n{case}: {each:.1f} ms a frame, {1e3 / each:.1f} FPS")
