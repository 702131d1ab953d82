"""``cbs-run input=camera output=window``, as it is said, with a camera and a screen made up."""

import json
import threading
import time

import numpy as np
from cbs_plugins.sinks.window import WindowSink
from PIL import Image, ImageGrab

from tests.cameras import connected
from tests.integration.command import ROUTES, WAVE

SEEN = 6
"""Frames after which the window is closed."""


def test_a_camera_in_a_window_leaves_report_and_sheet(command, place, display, monkeypatch):
    connected(monkeypatch)
    screens, opened, wrote = [], WindowSink.open, WindowSink.write

    def write(self, frame):
        wrote(self, frame)
        self.seen += 1

    def watched(self, info):
        opened(self, info)
        self.seen = 0
        threading.Thread(target=person, args=(self,), daemon=True).start()

    def person(window):
        """Looks, chooses another style, looks again and presses Esc."""
        for key in ("Right", "Escape"):
            before = window.seen
            while window.seen < before + SEEN:
                time.sleep(0.02)
            screens.append(np.asarray(ImageGrab.grab(xdisplay=display)).astype(int))
            window._press(key)

    monkeypatch.setattr(WindowSink, "open", watched)
    monkeypatch.setattr(WindowSink, "write", write)
    ran = command("input=camera", "output=window", ROUTES, WAVE, "hydra.run.dir=ran")
    assert (ran.code, ran.err) == (0, "")
    assert "camera 'Desk Cam' gives 96x64 at 50 FPS" in ran.out
    for screen in screens:
        lit = (screen.max(-1) > 40).sum()
        assert lit > 96 * 64 / 4, "nothing is seen"
    told = json.loads(next(place.rglob("*.report.json")).read_text())
    assert told["frames"]["out"] >= 2 * SEEN
    assert told["frames"]["in"] >= told["frames"]["out"]
    assert told["age_ms"]["p50"] > 0
    assert told["input"]["path"] == "camera"
    with Image.open(next(place.rglob("*.sheet.png"))) as sheet:
        assert sheet.width > 4 * 96
