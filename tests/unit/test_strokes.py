"""Strokes that are held: they move along, stay as clear, and show nothing that is over."""

from itertools import pairwise

import pytest
import torch
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.sources.pan import PanSource
from torch import nn

from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.wanted import lasting, parse_extent
from cbs_core.temporal.state import State
from cbs_core.temporal.wanted import SCENE
from tests.streams import stream_of

HEIGHT, WIDTH, FRAMES = 96, 128, 9


@pytest.fixture(scope="module")
def pan():
    """A clip with exact motion, and its window's place in each frame."""
    source = PanSource("sample:cat", frames=FRAMES + 10, width=WIDTH, height=HEIGHT, period=240)
    with source:
        frames = [frame.pixels.permute(2, 0, 1)[None] / 255 for frame in source][10:]
    return frames, [source.offset(index + 10) for index in range(FRAMES)]


class Restless:
    """Strokes that are others in each frame, over the picture's own colours."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        chance = torch.Generator().manual_seed(self.calls)
        self.calls += 1
        coarse = torch.rand(1, 3, HEIGHT // 5, WIDTH // 5, generator=chance)
        strokes = nn.functional.interpolate(coarse, image.shape[2:], mode="bicubic")
        return (0.5 * image + 0.5 * strokes).clamp(0, 1)


def left(image):
    """Logits of a thing that fills the left three quarters."""
    logits = torch.zeros(1, 2, HEIGHT, WIDTH)
    logits[:, 1] = torch.where(torch.arange(WIDTH) < WIDTH * 3 // 4, 5, -5)
    return logits


def make(mode="full", styler=None):
    route = Route(("thing",), "restless")
    return stream_of(
        segmenter=Stage(left, "segmenter 's' of x 1"),
        stylers={route.style: Stage(styler or Restless(), "styler 't' of x 1")},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=[route],
        steady=mode,
    )


def pictures(stream, frames):
    return [stream(frame).image for frame in frames]


def warping_error(shown, offsets):
    """Of neighbouring frames within the matte, the motion being whole pixels."""
    errors = []
    for (was, now), (a, b) in zip(pairwise(shown), pairwise(offsets), strict=True):
        x, y = b[0] - a[0], b[1] - a[1]
        rows, columns = slice(8, HEIGHT - 8), slice(8, WIDTH * 3 // 4 - 8)
        moved = torch.roll(was, (-y, -x), (2, 3))
        errors.append(float((moved - now)[..., rows, columns].square().mean()))
    return sum(errors) / len(errors)


def gradients(shown):
    inside = torch.cat(shown)[..., : WIDTH * 3 // 4 - 8]
    return float(sum(inside.diff(dim=axis).square().mean() for axis in (2, 3)))


def test_strokes_go_along_and_stay_clear(pan):
    frames, offsets = pan
    off, full = (pictures(make(mode), frames) for mode in ("matte", "full"))
    assert warping_error(full, offsets) < warping_error(off, offsets) / 3
    assert gradients(full[3:]) > 0.9 * gradients(off[3:])


def test_nothing_is_shown_outside_of_the_matte(pan):
    for frame, shown in zip(pan[0], pictures(make(), pan[0]), strict=True):
        assert torch.equal(shown[..., WIDTH * 3 // 4 :], frame[..., WIDTH * 3 // 4 :])


def test_a_scene_cut_begins_anew(pan):
    frames = [*pan[0][:3], 1 - pan[0][3]]
    styler = Restless()
    last = pictures(make(styler=styler), frames)[-1]
    alone = Restless()
    alone.calls = 3
    assert torch.equal(last, pictures(make(styler=alone), frames[3:])[0])


def test_a_stream_cut_in_two_is_the_same(pan):
    frames = pan[0][:7]
    whole = pictures(make(), frames)
    first = make()
    shown = pictures(first, frames[:4])
    rest = Restless()
    rest.calls = 4
    second = make(styler=rest)
    second.state = State.from_bytes(first.state.to_bytes())
    shown += pictures(second, frames[4:])
    assert all(torch.equal(*pair) for pair in zip(shown, whole, strict=True))


def test_the_state_does_not_grow(pan):
    stream = make()
    pictures(stream, pan[0][:3])
    size = len(stream.state.to_bytes())
    pictures(stream, pan[0][3:6])
    assert abs(len(stream.state.to_bytes()) - size) < 64


def test_what_hides_the_strokes_has_its_own(pan):
    still = pan[0][0]
    hidden = still.clone()
    hidden[..., 20:70, 10:80] = 1 - hidden[..., 20:70, 10:80].round()
    styler = Restless()
    shown = pictures(make(styler=styler), [still, hidden])[-1]
    alone = Restless()
    alone.calls = 1
    own = pictures(make(styler=alone), [hidden])[0]
    assert (shown - own)[..., 26:64, 16:74].abs().mean() < 0.01
    assert (shown - own)[..., 80:, :90].abs().mean() > 0.05


def test_statistics_last_unless_others_were_chosen():
    assert lasting(parse_extent(None, None)).policy == SCENE
    assert lasting(parse_extent(None, "frame")).policy is None
    assert lasting(parse_extent(None, "refresh:5")).policy.every == 5
