"""`benchmarks.classes`: what is measured at a size."""

from pathlib import Path

from benchmarks import classes
from benchmarks.ratios import REFERENCE_FLOW
from benchmarks.workloads import Nets


def test_every_width_and_matte_is_measured_beside_the_reference(tmp_path: Path) -> None:
    works = classes.workloads(Nets(tmp_path), 64, 128, "eager")
    ours = [name for name in works if name.startswith("`johnson`")]
    assert REFERENCE_FLOW in works
    assert len(ours) == len(classes.WIDTHS) * len(classes.SHARES)
    for name in ours:
        matte = works[name].share  # type: ignore[attr-defined]
        wanted = next((share for share in (0.25, 0.10) if f"matte {share:.0%}" in name), 1.0)
        assert abs(matte - wanted) < 0.06, name
