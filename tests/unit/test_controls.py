"""Keys change a stream that runs: style, strength, route."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cbs_core.choose import registry, weights
from cbs_core.choose.presets import defaults
from cbs_core.frame.wanted import Extent
from cbs_core.machine.meter import Meter
from cbs_core.run.controls import Controls
from cbs_core.run.governed import Governed
from cbs_core.run.settings import look
from cbs_core.run.stream import Stream
from cbs_core.run.workshop import Workshop
from tests.jobs import registered


@pytest.fixture
def running(monkeypatch):
    """A stream, and controls of it; `settle` waits for what was ordered."""
    registered(monkeypatch)
    monkeypatch.setattr(weights, "everywhere", lambda room: {"dark": [], "light": []})
    config = {
        **defaults(),
        "segmenter": {"name": "half_sky"},
        "styler": {"name": "invert"},
        "accelerator": {"name": "eager"},
        "routes": {"sky": "dark", "background": {"style": "light", "strength": 0.5}},
    }
    workshop = Workshop(torch.device("cpu"), torch.float32)
    wanted = look(config)
    stream = Stream(workshop.plan(wanted))
    yield SimpleNamespace(
        controls=Controls(stream, workshop, wanted),
        stream=stream,
        workshop=workshop,
        settle=lambda: workshop.order(wanted).result(),
    )
    workshop.close()


def test_style_strength_and_route(running):
    controls = running.controls
    assert controls.style(1) == "sky: light 100%"
    assert controls.strength(-0.3) == "sky: light 70%"
    assert controls.route(1) == "background: light 50%"
    assert controls.style(1) == "background: dark 50%", "round about"
    assert controls.strength(9) == "background: dark 100%"
    assert controls.route(-1) == "sky: light 70%"
    running.settle()
    assert [(route.label, route.strength) for route in running.stream.plan.routes] == [
        ("light", 0.7),
        ("dark", 1.0),
    ]


def test_the_last_of_many_wishes_counts(running):
    for _ in range(20):
        running.controls.style(1)
        running.controls.strength(-0.01)
    running.settle()
    (route, _) = running.stream.plan.routes
    assert (route.label, route.strength) == ("dark", 0.8)


def test_a_style_that_cannot_be_had_is_told_and_nothing_changes(running, monkeypatch, caplog):
    before = running.stream.plan
    monkeypatch.setattr(weights, "everywhere", lambda room: {"dark": [], "light": []})
    monkeypatch.setattr(
        Workshop, "_plan", lambda self, *look: (_ for _ in ()).throw(RuntimeError("no memory"))
    )
    running.controls.style(1)
    with pytest.raises(RuntimeError):
        running.settle()
    assert running.stream.plan is before
    assert caplog.messages == ["no memory"]


def test_a_styler_without_a_list_says_so(running, monkeypatch):
    monkeypatch.setattr(weights, "everywhere", lambda room: {})
    assert running.controls.style(1) == "the styler invert has no list of styles"


def test_a_style_is_built_at_the_level_that_holds_the_rate(running):
    every = [2]
    running.controls.lowered = lambda look: replace(look, segment_every=every[0])
    running.controls.style(1)
    running.settle()
    assert running.stream.plan.segment_every == 2
    gate = threading.Event()
    running.workshop._thread.submit(gate.wait)
    running.controls.strength(-0.5)
    every[0] = 3  # before what was ordered is built
    gate.set()
    running.settle()
    running.settle()
    assert running.stream.plan.segment_every == 3
    assert running.stream.plan.routes[0].strength == 0.5


def test_a_halo_that_was_lowered_stays_low_when_a_style_is_chosen(running, monkeypatch):
    class Haloed:
        def __init__(self, style="dark", halo=None):
            pass

    monkeypatch.setitem(registry.stylers._registered, "haloed", Haloed)
    first = running.stream.plan.routes
    routes = tuple(replace(route, styler="haloed") for route in first)
    wanted = replace(
        running.controls.look,
        extent=Extent(masked=True, policy=None),
        styler=replace(running.controls.look.styler, name="haloed"),
        routes=(replace(routes[0], params={"style": "dark", "halo": 8}), routes[1]),
    )
    governed = Governed(
        running.stream,
        running.workshop,
        lambda: wanted,
        meter=Meter(),
        target_fps=25,
        size=(480, 640),
    )
    assert governed.lowered(wanted) == wanted
    governed._governor.levels["halo"] = 1
    lowered = governed.lowered(wanted)
    assert [route.params["halo"] for route in lowered.routes] == [8, 32], "its own is less"
