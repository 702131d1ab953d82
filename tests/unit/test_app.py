"""One line for every error, and the exit codes."""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cbs_core import __version__
from cbs_core.cli import doctor, evaluate, export, plugins, run
from cbs_core.cli.app import DEBUG, fail, one_line_errors
from cbs_core.contract.errors import CbsError


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CbsError("no file\n'a': check it"), 2, "cbs-x: error: no file 'a': check it\n"),
        (KeyboardInterrupt(), 130, "cbs-x: interrupted\n"),
        (OSError(28, "No space left on device", "a b"), 2, "No space left on device: 'a b'\n"),
        (KeyError("lost"), 1, "unexpected KeyError: 'lost'. This is a fault of the program"),
    ],
)
def test_errors_become_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors("cbs-x"):
        raise error
    shown = capsys.readouterr()
    assert ended.value.code == code
    assert line in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("main", [plugins.main, doctor.main, run.main, export.main, evaluate.main])
def test_each_command_has_a_version(
    main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cbs-x", "--version"])
    monkeypatch.setenv(DEBUG, "")
    monkeypatch.setenv("CBS_TRACEBACK", "")
    with suppress(SystemExit):
        main()
    assert capsys.readouterr().out == f"class-based-styling {__version__}\n"


def test_the_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBS_TRACEBACK", "1")
    with pytest.raises(CbsError), one_line_errors("cbs-x"):
        raise CbsError("wrong")
    assert DEBUG == "HYDRA_FULL_ERROR"


def test_leaving_cannot_be_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("cbs-x", "wrong")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
