"""A stranger's segmenter with weights, training, a source and a check, beside the project."""

import json
import re

import numpy as np
from PIL import Image

from tests.packaging.environments import MEADOW


def test_its_weights_are_found_by_name(environment, tmp_path):
    done = environment.run(
        "cbs-run",
        *("segmenter=meadow", "source=hills", "source.frames=3", "routes=[sky]", "styler=pastel"),
        *("sink=folder", "output=out", "accelerator=eager", "scheduler=serial", "device=cpu"),
        "precision=fp32",
        cwd=tmp_path,
        check=True,
    )
    assert "sky: pastel" in done.stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    report = json.loads((tmp_path / "out.report.json").read_text())
    (weights,) = (entry["file"] for entry in report["weights"])
    assert weights.endswith("cbs_meadow/weights/meadow/scenes.safetensors")
    assert "cbs-meadow 0.1.0" in json.dumps(report)
    with Image.open(tmp_path / "out.sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10


def test_its_card_is_shown_with_the_licence(environment):
    shown = environment.run("cbs-plugins", "show", "segmenter/meadow", check=True).stdout
    assert re.search(r"weights +scenes: .*cbs_meadow.* \(Apache-2.0\)", shown)
    assert "# meadow/scenes: sky, grass, background" in shown


def test_the_doctor_runs_its_check_and_shows_its_weights(environment):
    told = environment.run("cbs-doctor", check=True).stdout
    assert re.search(r"ok +meadow +its weights are there \(cbs-meadow 0.1.0\)", told)
    assert re.search(r"ok +meadow +scenes", told)
    assert "PROBLEM" not in told


def test_it_is_trained_by_its_own_task_and_recipe(environment, tmp_path):
    environment.run(
        "cbs-train",
        *("segmenter=meadow", "data=scenes", "steps=3", "recipe.batch=2", "device=cpu"),
        *("precision=fp32", "half=false", "validate_every=0", "preview_every=0"),
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "weights" / "meadow" / "scenes.safetensors").is_file()


def test_its_own_tests_pass(from_wheels):
    options = ("-q", "--strict-markers", "-p", "no:cacheprovider")
    done = from_wheels.run("python", "-m", "pytest", *options, str(MEADOW))
    assert done.returncode == 0, done.stdout
