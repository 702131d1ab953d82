"""A file, a function and a constructor are small enough to be held in one's head.

A function is counted from its ``def`` to its end, with its docstring and what is defined inside it;
a class by its methods. Of a constructor every parameter but ``self`` counts, keyword-only ones too,
and of a dataclass those fields that are no plain values: a value type is a list of facts.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILE, FUNCTION, CONSTRUCTOR = 400, 60, 10
"""Lines, lines, parameters."""

PLAIN = {"int", "float", "bool", "str", "bytes", "Path", "Fraction", "None"}
"""Types of plain values; tuples, lists, mappings and unions of them are plain, too."""

COMPOSED = {"tuple", "list", "dict", "Sequence", "Mapping"}

EXCEPTIONS = {
    "cbs_core/cli/app.py hydra_app": "53 lines and a docstring; one command's life from top to end",
    "cbs_core/frame/plan.py Plan": "a value: the built parts that a frame takes with it",
    "plugins/cbs_plugins/stylers/gatys.py GatysStyler": "a plugin's parameters are the keys of its "
    "preset, which people write flat",
}
"""What is larger, and why."""


def large(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yields what is too large in a file, and how large it is."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > FILE:
        yield name, f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION:
                yield f"{name} {node.name}", f"{lines} lines"
        elif isinstance(node, ast.ClassDef):
            count = parameters(node)
            if count > CONSTRUCTOR:
                yield f"{name} {node.name}", f"{count} parameters"


def parameters(node: ast.ClassDef) -> int:
    """Counts what a class is built with."""
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        fields = [one.annotation for one in node.body if isinstance(one, ast.AnnAssign)]
        return sum(not plain(one) for one in fields)
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            told = one.args
            return len([*told.posonlyargs, *told.args, *told.kwonlyargs]) - 1
    return 0


def plain(annotation: ast.expr) -> bool:
    """Tells whether an annotation is made of `PLAIN` and `COMPOSED` alone."""
    names = {one.id for one in ast.walk(annotation) if isinstance(one, ast.Name)}
    return names <= PLAIN | COMPOSED


def found() -> dict[str, str]:
    """Returns all that is too large."""
    folders = (ROOT / "cbs_core", ROOT / "plugins" / "cbs_plugins")
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    assert len(files) > 100
    return {
        what: size
        for path in files
        for what, size in large(path, path.relative_to(ROOT).as_posix())
    }


def test_nothing_is_too_large() -> None:
    assert {what: size for what, size in found().items() if what not in EXCEPTIONS} == {}


def test_every_exception_is_one() -> None:
    assert EXCEPTIONS.keys() <= found().keys(), (
        "this is small enough by now: take it from the table"
    )


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("x = 1\n" * 401, ["a.py"]),
        ("x = 1\n" * 400, []),
        ("class A:\n    def f(self):\n" + "        x = 1\n" * 60, ["a.py f"]),
        ("def f():\n" + "    x = 1\n" * 59, []),
        ("class A:\n    def __init__(self, a, b, c, d, e, f, *, g, h, i, j, k): ...", ["a.py A"]),
        ("class A:\n    def __init__(self, a, b, c, d, e, f, *, g, h, i, j): ...", []),
        ("@dataclass\nclass A:\n" + "".join(f"    x{i}: int | None\n" for i in range(11)), []),
        (
            "@dataclass()\nclass A:\n" + "".join(f"    x{i}: Tensor\n" for i in range(11)),
            ["a.py A"],
        ),
    ],
)
def test_what_is_too_large_is_found(tmp_path: Path, text: str, want: list[str]) -> None:
    path = tmp_path / "a.py"
    path.write_text(text)
    assert [what for what, _ in large(path, "a.py")] == want
