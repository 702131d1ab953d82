import tarfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import PurePosixPath
from zipfile import ZipFile

import pytest

from cbs_core.choose.registry import REGISTRIES
from tests.packaging.environments import PASTEL, ROOT, wheel


@pytest.fixture(scope="module")
def archive(wheels):
    with ZipFile(wheel(wheels, "class_based_styling")) as archive:
        yield archive


def of_metadata(archive, name):
    (path,) = (n for n in archive.namelist() if n.endswith(f".dist-info/{name}"))
    return archive.read(path).decode()


def entry_points(archive):
    parser = ConfigParser(delimiters="=")
    parser.read_string(of_metadata(archive, "entry_points.txt"))
    return {group: dict(parser[group]) for group in parser.sections()}


def test_only_our_packages_stand_at_the_top(archive):
    tops = {PurePosixPath(name).parts[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cbs_core", "cbs_plugins"}


def test_every_module_preset_and_table_is_in(archive):
    names = set(archive.namelist())
    due = {
        f"{to}/{path.relative_to(source).as_posix()}"
        for source, to, pattern in (
            (ROOT / "conf", "cbs_core/conf", "*.yaml"),
            (ROOT / "cbs_core", "cbs_core", "*.py"),
            (ROOT / "cbs_core" / "words", "cbs_core/words", "*.txt"),
            (ROOT / "plugins" / "cbs_plugins", "cbs_plugins", "*.py"),
            (ROOT / "plugins" / "cbs_plugins", "cbs_plugins", "*.safetensors"),
            (ROOT / "plugins" / "cbs_plugins", "cbs_plugins", "*.md"),
        )
        for path in source.rglob(pattern)
    }
    assert {"cbs_core/conf/config.yaml", "cbs_core/words/ade20k.txt"} <= due
    assert not due - names


@pytest.mark.parametrize("package", ["cbs_core", "cbs_plugins"])
def test_type_checkers_are_told_of_our_types(archive, package):
    assert f"{package}/py.typed" in archive.namelist()


def test_every_entry_point_names_a_module_in_it(archive):
    groups = entry_points(archive)
    assert {"console_scripts", "cbs.segmenters", "cbs.stylers"} <= groups.keys()
    for group, entries in groups.items():
        for target in entries.values():
            module = target.partition(":")[0].replace(".", "/")
            assert f"{module}.py" in archive.namelist(), f"{group}: {target}"


def test_every_built_in_plugin_has_a_preset_of_its_name(archive):
    for group, entries in entry_points(archive).items():
        kind = group.removeprefix("cbs.").removesuffix("s")
        for name in entries if kind in REGISTRIES else ():
            assert f"cbs_core/conf/{kind}/{name}.yaml" in archive.namelist()


def test_metadata_names_python_and_the_licence(archive):
    metadata = message_from_string(of_metadata(archive, "METADATA"))
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in of_metadata(archive, "licenses/LICENSE")


def test_the_sdist_carries_no_leftovers(wheels):
    (path,) = wheels.glob("class_based_styling-*.tar.gz")
    with tarfile.open(path) as archive:
        parts = {part for name in archive.getnames() for part in PurePosixPath(name).parts}
    assert not parts & {".venv", ".ci", "outputs", "demo", "__pycache__", ".git"}


def test_the_strangers_wheel_carries_its_presets(wheels):
    with ZipFile(wheel(wheels, "cbs_pastel")) as archive:
        names = set(archive.namelist())
        metadata = message_from_string(of_metadata(archive, "METADATA"))
    for preset in (PASTEL / "cbs_pastel").rglob("*.yaml"):
        assert preset.relative_to(PASTEL).as_posix() in names
    assert not any(name.startswith("tests/") for name in names)
    required = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert required == ["torch>=2.10"]
