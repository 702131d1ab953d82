"""`benchmarks.stages`: what a stage takes beside its net."""

from benchmarks.stages import Busy


def test_of_a_stage_counts_what_its_net_does_not_take() -> None:
    seconds = iter([0.0, 0.010, 0.050, 0.065, 1.0, 1.002])
    meter = Busy(lambda: next(seconds))
    with meter.stage("style"), meter.net():
        pass
    with meter.stage("matte"):
        pass
    assert round(meter.nets) == 40
    assert {name: [round(ms) for ms in times] for name, times in meter.spent.items()} == {
        "style": [25],
        "matte": [2],
    }
