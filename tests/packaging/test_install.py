"""A stranger's styler, installed beside the project: as wheels and as editable checkouts."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cbs_plugins.sources.sample import sample_file
from PIL import Image

from tests.packaging.environments import PASTEL, ROOT

STYLER = PASTEL / "cbs_pastel" / "conf" / "styler"


@pytest.fixture(scope="module")
def pastel():
    """The styler's class, from its file: this environment has no such package."""
    spec = importlib.util.spec_from_file_location("pastel", PASTEL / "cbs_pastel" / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Pastel


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photograph.png"
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_presets_come_from_where_the_code_does(from_wheels, from_checkouts):
    installed = from_wheels.run("cbs-run", "--info", "searchpath", check=True).stdout
    assert str(from_wheels.site_packages / "cbs_core" / "conf") in installed
    assert str(ROOT) not in installed

    # hatchling leaves a copy of conf/ beside an editable install, which must not be used.
    checkout = from_checkouts.run("cbs-run", "--info", "searchpath", check=True).stdout
    assert str(ROOT / "conf") in checkout
    assert str(from_checkouts.site_packages) not in checkout


def test_it_is_listed_with_its_distribution(environment):
    done = environment.run("cbs-plugins", "list", check=True)
    (line,) = re.findall(r"^styler +pastel .*", done.stdout, re.MULTILINE)
    assert "cbs-pastel 0.1.0" in line
    assert "pastel.yaml" in line


def test_help_lists_its_presets(environment):
    done = environment.run("cbs-run", "--help", check=True)
    assert re.search(r"^styler: .*\bpastel, pastel_soft\b", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("preset", ["pastel", "pastel_soft"])
def test_its_preset_is_composed(environment, preset):
    done = environment.run(
        "cbs-run", f"styler={preset}", "styler.grain=0.3", "--cfg", "job", check=True
    )
    want = yaml.safe_load((STYLER / f"{preset}.yaml").read_text()) | {"grain": 0.3}
    of_any = {"where": "frame", "statistics": None}
    assert yaml.safe_load(done.stdout)["styler"] == of_any | want


def test_the_shell_completes_its_name(environment):
    done = environment.run(
        "cbs-run", "-sc", "query=bash", COMP_LINE="cbs-run styler=pas", check=True
    )
    assert set(done.stdout.split()) == {"styler=pastel", "styler=pastel_soft"}


def test_it_restyles_a_picture(environment, photograph, weights, tmp_path, pastel):
    output = tmp_path / "out.png"
    environment.run(
        "cbs-run",
        f"input={photograph}",
        f"output={output}",
        "styler=pastel",
        "styler.radius=2",
        "segmenter=dabnet",
        f"segmenter.weights={weights / 'dabnet' / 'voc.pth'}",
        "routes=[person]",
        "device=cpu",
        cwd=tmp_path,
        check=True,
    )
    # These weights see a person everywhere, so the picture is the styler's own.
    image = torch.from_numpy(np.array(Image.open(photograph))).permute(2, 0, 1)[None] / 255
    want = pastel(radius=2)(image)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(np.array(Image.open(output)) - want).max() <= 1

    report = (tmp_path / "out.report.json").read_text()
    assert "cbs-pastel 0.1.0" in report
    assert json.loads(report)


def test_a_parameter_out_of_range_is_one_line(environment, photograph, weights, tmp_path):
    done = environment.run(
        "cbs-run",
        f"input={photograph}",
        "output=out.png",
        "styler=pastel",
        "styler.grain=7",
        CBS_WEIGHTS=str(weights),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cbs-pastel 0.1.0" in done.stderr
    assert "grain=7 must be a number from 0 to 1" in done.stderr


def test_its_own_tests_pass(environment):
    # Strict, since a marker that only this project knows would trouble every author of a plugin.
    options = (
        "-q",
        "--strict-markers",
        "-W",
        "error::pytest.PytestWarning",
        "-p",
        "no:cacheprovider",
    )
    done = environment.run("python", "-m", "pytest", *options, str(PASTEL))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("chosen", "weights"),
    [
        # A decoder of stuff is read with the net of things that it stands on.
        ((), {"scene", "voc", "starry_night"}),
        (("segmenter=dabnet", "styler=johnson"), {"voc", "starry_night"}),
    ],
)
def test_the_package_restyles_with_its_own_weights(from_wheels, tmp_path, chosen, weights):
    done = from_wheels.run("cbs-run", *chosen, "output=out.png", cwd=tmp_path, check=True)
    assert "person+car: johnson" in done.stdout
    report = json.loads((tmp_path / "out.report.json").read_text())
    files = [entry["file"] for entry in report["weights"]]
    assert {Path(file).stem for file in files} == weights
    assert all(str(from_wheels.site_packages) in file for file in files)
    source = np.array(Image.open(sample_file("astronaut")).convert("RGB")).astype(float)
    changed = np.abs(np.array(Image.open(tmp_path / "out.png")) - source).max(2) > 30
    assert 0.1 < changed.mean() < 0.7
