"""Follows docs/write-a-plugin.md to the letter, in a fresh environment.

Fences of the document:

- `LANGUAGE title="FILE"` is a file; a trailing `append` adds to one that stands already;
- `console` holds commands after `$ ` and what they print: `...` is anything within a line, or any
  number of lines, and widths of blanks do not count. They must exit with 0, or with N where it says
  `exit=N`.

Any other fence fails the test: nothing in the document goes unchecked.
"""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import cbs_core.contract.interfaces
import cbs_core.testing
from cbs_core.choose.registry import REGISTRIES
from cbs_core.contract import engines
from tests.packaging.environments import ROOT, new_environment, wheel

DOCUMENT = (ROOT / "docs" / "write-a-plugin.md").read_text()
FENCE = re.compile(r"^```(?P<info>.*)\n(?P<body>(?:.*\n)*?)```$", re.MULTILINE)
FILE = re.compile(r'\w+ title="(?P<path>[^"]+)"(?P<append> append)?')
CONSOLE = re.compile(r"console(?: exit=(?P<code>\d+))?")
COMMAND = re.compile(r"^\$ (?P<line>.*)\n(?P<shown>(?:(?!\$ ).*\n)*)", re.MULTILINE)
ROW = re.compile(r"^\| (\w+) \| `(cbs\.\w+)` \| (.+) \| `(\w+)` \|$", re.MULTILINE)


@dataclass(frozen=True)
class File:
    path: str
    text: str
    append: bool

    def write(self, folder: Path) -> None:
        path = folder / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        assert path.exists() == self.append, f"{self.path} is shown twice without 'append'"
        with path.open("a") as file:
            file.write(self.text)


@dataclass(frozen=True)
class Command:
    line: str
    shown: str
    code: int


def steps(document: str) -> list[File | Command]:
    """Returns the files and the commands of a document, in order."""
    found: list[File | Command] = []
    for fence in FENCE.finditer(document):
        info, body = fence["info"], fence["body"]
        if file := FILE.fullmatch(info):
            found.append(File(file["path"], body, append=bool(file["append"])))
        elif console := CONSOLE.fullmatch(info):
            commands = list(COMMAND.finditer(body))
            assert "".join(c[0] for c in commands) == body, f"output without a command: {body}"
            code = int(console["code"] or 0)
            found.extend(Command(c["line"], c["shown"], code) for c in commands)
        else:
            pytest.fail(f"the fence '{info}' is neither a file nor a console")
    assert document.count("```") == 2 * len(FENCE.findall(document))
    return found


def is_shown(printed: str, shown: str) -> bool:
    """Tells whether a command printed what the document shows."""

    def pattern(line: str) -> str:
        if line.strip() == "...":
            return r"(?:.*\n)*"
        words = (re.escape(word).replace(r"\.\.\.", ".*") for word in line.split())
        return " *" + " +".join(words) + " *\n"

    return bool(re.fullmatch("".join(map(pattern, shown.splitlines())), printed))


@pytest.mark.slow
def test_the_document_works(wheels, weights, tmp_path):
    environment = new_environment(tmp_path / "environment")
    environment.install(wheel(wheels, "class_based_styling"))
    environment.variables |= {
        "CBS_WEIGHTS": str(weights),
        # A reader's pip fetches hatchling for the build; here it stands in the environment.
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    folder = tmp_path / "cbs-blocks"
    folder.mkdir()

    for step in steps(DOCUMENT):
        if isinstance(step, File):
            step.write(folder)
            continue
        done = environment.shell(step.line, cwd=folder)
        assert done.returncode == step.code, f"$ {step.line}\n{done.stdout}"
        if not is_shown(done.stdout, step.shown):
            pytest.fail(f"$ {step.line}\nis shown as:\n{step.shown}\nbut prints:\n{done.stdout}")

    for picture in ("astronaut.png", "coarse.png", "dark.png"):
        assert (folder / picture).is_file()
    assert "cbs-blocks 0.1.0" in (folder / "coarse.report.json").read_text()


def members(protocol: type) -> set[str]:
    """Returns what a protocol asks for."""
    methods = {name for name, value in vars(protocol).items() if inspect.isfunction(value)}
    return methods.union(inspect.get_annotations(protocol)) - {"__init__", "__subclasshook__"}


def test_the_table_of_kinds_is_that_of_the_interfaces():
    rows = {kind: rest for kind, *rest in ROW.findall(DOCUMENT)}
    assert rows.keys() == REGISTRIES.keys()
    for kind, (group, told, suite) in rows.items():
        name = kind.capitalize()
        protocol = getattr(cbs_core.contract.interfaces, name, None) or getattr(engines, name)
        assert group == REGISTRIES[kind].group
        assert hasattr(cbs_core.testing, suite)
        items = dict(re.findall(r"`(\w+)(?:\(([^`]*)\))?`", told.partition(";")[0]))
        assert items.keys() == members(protocol)
        for name, parameters in items.items():
            if inspect.isfunction(value := getattr(protocol, name, None)):
                shown = re.findall(r"\w+", parameters)
                assert shown == list(inspect.signature(value).parameters)[1:]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("", "", True),
        ("a\n", "", False),
        ("a   b\n", "a b\n", True),
        ("a\nb\n", "a\n...\nb\n", True),
        ("a\nx\ny\nb\n", "a\n...\nb\n", True),
        ("a\nb\nc\n", "a\n...\nb\n", False),
        ("a 1.5 b\n", "a ... b\n", True),
        ("a 1.5 c\n", "a ... b\n", False),
        ("axb\n", "a.b\n", False),
    ],
)
def test_output_is_compared_as_it_says(printed, shown, same):
    assert is_shown(printed, shown) == same


@pytest.mark.parametrize(
    "document",
    [
        "```python\nx = 1\n```\n",
        "```console\nshown without a command\n```\n",
        "```console\n$ ls\n",
    ],
)
def test_what_would_go_unchecked_is_refused(document):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        steps(document)
