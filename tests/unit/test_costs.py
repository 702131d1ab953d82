"""The model of what a film takes, where it can be said by hand."""

from dataclasses import replace

import pytest

from benchmarks import cluster, costs
from benchmarks.costs import Film, Fleet, Rates, estimate

RATES = Rates(frame=0.1, start=20, score=0.05, window=1, look=2, join=3)


def test_one_worker_does_one_thing_after_the_other() -> None:
    film = Film(1000, window=100, run_up=32)
    due = 20 + 2 + 10 * 1 + 1000 * 0.1 + 9 * 32 * 0.05 + 3
    assert estimate(film, RATES, Fleet(1)).seconds == pytest.approx(due)


def test_workers_share_windows_and_nothing_else() -> None:
    film = Film(800, window=100, run_up=0)
    alone, four = (estimate(film, RATES, Fleet(count)) for count in (1, 4))
    fixed = 20 + 2 * 0.8 + 3 * 0.8
    assert four.seconds - fixed == pytest.approx((alone.seconds - fixed) / 4)
    eight, many = (estimate(film, RATES, Fleet(count)).seconds for count in (8, 900))
    assert eight == pytest.approx(many)


def test_a_machine_is_paid_from_when_it_is_ordered() -> None:
    film, fleet = Film(800, window=100), Fleet(4, per_machine=2, boot=60, price=1.8)
    found = estimate(film, RATES, fleet)
    assert found.cost == pytest.approx(found.seconds * 2 * 1.8 / 3600)
    unbooted = estimate(film, RATES, replace(fleet, boot=0))
    assert found.seconds - unbooted.seconds == pytest.approx(60)
    assert 0 < found.busy < unbooted.busy < 1


def test_the_best_window_is_small_for_many_and_large_for_one() -> None:
    sizes = (30, 60, 120, 240, 480)
    assert costs.best_window(4800, RATES, 1, 32, sizes) == 480
    assert costs.best_window(4800, RATES, 40, 32, sizes) == 120


def test_the_curve_is_drawn_with_what_was_measured() -> None:
    curve = {1: 1.0, 2: 1.9, 4: 3.5, 8: 6.0}
    picture = cluster.plot({"a film": curve}, {1: 1.0, 2: 1.8})
    assert picture.size == (cluster.WIDTH, cluster.HEIGHT)
    colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {cluster.MEASURED, cluster.LINES[0]} <= colours


def test_two_windows_of_the_longer_clip_are_equally_long() -> None:
    for frames in (100, 138, 150, 207):
        half = cluster.halved(frames) // 2
        assert half % cluster.GROUP == 0
        assert abs(2 * half - frames) <= cluster.GROUP
