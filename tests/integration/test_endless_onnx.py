"""ONNX files whose loop has no end: told, and ended by Ctrl-C and ``kill``."""

import signal
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.endless import endless
from tests.integration.children import FAST, Child, Children

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SECONDS = 20
"""For what takes none on an idle machine."""

KINDS = {
    "styler": (
        "output_range: [0, 1]\n",
        ("styler=onnx", "styler.weights=net.onnx"),
        lambda word: not word.startswith("styler"),
    ),
    "segmenter": (
        "classes: [sky, earth, sea]\n",
        ("segmenter=onnx", "segmenter.weights=net.onnx"),
        lambda word: not word.startswith("segmenter"),
    ),
}


def start(server: Children, place: Path, kind: str) -> Child:
    """Starts a run that never comes back from its net, and waits until it is there."""
    spec, words, others = KINDS[kind]
    (place / "net.onnx.yaml").write_text(f"layout: NCHW\ncolor: RGB\nrange: [0, 1]\n{spec}")
    Image.new("RGB", (64, 48), (90, 140, 200)).save(place / "photo.png")
    said = ("input=photo.png", "output=out.png", *words, *filter(others, FAST))
    child = server.start("run", said, place=place)
    end = time.monotonic() + 60
    while "net.onnx" not in child.out:  # the first line, which names the weights
        assert time.monotonic() < end, child.err
        time.sleep(0.05)
    computed = psutil.Process(child.pid).cpu_times().user
    while psutil.Process(child.pid).cpu_times().user < computed + 1:
        assert time.monotonic() < end, child.err
        time.sleep(0.05)
    return child


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
@pytest.mark.parametrize("kind", KINDS)
def test_one_signal_ends_it(
    server: Children, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    endless(tmp_path / "net.onnx")
    child = start(server, tmp_path, kind)
    child.send(number)
    end = time.monotonic() + SECONDS
    while psutil.pid_exists(child.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(child.pid)
    assert child.ended() == 130, child.err
    assert child.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.onnx.yaml", "photo.png"}
