"""Mattes that are held: what flashes never shows, what is missed stays, and nothing trails."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.sources.sample import sample_file
from PIL import Image

from cbs_core.contract.errors import ConfigError
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.wanted import parse_confidence
from cbs_core.run import settings
from cbs_core.temporal import leaps
from cbs_core.temporal.state import State
from cbs_core.temporal.steady import cleaned
from cbs_core.temporal.wanted import parse_steady
from tests.streams import stream_of

HEIGHT, WIDTH, RADIUS = 180, 320, 28


def photograph(name="cat"):
    picture = Image.open(sample_file(name)).convert("RGB").resize((WIDTH, HEIGHT))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def disc(x, y=HEIGHT // 2):
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2


def shown(still, where):
    """A green disc with stripes of its own, over a photograph."""
    left = where.any(0).nonzero().amin() if where.any() else 0
    stripes = (torch.arange(WIDTH) - left) % 14 < 7
    paint = torch.stack([0.1 + 0.1 * stripes, 0.9 - 0.2 * stripes, 0.1 + 0 * stripes])
    return torch.where(where, paint[:, None, :], still)


class Planted:
    """A net that sees what it is told, at an eighth of the size or any other share."""

    def __init__(self, share=8):
        self.seen = None
        self.share = share

    def __call__(self, image):
        size = (-(-HEIGHT // self.share), -(-WIDTH // self.share))
        score = F.interpolate(self.seen.float()[None, None] * 12 - 6, size, mode="area")
        return torch.cat([-score / 2, score / 2], 1)


def make(net, mode="matte", **kind):
    route = Route(("thing",), "negative")
    return stream_of(
        segmenter=Stage(net, "segmenter 's' of x 1"),
        stylers={route.style: Stage(lambda image: 1 - image, "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=[route],
        steady=mode,
        **kind,
    )


def run(frames, mode="matte", share=8, stream=None):
    """Returns the mattes of (picture, what the net sees), and the stream."""
    net = Planted(share)
    stream = stream or make(net, mode)
    net = stream.plan.segmenter.call
    mattes = []
    for picture, seen in frames:
        net.seen = seen
        mattes.append(stream(picture).mattes[0, 0] > 0.5)
    return mattes, stream


def grown(mask, pixels):
    return F.max_pool2d(mask.float()[None, None], 2 * pixels + 1, 1, pixels)[0, 0] > 0


NOTHING = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)


@pytest.mark.parametrize("share", [8, 1])
def test_what_flashes_once_never_shows(share):
    still, patch = photograph(), disc(80)
    clip = [(still, seen) for seen in (NOTHING, patch, NOTHING, disc(200), NOTHING)]
    assert not any(matte.any() for matte in run(clip, share=share)[0])
    assert run(clip, "off", share)[0][1].any()


def test_what_stays_is_shown_in_its_second_frame():
    still, thing = photograph(), disc(160)
    mattes, _ = run([(still, NOTHING), (still, thing), (still, thing)])
    assert [bool(matte.any()) for matte in mattes] == [False, False, True]


@pytest.mark.parametrize("share", [8, 1])
def test_what_is_missed_is_held(share):
    """It moves by 4 pixels a frame; the net misses it in every third one."""
    still, clip, truth = photograph(), [], []
    for index in range(12):
        thing = disc(60 + 4 * index)
        truth.append(thing)
        clip.append((shown(still, thing), NOTHING if index % 3 == 2 else thing))
    mattes, _ = run(clip, share=share)
    for matte, thing in zip(mattes, truth, strict=True):
        assert (matte & thing).sum() > 0.85 * thing.sum()
        assert not (matte & ~grown(thing, 8)).any()


@pytest.mark.parametrize("share", [8, 1])
def test_what_is_fast_is_held_whole_and_patches_beside_it_never_show(share):
    """It moves by 24 pixels a frame; the net sees nothing in every third, patches in others."""
    still, clip, truth = photograph(), [], []
    for index in range(16):
        thing = disc(60 + 24 * index)
        seen = NOTHING if index % 3 == 2 else thing
        if index % 3 == 1:
            seen = seen | disc((60 + 24 * index + 150) % WIDTH, 40) | disc(index * 17, 150)
        truth.append(thing)
        clip.append((shown(still, thing), seen))
    mattes, _ = run(clip, share=share)
    for index, (matte, thing) in enumerate(zip(mattes, truth, strict=True)):
        assert not (matte & ~grown(thing, 2)).any(), index
        if index < 11:
            assert (matte & thing).sum() > 0.75 * thing.sum(), index
    left = next(index for index, thing in enumerate(truth) if not thing.any())
    assert not any(matte.any() for matte in mattes[left + 1 :])


def test_what_is_new_and_fast_is_shown_in_its_second_frame():
    """No two of its places overlap: it is looked for as soon as it is suspected."""
    still = photograph()
    places = [disc(40 + 60 * index, 90) for index in range(4)]
    clip = [(still, NOTHING)] + [(shown(still, place), place) for place in places]
    mattes, _ = run(clip, share=1)
    assert not mattes[1].any()
    for matte, place in zip(mattes[2:], places[1:], strict=True):
        assert (matte & place).sum() > 0.8 * place.sum()
        assert not (matte & ~grown(place, 3)).any()


def test_of_a_picture_full_of_specks_the_largest_alone_are_looked_at(monkeypatch):
    level = np.zeros((60, 200), np.uint8)
    level[24::4, ::4] = 2  # 450 of them
    level[26::4, 2::4] = 1  # suspected, and beside none of these
    for index in range(8):
        level[10:20, 25 * index : 25 * index + 5 + 2 * index] = 2
    looked, whole = [], leaps.ndimage.binary_dilation

    def dilated(region, **how):
        looked.append(region)
        return whole(region, **how)

    monkeypatch.setattr(leaps.ndimage, "binary_dilation", dilated)
    found = leaps._regions(level)
    assert len(looked) <= leaps.MOST
    assert [int(mask[10:20].sum()) // 10 for mask, _ in found] == [19, 17, 15, 13, 11, 9]


def test_a_scene_cut_begins_anew():
    first, second = photograph("cat"), 1 - photograph("cat")
    clip = [(first, disc(80))] * 3 + [(second, disc(240)), (second, disc(240))]
    mattes, _ = run(clip)
    assert mattes[2][90, 80]
    for matte in mattes[3:]:
        assert not matte[:, :160].any()
        assert (matte & disc(240)).sum() > 0.9 * disc(240).sum()


def test_what_is_seen_no_more_fades():
    still, thing = photograph(), disc(160)
    mattes, _ = run([(still, thing)] * 4 + [(still, NOTHING)] * 12)
    there = [bool(matte.any()) for matte in mattes]
    assert there[:6] == [True] * 6
    assert not any(there[-4:])


@pytest.mark.parametrize("mode", ["off", "matte"])
def test_what_is_not_sure_enough_is_not_restyled(mode):
    """The net gives the thing 0.88, by two logits against the ground's."""
    net, still, thing = Planted(1), photograph(), disc(160)
    for confidence, due in ((0.5, True), (0.8, True), (0.95, False)):
        regions = Regions(("ground", "thing"), [("thing",)], confidence=confidence)
        route = Route(("thing",), "negative")
        stream = stream_of(
            segmenter=Stage(lambda image: net(image) / 3, "segmenter 's' of x 1"),
            stylers={route.style: Stage(lambda image: 1 - image, "styler 't' of x 1")},
            compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
            regions=regions,
            routes=[route],
            steady=mode,
        )
        net.seen = thing
        assert bool(stream(still).mattes.any()) == due, confidence


