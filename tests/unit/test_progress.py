"""A bar in a terminal, plain lines elsewhere, nothing when quiet."""

import io
import logging
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from cbs_core.cli.run import _shown
from cbs_core.machine.meter import Meter
from cbs_core.machine.terminal import PlainConsole
from cbs_core.run import progress as module
from cbs_core.run.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds, for the plain lines and the meter alike; the test moves it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def show(frames, *, clock=None, seconds=0.0, count=4, **options):
    """What is printed while ``count`` frames go by, each taking ``seconds``."""
    text, meter = io.StringIO(), Meter()
    console = Console(file=text, width=200, highlight=False, **options)
    with progress(console, meter, frames) as tick:
        for _ in range(count):
            with meter.stage("segment"):
                if clock:
                    clock[0] += seconds
            meter.frame_out()
            tick()
    return text.getvalue()


def test_plain_lines_where_there_is_no_terminal(clock):
    lines = show(8, clock=clock, seconds=4.0).splitlines()
    assert lines == [
        "frame 2/8 · 0.2 FPS · 24 s left · segment 4000 ms",
        "frame 4/8 · 0.2 FPS · 16 s left · segment 4000 ms",
    ]


def test_plain_lines_of_a_stream_without_an_end(clock):
    (line,) = show(None, clock=clock, seconds=6.0, count=1).splitlines()
    assert line == "frame 1 · 0.2 FPS · segment 6000 ms"


def test_a_short_run_prints_no_line(clock):
    assert show(4, clock=clock, seconds=0.5) == ""


def test_a_reader_that_leaves_costs_no_frame(clock):
    """As `head` does: the lines come in the writer's thread, where an error is the sink's."""

    class Left(io.StringIO):
        def write(self, text):
            if "frames" in text or "lost" in text:
                raise BrokenPipeError
            return super().write(text)

    meter, notes = Meter(), []
    facts = SimpleNamespace(weights=())
    device = SimpleNamespace(device="cpu", name="a")
    begun = SimpleNamespace(
        plan=SimpleNamespace(routes=(), facts=facts), device=device,
        notes=lambda: tuple(notes), meter=meter, info=SimpleNamespace(frames=9),
    )  # fmt: skip
    console = PlainConsole()
    console.file = Left()
    with _shown(begun, console, []) as tick:
        notes.append("a subtitle is lost")
        for _ in range(9):
            clock[0] += 10
            meter.frame_out()
            tick()


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_when_quiet(clock, terminal):
    assert show(8, clock=clock, seconds=9.0, quiet=True, force_terminal=terminal) == ""


@pytest.mark.parametrize(("frames", "count"), [(4, "4/4"), (None, "4/?")])
def test_a_bar_in_a_terminal(frames, count):
    text = show(frames, force_terminal=True)
    assert count in text
    assert "FPS" in text
    assert "segment" in text
    assert "\x1b[" in text


def test_the_bar_takes_frames_from_another_thread():
    text, meter = io.StringIO(), Meter()
    with progress(Console(file=text, width=200, force_terminal=True), meter, 20) as tick:

        def work():
            for _ in range(20):
                meter.frame_out()
                tick()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "20/20" in text.getvalue()


def test_what_a_slow_plugin_tells_is_shown_while_frames_go_by(caplog):
    log = logging.getLogger("cbs")
    text = io.StringIO()
    with caplog.at_level(logging.INFO, "cbs"):
        with progress(Console(file=text), Meter(), 1):
            log.info("evaluation %d of 300", 50)
            log.warning("shown elsewhere")
        log.info("too late")
    assert text.getvalue() == "evaluation 50 of 300\n"
