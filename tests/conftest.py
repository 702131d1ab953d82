"""What every test may use."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cbs_core.cli import ending
from cbs_core.machine import signals
from tests import shapes

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's own cache."""
    os.environ["CBS_CACHE"] = str(tmp_path_factory.mktemp("cbs-cache"))


@pytest.fixture(scope="session", autouse=True)
def _looked_on() -> None:
    """What looks on the end of a command's process is there before a test counts threads.

    The end of pytest's own process is none of its business.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "_register_atexit", lambda call: None)
        ending.watch("cbs-run")


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C is heard, by the commands that tests start too.

    A script's shell has what it starts in the background (``make test &``) ignore it, and so does a
    command that ends, for the process that it is called in.
    """
    before: dict[int, object] = {one: signal.getsignal(one) for one in signals.ENDING}
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signals.restore(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, videos and weights; its tests are skipped where it is absent."""
    folder = Path(os.environ.get("CBS_SHARED", ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip("no ../shared: set CBS_SHARED to the folder of test material")
    return folder


@pytest.fixture(scope="session")
def mask_rcnn() -> torch.nn.Module:
    """A small Mask R-CNN that finds the discs and squares of `tests.shapes`; trained once."""
    pytest.importorskip("torchvision")
    return shapes.trained_mask_rcnn()


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """An X server without a screen, which `ImageGrab` and `mss` can look at."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb: apt-get install xvfb")
    read, write = os.pipe()
    # Without -noreset it is away for a moment whenever its last client leaves.
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "400x300x24", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        number = told.readline().strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
    server.terminate()
    server.wait(10)
