"""Which of several ways is kept, by times that the tests make up."""

import pytest

from cbs_core.machine.race import Race


def calls(race: Race[str], seconds: dict[str, float]) -> list[str]:
    """Runs a race of calls; returns whose turn it was, one after the other."""
    turns, now = [], 0.0
    while not race.over:
        way = race.turn
        turns.append(way)
        race.start(now)
        now += seconds[way]
        race.came_out(way, now)
        now += 100  # what happens between two calls is not counted
    return turns


def frames(race: Race[str], seconds: dict[str, float], *, delay: int = 0) -> list[str]:
    """Runs a race of frames of which some are under way; returns by which way each was done."""
    done, under_way, now = [], [], 0.0
    while not race.over:
        under_way.append(race.turn)
        if len(under_way) > delay:
            way = under_way.pop(0)
            now += seconds[way]
            done.append(way)
            race.came_out(way, now)
    return done


def test_calls_take_turns_and_the_fastest_is_kept():
    race = Race(["a", "b", "c"], rounds=5, hopeless=2.0)
    turns = calls(race, {"a": 1.0, "b": 0.9, "c": 1.5})
    assert turns == ["a", "b", "c"] * 5
    assert race.turn == "b"
    assert race.medians == pytest.approx({"a": 1.0, "b": 0.9, "c": 1.5})


def test_a_way_without_a_chance_is_timed_once():
    race = Race(["slow", "b", "c"], rounds=5, hopeless=2.0)
    assert calls(race, {"slow": 9.0, "b": 1.0, "c": 1.1}) == ["slow", *["b", "c"] * 5]
    alone = Race(["slow", "b"], rounds=5, hopeless=2.0)
    assert calls(alone, {"slow": 9.0, "b": 1.0}) == ["slow", "b"]
    assert alone.turn == "b"
    assert calls(Race(["only"], rounds=5, hopeless=2.0), {"only": 1.0}) == ["only"]


@pytest.mark.parametrize(("other", "kept"), [(0.96, "other"), (0.98, "first"), (1.1, "first")])
def test_the_first_is_kept_unless_it_loses_by_the_margin(other, kept):
    race = Race(["first", "other"], rounds=2, times=5, margin=0.03)
    done = frames(race, {"first": 1.0, "other": other})
    assert race.turn == kept
    # A turn is of six frames and five times between them; one turn that is not won is enough.
    assert race.outputs == 6
    rounds = 2 if kept == "other" else 1
    assert done == (["first"] * 6 + ["other"] * 6) * rounds


def test_frames_under_way_are_not_counted_for_the_other_way():
    race = Race(["in turn", "together"], rounds=2, times=3, skip=1, margin=0.03)
    frames(race, {"in turn": 1.0, "together": 0.5}, delay=2)
    assert race.turn == "together"
    assert race.medians == {"in turn": 1.0, "together": 0.5}


def test_medians_do_not_mind_a_hiccup():
    race, now = Race(["a", "b"], rounds=1, times=3, margin=0.03), 0.0
    for way, seconds in (("a", [0, 1, 1, 1]), ("b", [9, 0.5, 70, 0.6])):
        for one in seconds:
            now += one
            race.came_out(way, now)
    assert race.over
    assert race.turn == "b"
    assert race.medians == pytest.approx({"a": 1.0, "b": 0.6})


def test_what_comes_out_two_at_a_time_is_timed_by_twos():
    """Of the times 8, 24, 8 ms the median is 8, where a frame takes 16."""
    race, now = Race(["a", "b"], rounds=1, times=3, each=2, margin=0.03), 0.0
    assert race.outputs == 7
    for way, seconds in (("a", [0, *[12] * 6]), ("b", [12, *[8, 24] * 3])):
        for one in seconds:
            now += one
            race.came_out(way, now)
    assert race.over
    assert race.turn == "a"
    assert race.medians == {"a": 12.0, "b": 16.0}


def test_an_ended_race_is_over():
    race = Race(["a", "b"], rounds=2)
    race.came_out("a", 0.0)
    race.came_out("a", 8.0)
    assert race.turn == "b"
    race.end("a")
    race.came_out("a", 9.0)
    assert race.over
    assert race.turn == "a"
    assert race.medians == {"a": 8.0}


def test_a_race_of_nothing_is_refused():
    for arguments in ({"rounds": 0}, {"rounds": 1, "times": 0}):
        with pytest.raises(ValueError, match="one way at least"):
            Race(["a"], **arguments)
    with pytest.raises(ValueError, match="one way at least"):
        Race([], rounds=1)
