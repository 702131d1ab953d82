"""Mattes that go by the frames to come: held from the first good frame backwards, for files."""

from fractions import Fraction

import pytest
import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.scoring import score
from cbs_core.machine.meter import Meter
from cbs_core.run import settings
from cbs_core.run.ahead import Ahead, with_next
from cbs_core.run.job import shown_by
from cbs_core.run.schedulers.pipeline import PipelineScheduler
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.temporal.state import State
from cbs_core.temporal.wanted import MOST_AHEAD, parse_lookahead
from tests.unit.test_steady import NOTHING, Planted, disc, make, photograph, shown

N = 4


class Counting(Planted):
    """A net that sees in each picture, known by its number, what it is told; and counts."""

    def __init__(self, seen):
        super().__init__(share=1)
        self.told, self.calls = seen, 0

    def __call__(self, image):
        self.seen = self.told[self.calls]
        self.calls += 1
        return super().__call__(image)


def raws(pictures):
    return [
        RawFrame((255 * one[0]).round().byte().permute(1, 2, 0), index, Fraction(index, 25))
        for index, one in enumerate(pictures)
    ]


def mattes(stream, frames):
    out = []
    for raw in with_next(frames, stream.plan.lookahead):
        image = stream.upload(raw)
        result = stream.restyle(
            image, stream.score(image, stream.plan, ahead=raw.ahead), stream.plan
        )
        out.append(result.mattes[0, 0] > 0.5)
    return out


def moving(seen):
    """A disc that moves by 6 pixels a frame; True where the net sees it."""
    places = [disc(60 + 6 * index) for index in range(len(seen))]
    pictures = [shown(photograph(), place) for place in places]
    told = [place if sees else NOTHING for place, sees in zip(places, seen, strict=True)]
    return raws(pictures), told, places


def held(matte, place):
    return float((matte & place).sum() / place.sum())


def test_an_object_is_held_from_its_first_good_frame_backwards():
    frames, told, places = moving([False] * 3 + [True] * 5)
    with_, without = (mattes(make(Counting(told), lookahead=count), frames) for count in (N, 0))
    assert not any(matte.any() for matte in without[:4])
    for matte, place in list(zip(with_, places, strict=True))[1:]:
        assert held(matte, place) > 0.8
        assert not (matte & ~disc_around(place)).any()


def disc_around(place):
    grown = torch.nn.functional.max_pool2d(place.float()[None, None], 9, 1, 4)
    return grown[0, 0] > 0


def test_what_flashes_once_never_shows():
    pictures = [photograph()] * 8
    told = [disc(160) if index == 4 else NOTHING for index in range(8)]
    assert not any(one.any() for one in mattes(make(Counting(told), lookahead=N), raws(pictures)))


def test_nothing_of_a_new_scene_shows_before_its_cut():
    pictures = [photograph()] * 4 + [1 - photograph()] * 4
    told = [NOTHING] * 4 + [disc(160)] * 4
    shown_ = mattes(make(Counting(told), lookahead=N), raws(pictures))
    assert [bool(one.any()) for one in shown_] == [False] * 4 + [True] * 4


def test_each_frame_is_segmented_once():
    frames, told, _ = moving([True] * 7)
    net = Counting(told)
    mattes(make(net, lookahead=N), frames)
    assert net.calls == len(frames)


@pytest.mark.parametrize("at", [2, 5])
def test_a_stream_cut_in_two_is_the_same(at):
    frames, told, _ = moving([True, False, True, True, False, True, True, False])
    whole = mattes(make(Counting(told), lookahead=N), frames)
    first = make(Counting(told), lookahead=N)
    given = list(with_next(frames, N))
    found = []
    for index, raw in enumerate(given):
        if index == at:  # elsewhere, by a net that knows nothing of before
            rest = Counting(told)
            rest.calls = min(at + N, len(frames))
            second = make(rest, lookahead=N)
            second.state = State.from_bytes(first.state.to_bytes())
            first = second
        image = first.upload(raw)
        scores = first.score(image, first.plan, ahead=raw.ahead)
        found.append(first.restyle(image, scores, first.plan).mattes[0, 0] > 0.5)
    assert all(torch.equal(*pair) for pair in zip(found, whole, strict=True))


def test_the_state_does_not_grow():
    frames, told, _ = moving([True] * 14)
    stream, sizes = make(Counting(told), lookahead=2), []
    for raw in with_next(frames, 2):
        image = stream.upload(raw)
        stream.restyle(image, stream.score(image, stream.plan, ahead=raw.ahead), stream.plan)
        sizes.append(len(stream.state.to_bytes()))
    assert max(sizes[3:-2]) - min(sizes[3:-2]) < 64
    assert not stream.state.scoring.coming


def test_every_scheduler_gives_the_same():
    frames, told, _ = moving([True, False, True, True, False, True])
    outs = []
    for kind in (SerialScheduler, PipelineScheduler):
        scheduler = Ahead(kind(make(Counting(told), lookahead=N), meter=Meter()), N)
        got = []
        for raw in frames:
            scheduler.submit(raw)
            got += scheduler.ready()
        got += scheduler.drain()
        scheduler.close()
        assert [raw.index for raw in got] == list(range(len(frames)))
        outs.append(got)
        assert not any(raw.ahead for raw in got)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(*outs, strict=True))


def test_without_frames_ahead_it_is_the_plain_matte():
    frames, told, _ = moving([True, True, False, True])
    plain = mattes(make(Counting(told)), frames)
    stream = make(Counting(told), lookahead=N)
    alone = []
    for raw in frames:
        image = stream.upload(raw)
        scores, stream._scoring = score(image, stream.plan, stream.state.scoring)
        alone.append(stream.restyle(image, scores, stream.plan).mattes[0, 0] > 0.5)
    assert all(torch.equal(*pair) for pair in zip(plain, alone, strict=True))


def test_frames_are_given_with_the_next_ones():
    frames, _, _ = moving([True] * 4)
    given = list(with_next(frames, 2))
    ahead = [[one.index for one in raw.ahead] for raw in given]
    assert ahead == [[1, 2], [2, 3], [3], []]
    assert [raw.index for raw in given] == [0, 1, 2, 3]
    assert all(a is b for a, b in zip(with_next(frames, 0), frames, strict=True))


@pytest.mark.parametrize("spec", [-1, MOST_AHEAD + 1, 1.5, "two", True, None])
def test_another_value_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match=f"^lookahead={spec} is no whole number from 0 to"):
        parse_lookahead(spec)
    with pytest.raises(ConfigError, match="lookahead"):
        settings.look({"lookahead": spec})


@pytest.mark.parametrize(
    ("rest", "told"),
    [({"segment_every": 2}, "segment_every=2"), ({"steady": "off"}, "steady=off")],
)
def test_what_it_does_not_go_with_is_told(rest, told):
    with pytest.raises(ConfigError, match=f"lookahead=2 .*{told}"):
        settings.look({"lookahead": 2, **rest})


def test_pictures_have_no_frames_to_come(tmp_path):
    from cbs_core.choose.sections import Choice

    look = settings.Look(Choice("s"), Choice("t"), lookahead=3)
    assert shown_by(look, StreamInfo(4, 4, moving=False)).lookahead == 0
    video = shown_by(look, StreamInfo(4, 4, frames=9))
    assert (video.lookahead, video.steady) == (3, "matte")
