"""What the tests of `cbs-run` share: tiny nets with random weights, and two ways to run it."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.johnson import TransformerNet
from hydra.core.global_hydra import GlobalHydra

from cbs_core.cli import run
from tests.integration.children import Children, children
from tests.integration.command import COMMAND, Ran, with_net


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """A process that has imported all, from which commands are forked, to be killed."""
    with children(tmp_path_factory.mktemp("told")) as found:
        yield found


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight folder: a DABNet that sees `ROUTES` everywhere, styles wave and starry_night."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "dabnet").mkdir()
    (folder / "johnson").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        segmenter = DABNet(19)
        # Untrained, one class wins everywhere; with large weights in the last layer several do.
        torch.nn.init.normal_(segmenter.classifier[0].conv.weight, std=100)
        torch.save(segmenter.state_dict(), folder / "dabnet/cityscapes.pth")
        for name in ("wave", "starry_night"):
            torch.save(TransformerNet(8).state_dict(), folder / f"johnson/{name}.pth")
    return folder


@pytest.fixture
def place(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder in which the weights are found by name."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CBS_WEIGHTS", str(weights))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return folder


@pytest.fixture
def command(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """Runs ``cbs-run`` with some arguments in this process, which starts faster than another."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)
    loggers = [
        (one, one.level, [*one.handlers]) for one in (logging.root, logging.getLogger("cbs"))
    ]

    def call(*argv: str) -> Ran:
        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        monkeypatch.setattr(sys, "argv", ["cbs-run", *with_net(argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run.main()
        code = ended.value.code
        return Ran(0 if code is None else int(code), *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)
    for logger, level, handlers in loggers:  # the command's own write to what is gone by then
        logger.setLevel(level)
        logger.handlers, logger.disabled = handlers, False


@pytest.fixture
def process(place: Path) -> Callable[..., Ran]:
    """Runs ``cbs-run`` as a user does, in a process of its own."""

    def call(*argv: str, **options: object) -> Ran:
        done = subprocess.run(
            [COMMAND, *with_net(argv)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call
