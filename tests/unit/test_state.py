"""A state is a value: a stream is gone on with anywhere, and no frame knows another past."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.hard import HardCompositor
from test_johnson import save

from cbs_core.accelerators.eager import Eager
from cbs_core.contract.errors import PluginContractError, StateError
from cbs_core.frame.mattes import Regions
from cbs_core.frame.pipeline import pipeline
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Recall, Stage
from cbs_core.frame.styling import ByStatistics, Whole
from cbs_core.machine import snapshot
from cbs_core.machine.meter import Meter
from cbs_core.run.schedulers.auto import AutoScheduler
from cbs_core.run.schedulers.pipeline import PipelineScheduler
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.run.stream import Stream
from cbs_core.temporal.objects import Selection
from cbs_core.temporal.state import State
from cbs_core.temporal.wanted import Policy
from cbs_core.testing import picture, raw_frame
from tests.conftest import ROOT

CPU = torch.device("cpu")


class Trail:
    """A styler with a state: what it makes of a frame fades in the next ones."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.last = None

    def state(self):
        return {"last": self.last}

    def restore(self, state):
        self.last = state["last"]

    def __call__(self, image):
        now = 1 - image
        self.last = now if self.last is None else torch.lerp(self.last, now, 0.5)
        return self.last


def scores(image):
    """White is `thing`, at an eighth of the size."""
    light = F.avg_pool2d(image.mean(1, keepdim=True), 8, ceil_mode=True)
    return torch.cat([0.9 - light, light - 0.9], 1) * 20


def styling(kind, folder, halo):
    if kind == "trail":
        trail = Trail()
        return Whole(Stage(trail, "styler 'trail' of x 1", recall=Recall(trail, "styler 'trail'")))
    from cbs_plugins.stylers.johnson import JohnsonStyler

    styler = JohnsonStyler(weights=str(save(folder)), halo=halo).eval()
    nets = (Eager(net, torch.float32) for net in (styler.dense_module(), styler.window_module()))
    return ByStatistics(
        "styler 'johnson'",
        *nets,
        policy=Policy(every=3, on_cut=True),
        masked=kind == "mask",
        halo=styler.halo,
        align=styler.align,
        reach=0,
    )


def plan(kind, folder, *, halo=None, every=3):
    route = Route(("thing",), kind)
    return Plan(
        segmenter=Stage(scores, "segmenter 's' of x 1"),
        stylings={route.style: styling(kind, folder, halo)},
        compositor=Stage(HardCompositor(), "compositor 'c' of x 1"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=(route,),
        device=CPU,
        classes=("ground", "thing"),
        selection=Selection(1, (-1, 0), soft=False),
        segment_every=every,
    )


def frame(index, seed=0):
    """A white square that moves over a picture; a scene cut at frame 5."""
    image = 0.8 * picture(128, 192, seed=seed + (index >= 5))
    image[..., 30:70, 20 + 6 * index : 60 + 6 * index] = 1
    return image


def run(plan, state, numbers):
    pictures = []
    for number in numbers:
        result, state = pipeline(frame(number), plan, state)
        pictures.append(result.image)
    return pictures, state


@pytest.mark.parametrize("kind", ["trail", "frame", "mask"])
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_a_stream_is_gone_on_with_from_its_saved_state(tmp_path, kind, cut):
    want, _ = run(plan(kind, tmp_path), State(), range(9))
    first, state = run(plan(kind, tmp_path), State(), range(cut))
    rest, _ = run(plan(kind, tmp_path), State.from_bytes(state.to_bytes()), range(cut, 9))
    for ours, theirs in zip([*first, *rest], want, strict=True):
        assert torch.equal(ours, theirs)


def test_another_process_goes_on_the_same(tmp_path):
    """Frames 4 and on, by a process that never saw the first four."""
    want, _ = run(plan("mask", tmp_path, halo=16), State(), range(7))
    _, state = run(plan("mask", tmp_path, halo=16), State(), range(4))
    (tmp_path / "state").write_bytes(state.to_bytes())
    script = (
        "import sys, torch; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_state import State, plan, run\n"
        "folder = Path(sys.argv[1]); torch.set_num_threads(int(sys.argv[4]))\n"
        "state = State.from_bytes((folder / 'state').read_bytes())\n"
        "rest, _ = run(plan('mask', folder, halo=16), state, range(4, 7))\n"
        "torch.save(rest, folder / 'rest.pt')"
    )
    paths = [str(ROOT / "tests/unit"), str(ROOT), str(torch.get_num_threads())]
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *paths], check=True, timeout=120)
    for ours, theirs in zip(torch.load(tmp_path / "rest.pt"), want[4:], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("halo", [16, 32, 56])
def test_a_frame_does_not_know_what_was_built_before(tmp_path, halo):
    """With a small halo another window gives another picture: 18.8 levels, once."""
    fresh, used = plan("mask", tmp_path, halo=halo), plan("mask", tmp_path, halo=halo)
    for side in (20, 60, 100):
        other = 0.8 * picture(128, 192, seed=7)
        other[..., 4 : 4 + side, 8 : 8 + side] = 1
        pipeline(other, used, State())
    _, state = run(fresh, State(), range(2))
    ours, _ = run(fresh, state, [2, 3])
    theirs, _ = run(used, state, [2, 3])
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["trail", "mask"])
def test_the_same_frame_plan_and_state_give_the_same_again(tmp_path, kind):
    made = plan(kind, tmp_path)
    _, state = run(made, State(), range(3))
    first, _ = run(made, state, [3])
    run(made, State(), range(2))
    again, _ = run(made, state, [3])
    assert torch.equal(first[0], again[0])


