"""One line for every error, and the exit codes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cbs_core import __version__
from cbs_core.cli import doctor, ending, evaluate, export, plugins, run
from cbs_core.cli.app import DEBUG, fail, one_line_errors
from cbs_core.contract.errors import CbsError


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def homeless_error() -> BaseException:
    try:
        Path("~nobody-of-this-name/a.png").expanduser()
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CbsError("no file\n'a': check it"), 2, "cbs-x: error: no file 'a': check it\n"),
        (KeyboardInterrupt(), 130, "cbs-x: interrupted\n"),
        (OSError(28, "No space left on device", "a b"), 2, "No space left on device: 'a b'\n"),
        (BrokenPipeError(32, "Broken pipe"), 2, "cbs-x: error: Broken pipe\n"),
        (homeless_error(), 2, "cbs-x: error: a path begins with ~ (of an option"),
        (MemoryError(), 2, "cbs-x: error: there is not enough memory: give it smaller pictures"),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            2,
            "there is not enough memory (libx.so: failed to map segment from shared object): ",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't "),
            1,
            "unexpected RuntimeError: [enforce fail",
        ),
        (
            RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"),
            2,
            "there is not enough memory (",
        ),
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


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SystemExit(0), 2, "cbs-x: error: a plugin tried to end the program (SystemExit: 0)\n"),
        (GeneratorExit("a"), 1, "unexpected GeneratorExit: a. This is a fault of the program"),
    ],
)
def test_who_exits_in_a_run_has_failed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    monkeypatch.setattr(ending.watch("cbs-x"), "left", False)  # of another test
    with pytest.raises(SystemExit) as ended, one_line_errors("cbs-x", plugins=True):
        raise error
    assert ended.value.code == code
    assert line in capsys.readouterr().err


def test_what_nobody_can_catch_is_a_line_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        def __del__(self) -> None:
            raise ValueError("\x1b[31mgone")

    monkeypatch.setattr("threading.excepthook", threading.__excepthook__)
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    with one_line_errors("cbs-x"):
        del (odd := [Odd()])[0]
        thread = threading.Thread(target=int, args=("x",), name="theirs")
        thread.start()
        thread.join()
    assert not odd
    assert caplog.messages == [
        r"test_what_nobody_can_catch_is_a_line_too.<locals>.Odd.__del__ failed (ValueError: "
        r"\x1b[31mgone)",
        "the thread theirs failed (ValueError: invalid literal for int() with base 10: 'x')",
    ]


def test_leaving_cannot_be_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("cbs-x", "wrong")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
