"""What is written, as Khronos' validator sees it: no error and no warning more than before.

It is JavaScript: ``npm install gltf-validator`` in the checkout, or in a folder whose
``node_modules`` is named by ``NODE_PATH``.
"""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cbs_core.scene.session import opened
from cbs_core.scene.types import MeshFile, Painted
from tests import scenes
from tests.conftest import ROOT

SCRIPT = """
const fs = require('fs'), path = require('path'), { validateBytes } = require('gltf-validator')
const told = (file) => validateBytes(new Uint8Array(fs.readFileSync(file)), {
  maxIssues: 10000, uri: file,
  externalResourceFunction: async (uri) => new Uint8Array(
    fs.readFileSync(path.resolve(path.dirname(file), decodeURIComponent(uri)))),
})
Promise.all(process.argv.slice(1).map(told)).then((all) => console.log(JSON.stringify(all)))
"""


def validated(*files: Path) -> list[Counter]:
    """Returns how often each file's errors and warnings come, by their code."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node, which the validator of glTF needs")
    found = subprocess.run(
        [node, "-e", "require('gltf-validator')"], cwd=ROOT, capture_output=True, timeout=120
    )
    if found.returncode:
        pytest.skip("no gltf-validator: npm install gltf-validator")
    done = subprocess.run(
        [node, "-e", SCRIPT, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return [
        Counter(m["code"] for m in told["issues"]["messages"] if m["severity"] < 2)
        for told in json.loads(done.stdout)
    ]


def repainted(path: Path, target: Path) -> Path:
    """Writes a scene whose every paint is another, those that it had not among them."""
    file = opened(path)
    assert isinstance(file, MeshFile)
    return file.write(
        target, Painted({i: 255 - p.pixels // 2 for i, p in enumerate(file.mesh.paints)})
    )[0]


def test_nothing_new_is_wrong_with_what_is_written(tmp_path) -> None:
    inputs = [scenes.gltf(tmp_path), scenes.glb(tmp_path / "box.glb")]
    outputs = [repainted(path, tmp_path / "out" / path.name) for path in inputs]
    told = validated(*inputs, *outputs)
    for before, after in zip(told[:2], told[2:], strict=True):
        assert not after - before


@pytest.mark.shared
@pytest.mark.parametrize("name", ["CesiumMilkTruck.glb", "Duck.glb"])
def test_real_files_stay_valid(name: str, shared, tmp_path) -> None:
    path = shared / "data" / "3d" / name
    if not path.is_file():
        pytest.skip("no data/3d in ../shared")
    before, after = validated(path, repainted(path, tmp_path / name))
    assert not after - before
    assert np.array_equal(
        opened(path).mesh.vertices[opened(path).mesh.faces],
        opened(tmp_path / name).mesh.vertices[opened(tmp_path / name).mesh.faces],
    )
