"""The governor against a machine that is made up, and made slower and faster."""

from itertools import pairwise

import pytest

from cbs_core.run.governor import Governor, Knob

SEGMENT = Knob("segment", (1.0, 0.56, 0.25, 0.125, 0.083, 0.04, 0.024))
HALO = Knob("style", (1.0, 0.8, 0.7))


class Machine:
    """Frames of a camera, each taking the stages' times; a clock of its own.

    Args:
        segment: seconds at full quality on a machine of speed 1.
        style: likewise.
        rest: likewise, of all that nothing lowers.
        floor: the part of ``segment`` that no level saves, which the governor does not know.
        overlap: whether segment and style are side by side.
    """

    def __init__(
        self, governor, segment=0.02, style=0.008, rest=0.002, floor=0.03, *, overlap=False,
        camera=30.0,
    ):  # fmt: skip
        self.governor, self.camera, self.overlap = governor, camera, overlap
        self.full = {"segment": segment, "style": style, "rest": rest}
        self.floor, self.speed, self.now = floor, 1.0, 0.0
        self.totals = dict.fromkeys(self.full, 0.0)
        self.changes, self.frames = [], []

    def times(self):
        levels = self.governor.levels
        share = SEGMENT.costs[levels["segment"]]
        times = {
            "segment": self.full["segment"] * (share * (1 - self.floor) + self.floor),
            "style": self.full["style"] * (HALO.costs[levels["halo"]] if "halo" in levels else 1),
            "rest": self.full["rest"],
        }
        return {name: took / self.speed for name, took in times.items()}

    def cost(self):
        times = self.times()
        if self.overlap:
            return max(times["segment"], times["style"] + times["rest"])
        return sum(times.values())

    def run(self, seconds):
        end = self.now + seconds
        while self.now < end:
            for name, took in self.times().items():
                self.totals[name] += took
            self.now += max(self.cost(), 1 / self.camera)
            self.frames.append(self.now)
            if self.governor.saw(self.now, self.totals):
                self.changes.append(self.now)
        return self

    def fps(self, seconds):
        return sum(one > self.now - seconds for one in self.frames) / seconds


def governor(fps=25.0, **knobs):
    return Governor(1 / fps, {"segment": SEGMENT, **knobs})


def test_a_machine_that_is_fast_enough_is_left_alone():
    machine = Machine(governor()).run(30)
    assert not machine.changes
    assert machine.governor.levels == {"segment": 0}


def test_with_frames_side_by_side_their_rate_counts_and_not_the_sum():
    machine = Machine(governor(), segment=0.03, style=0.028, overlap=True).run(30)
    assert machine.fps(10) > 25
    assert not machine.changes


@pytest.mark.parametrize("floor", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("knobs", [{}, {"halo": HALO}])
@pytest.mark.parametrize("overlap", [False, True])
def test_three_times_slower_and_faster_again(knobs, floor, overlap):
    machine = Machine(governor(**knobs), floor=floor, overlap=overlap).run(10)
    assert not machine.changes
    machine.speed = 1 / 3
    slowed = machine.now
    machine.run(3)
    assert machine.cost() <= 1.05 / 25, "met within 3 s"
    machine.run(27)
    assert machine.fps(20) >= 24
    assert [one for one in machine.changes if one > slowed + 10] == [], "it flaps"
    machine.speed = 1.0
    machine.run(30)
    assert set(machine.governor.levels.values()) == {0}, "not back at full quality"
    assert all(b - a >= 1 for a, b in pairwise(machine.changes))
    assert len(machine.changes) <= 8


def test_where_nothing_helps_it_does_what_it_can_and_rests():
    machine = Machine(governor(halo=HALO), style=0.2).run(60)
    assert machine.governor.levels == {"segment": 6, "halo": 2}
    assert len([one for one in machine.changes if one > 10]) == 0


def test_a_speed_just_between_two_levels_does_not_flap():
    for speed in (0.35, 0.45, 0.5, 0.6, 0.65, 0.7):
        machine = Machine(governor(), segment=0.024)
        machine.speed = speed
        machine.run(120)
        assert machine.cost() <= 1.05 / 25
        assert len(machine.changes) <= 4, (speed, machine.changes)


def test_guesses_that_are_wrong_are_corrected_and_cost_few_changes():
    """The lowest level costs as much as half of the full one."""
    machine = Machine(governor(), segment=0.06, floor=0.5, style=0.004)
    machine.run(300)
    late = [one for one in machine.changes if one > 150]
    assert len(late) <= 3, machine.changes
    assert machine.fps(60) > 23


def test_a_change_that_takes_effect_late_is_measured_from_then():
    chosen = governor()
    machine = Machine(chosen)
    machine.speed = 1 / 3
    machine.run(1.2)
    assert len(machine.changes) == 1
    chosen.settled(machine.now)
    before = len(machine.changes)
    machine.run(0.95)
    assert len(machine.changes) == before
