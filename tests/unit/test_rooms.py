"""The layout is the architecture: rooms import one way, and files in no circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = {
    "cbs_core": (
        *("contract", "machine", "words", "choose", "accelerators", "temporal", "frame", "run"),
        *("batch", "scene", "datasets", "augment", "training", "evaluation", "api", "live"),
        *("cli", "testing"),
    ),
    "cbs_plugins": (
        *("formats", "nets", "training", "compositors", "segmenters", "stylers"),
        *("sources", "sinks", "losses", "checks", "scenes", "engines"),
    ),
}
"""From the ground floor up: a room imports only those before it (`testing` may see all)."""

PACKAGES = {"cbs_core": ROOT / "cbs_core", "cbs_plugins": ROOT / "plugins" / "cbs_plugins"}


def modules(package: str) -> dict[str, Path]:
    """Returns the files of a package by module name."""
    folder = PACKAGES[package]
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in folder.rglob("*.py")
    }


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yields the modules of a package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        else:
            continue
        yield from (name for name in names if name in known)


def room(module: str) -> str:
    """Returns the room that a module is in; of the package itself, nothing."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_is_in_a_room_and_every_room_says_what_it_is(package: str) -> None:
    known = modules(package)
    assert {room(name) for name in known} - {""} == set(ROOMS[package])
    for name in ROOMS[package]:
        if not name.startswith("testing"):
            said = ast.get_docstring(ast.parse(known[f"{package}.{name}"].read_text())) or ""
            assert said.endswith("."), f"{name}/__init__.py does not say what may live there"


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_one_way(package: str) -> None:
    known = modules(package)
    order = {name: place for place, name in enumerate(("", *ROOMS[package]))}
    wrong = {
        f"{module} imports {target}"
        for module, path in known.items()
        for target in imports(path, known)
        if room(module) and order[room(target)] > order[room(module)]
    }
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_files(package: str) -> None:
    known = modules(package)
    needs = {name: set(imports(path, known)) - {name} for name, path in known.items()}
    while free := {name for name, wanted in needs.items() if not wanted & needs.keys()}:
        needs = {name: wanted for name, wanted in needs.items() if name not in free}
    assert not needs, f"these files import each other: {sorted(needs)}"


def test_the_framework_names_no_plugin_of_ours() -> None:
    named = [
        str(path.relative_to(ROOT))
        for path in PACKAGES["cbs_core"].rglob("*")
        if path.suffix in (".py", ".txt", ".yaml") and "cbs_plugins" in path.read_text()
    ]
    assert not named


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by name alone, and cannot tell them apart."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in set(names) if names.count(name) > 1] == []
