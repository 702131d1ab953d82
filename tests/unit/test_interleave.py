import pytest

from benchmarks.interleave import Timing, interleave, ratio


class Clock:
    """Moves only where a workload says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, *seconds):
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_medians_quartiles_and_ratio():
    clock = Clock()
    work = {"ours": clock.takes(9, 1, 2, 3, 4, 5), "reference": clock.takes(12)}
    timings = interleave(work, rounds=5, warmup=1, clock=clock)
    assert timings["ours"] == Timing(pytest.approx(3000), pytest.approx(2000), pytest.approx(4000))
    assert timings["ours"].noisy
    assert not timings["reference"].noisy
    assert ratio(timings, "ours", "reference") == pytest.approx(4)


def test_a_round_runs_each_once_and_the_order_turns():
    calls = []
    work = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    interleave(work, rounds=3, warmup=0)
    assert "".join(calls) == "abcbcacab"


def test_calls_are_timed_together():
    clock = Clock()
    work = {"ours": clock.takes(9, *[4, 0, 0, 0] * 3)}
    timings = interleave(work, rounds=3, warmup=1, calls=4, clock=clock)
    assert timings["ours"].median == pytest.approx(1000)


@pytest.mark.parametrize(("work", "rounds"), [({}, 9), ({"a": int}, 2)])
def test_measuring_nothing_is_refused(work, rounds):
    with pytest.raises(ValueError, match="at least"):
        interleave(work, rounds=rounds)