def test_a_plugin_that_cannot_tell_its_state_is_named():
    class Forgetful:
        calls = 0

        def reset(self):
            self.calls = 0

        def __call__(self, image):
            self.calls += 1
            return image / self.calls

    plugin = Forgetful()
    stage = Stage(plugin, "styler 'f' of x 1", recall=Recall(plugin, "styler 'f' of x 1"))
    made = replace(plan("trail", Path()), stylings={Route(("thing",), "trail").style: Whole(stage)})
    _, state = run(made, State(), range(2))
    with pytest.raises(StateError, match=r"styler 'f' of x 1 has a state that it does not tell"):
        state.to_bytes()
    run(made, State(), [0])  # a new stream begins anew
    assert plugin.calls == 1
    with pytest.raises(PluginContractError, match=r"reset\(\), but not state\(\) and restore"):
        run(made, state, [2])


@pytest.mark.parametrize("data", [b"", b"x" * 40, b"{}", (9).to_bytes(8, "little") + b"123456789"])
def test_what_is_no_state_is_one_clear_line(data):
    with pytest.raises(StateError, match="no state") as error:
        State.from_bytes(data)
    assert "\n" not in str(error.value)


def test_a_state_of_another_version_is_refused():
    with pytest.raises(StateError, match="of version 0"):
        State.restore({**State().state(), "version": 0})


def test_a_snapshot_gives_back_what_it_was_given():
    tree = {"a": (1, 2.5, None), "b": [True, "é"], "c": {"t": torch.arange(3)}, "e": {}}
    back = snapshot.loads(snapshot.dumps(tree))
    assert torch.equal(back["c"].pop("t"), tree["c"].pop("t"))
    assert back == tree
    with pytest.raises(StateError, match="holds object"):
        snapshot.dumps({"a": object()})


def coloured(value):
    """A plan that paints all of a frame in one grey, and says so in its mattes' strength."""
    route = Route(("thing",), "grey", {"value": value})
    return Plan(
        segmenter=Stage(
            lambda image: torch.cat([0 * image[:, :1] - value, 0 * image[:, :1] + value], 1),
            f"segmenter {value} of x 1",
        ),
        stylings={
            route.style: Whole(Stage(lambda image: torch.full_like(image, value / 255), "styler"))
        },
        compositor=Stage(torch.lerp, "compositor"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=(route,),
        device=CPU,
    )


@pytest.mark.parametrize(
    "kind",
    [
        SerialScheduler,
        partial(PipelineScheduler, nets="together"),
        partial(PipelineScheduler, nets="in_turn"),
        AutoScheduler,
    ],
)
def test_every_frame_is_done_by_exactly_one_plan_of_500(kind):
    plans = [coloured(value) for value in range(1, 251)]
    stream, seen = Stream(plans[0]), []

    def observe(raw, result):
        logits = result.logits[0, 1, 0, 0].item()
        (style,) = result.styled.values()
        seen.append((raw.index, logits, style[0, 0, 0, 0].item(), result.plan))

    scheduler, done = kind(stream, meter=Meter(), observe=observe), []
    for index in range(500):
        stream.plan = plans[index % 250]
        scheduler.submit(replace(raw_frame(8, 8, 0), index=index))
        done.extend(scheduler.ready())
    done.extend(scheduler.drain())
    if close := getattr(scheduler, "close", None):
        close()
    for index, (number, logits, style, used) in enumerate(seen):
        value = index % 250 + 1
        assert (number, used) == (index, plans[index % 250])
        assert logits == value
        assert round(style * 255) == value
    assert [int(one.pixels.unique()) for one in done] == [i % 250 + 1 for i in range(500)]
