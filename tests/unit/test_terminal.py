"""Foreign text is printed as text, on whatever terminal, to whoever reads."""

import io
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from cbs_core import __version__
from cbs_core.cli.app import fail, one_line_errors
from cbs_core.machine.terminal import PlainConsole
from cbs_core.machine.text import say

EVIL = "\x1b]0;owned\x07[/nope][bold]\x9b31m\x08\u202egnp.exe"

PRINTS = """
import sys
from cbs_core.cli.app import one_line_errors
with one_line_errors("cbs-x"):
    from cbs_core.machine.terminal import PlainConsole
    console = PlainConsole()
    for _ in range(int(sys.argv[1])):
        {0}
"""


def test_no_escape_and_no_markup_reaches_the_terminal() -> None:
    console, table = PlainConsole(), Table(EVIL)
    console.file = io.StringIO()
    table.add_row(EVIL)
    console.print(EVIL)
    console.print(table)
    shown = console.file.getvalue()
    assert not set(shown) & {"\x1b", "\x07", "\x08", "\x9b", "\u202e"}
    assert "\\x1b]0;owned[/nope][bold]" in shown


def test_nor_by_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("cbs-x", f"no class '{EVIL}'")
    told = capsys.readouterr().err
    assert not {"\x1b", "\u202e"} & set(told)
    assert "\\u202egnp.exe" in told


@pytest.mark.parametrize("prints", ["print('a' * 99)", "console.print('a' * 99)"])
def test_a_reader_that_leaves_ends_it_as_pipes_do(prints: str) -> None:
    script = [sys.executable, "-c", PRINTS.format(prints), "99999"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("module", "words"),
    [
        *(("doctor", []), ("plugins", ["list"]), ("plugins", ["list", "--json"])),
        *((module, ["--help"]) for module in ("doctor", "plugins", "run", "live", "train")),
        *((module, ["--version"]) for module in ("doctor", "plugins", "run")),
    ],
)
def test_a_command_whose_reader_has_left_ends_as_pipes_do(module: str, words: list[str]) -> None:
    script = [sys.executable, "-c", f"from cbs_core.cli.{module} import main; main()", *words]
    # Unbuffered, argparse itself meets the pipe and keeps silent.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(script, stdout=write, stderr=subprocess.PIPE, env=env, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_where_nothing_can_be_printed_nothing_else_is_printed_into(
    closed: str, tmp_path: Path
) -> None:
    prints = "file = open('out', 'w'); print('a'); os.write(1, b'b'); os.write(2, b'c')"
    script = shlex.join([sys.executable, "-c", f"import os\n{PRINTS.format(prints)}", "1"])
    assert (
        subprocess.run(f"{script} {closed}", shell=True, cwd=tmp_path, check=False).returncode == 0
    )
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.parametrize("prints", ["print('a · b')", "console.print('a · b')"])
def test_a_middle_dot_on_an_ascii_terminal(prints: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PRINTS.format(prints), "1"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.startswith(b"a ")


def test_the_version_is_ours() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "cbs_core.cli.train", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == f"class-based-styling {__version__}\n"


def test_what_is_logged_and_said_is_text(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_line_errors("cbs-x"):
        logging.getLogger("cbs").warning("licence %s", EVIL)
        say("class", EVIL)
    assert "\x1b" not in caplog.text + capsys.readouterr().out
    assert "\\x1b" in caplog.text
