"""What a person sees while a net is trained."""

import io
import time

import pytest
from rich.console import Console

from cbs_core.training import display


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("terminal", [False, True])
def test_steps_losses_pace_and_time_left(monkeypatch, terminal):
    clock, out = Clock(), io.StringIO()
    if not terminal:
        monkeypatch.setattr(time, "monotonic", clock)
    console = Console(file=out, force_terminal=terminal, width=200)
    with display.display(console, first=100, steps=400) as tick:
        for done, now in ((101, 60.0), (102, 62.0), (103, 64.0), (104, 66.0)):
            clock.now = now
            tick(done, {"loss": 12345.678, "style": 0.5})
    if terminal:
        assert "104/400" in out.getvalue()
        return
    lines = out.getvalue().splitlines()
    # Steps after the first take two seconds; lines are five seconds apart.
    assert len(lines) == 2
    assert lines[1] == "step 104/400 · loss 1.235e+04 · style 0.5 · 2.00 s/step · 10 min left"


def test_a_quiet_console_shows_nothing():
    out = io.StringIO()
    with display.display(Console(file=out, quiet=True), first=0, steps=2) as tick:
        tick(1, {"loss": 1.0})
    assert out.getvalue() == ""