def test_what_is_on_no_route_loses_to_nothing_and_everything_stays_restyled():
    logits = torch.randn(1, 2, 8, 8)
    every = Regions(("a", "b"), [("a",), ("b",)], confidence=0.9)
    assert torch.equal(
        every(every.sure(logits), (8, 8)), Regions(("a", "b"), [("a",), ("b",)])(logits, (8, 8))
    )


@pytest.mark.parametrize("spec", [0, 1, 1.5, "much", True, None])
def test_another_confidence_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match=f"^confidence={spec} is no number between 0 and 1"):
        parse_confidence(spec)
    with pytest.raises(ConfigError, match="confidence"):
        settings.look({"confidence": spec})


def test_specks_are_dropped_and_holes_filled():
    shares = torch.full((1, 1, 128, 256), 0.1)
    shares[..., 20:60, 20:60] = 0.9
    shares[..., 40:42, 40:42] = 0.2  # a hole
    shares[..., 100:102, 200:202] = 0.8  # a speck
    shares[..., 80:81, 100:180] = 0.8  # thin, but no speck
    kept = cleaned(shares)[0, 0] > 0.5
    assert kept[20:60, 20:60].all()
    assert not kept[98:104, 198:204].any()
    assert kept[80, 100:180].all()


def test_the_background_stays_to_the_bit():
    still, thing = photograph(), disc(160)
    net = Planted()
    stream = make(net)
    for seen in (thing, NOTHING, thing):
        net.seen = seen
        result = stream(shown(still, thing))
        outside = result.mattes[0, 0] == 0
        assert torch.equal(result.image[0][:, outside], shown(still, thing)[0][:, outside])


@pytest.mark.parametrize("every", [1, 3])
def test_a_stream_cut_in_two_is_the_same(every):
    still = photograph()
    clip = [
        (shown(still, disc(60 + 6 * i)), NOTHING if i % 4 == 3 else disc(60 + 6 * i))
        for i in range(8)
    ]
    whole, _ = run(clip, stream=make(Planted(), segment_every=every))
    first, stream = run(clip[:3], stream=make(Planted(), segment_every=every))
    rest = make(Planted(), segment_every=every)
    rest.state = State.from_bytes(stream.state.to_bytes())
    second, _ = run(clip[3:], stream=rest)
    assert all(torch.equal(*pair) for pair in zip([*first, *second], whole, strict=True))


def test_a_state_does_not_grow():
    still, thing = photograph(), disc(160)
    _, stream = run([(still, thing)] * 3)
    size = len(stream.state.to_bytes())
    run([(still, thing)] * 10, stream=stream)
    assert abs(len(stream.state.to_bytes()) - size) < 64


def test_routes_are_weighed_against_each_other():
    net = Planted()
    routes = [Route(("ground",), "a"), Route(("thing",), "b")]
    stream = stream_of(
        segmenter=Stage(net, "segmenter 's' of x 1"),
        stylers={one.style: Stage(lambda image: 1 - image, "styler") for one in routes},
        compositor=Stage(HardCompositor(), "compositor"),
        regions=Regions(("ground", "thing"), [("ground",), ("thing",)]),
        routes=routes,
        steady="matte",
    )
    net.seen = disc(160)
    for _ in range(3):
        mattes = stream(photograph()).mattes[0]
        assert torch.equal(mattes.sum(0), torch.ones(HEIGHT, WIDTH))
        assert (mattes[1].bool() & disc(160)).sum() > 0.9 * disc(160).sum()


@pytest.mark.parametrize("spec", ["on", "mate", 3, True])
def test_another_value_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match=f"^steady={spec} is none of off, matte"):
        parse_steady(spec)
    with pytest.raises(ConfigError, match="steady"):
        settings.look({"steady": spec})
