"""``cbs-scene`` as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from cbs_core.scene.session import opened
from tests import scenes

COMMAND = Path(sys.executable).with_name("cbs-scene")


def scene(tmp_path: Path, *options: str) -> subprocess.CompletedProcess:
    command = [str(COMMAND), *options, "precision=fp32", f"hydra.run.dir={tmp_path / 'run'}"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)


def test_a_scene_is_restyled_by_its_own_names_with_all_that_lies_beside(tmp_path) -> None:
    scenes.glb(tmp_path / "box.glb")
    done = scene(
        tmp_path,
        *("input=box.glb", "output=out/new.glb", "routes={material:red: wave}"),
        *("views=6", "size=64"),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out"
    report = json.loads((folder / "new.report.json").read_text())
    assert report["kind"] == "mesh"
    assert report["frozen_statistics"] is True
    assert report["classes"][0]["classes"] == ["material/red"]
    assert report["consistency"]["short"]["after"] < 0.2
    old, new = (opened(path).mesh for path in (tmp_path / "box.glb", folder / "new.glb"))
    assert np.array_equal(old.paints[0].pixels[:, 32:], new.paints[0].pixels[:, 32:])
    assert not np.array_equal(old.paints[0].pixels[:, :32], new.paints[0].pixels[:, :32])
    with av.open(str(folder / "new.turntable.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 48
    page = (folder / "new.viewer.html").read_text()
    assert "three.js" in page.lower()
    assert "src=" not in page.split("<script")[0]
    assert "fetch(" not in page.rsplit("<script", 1)[0]
    assert (folder / "new.sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("input=box.glb", "output=box.glb"), "written over"),
        (("input=box.glb", "output=box.obj"), "keeps its format"),
        (("input=box.glb", "routes={material:rad: wave}"), "did you mean 'material/red'"),
        (("input=box.glb", "labels=colour"), "labels=colour"),
        (("input=box.glb", "sheet=new.glb", "output=new.glb"), "are both named"),
    ],
)
def test_a_mistake_is_one_line(options: tuple[str, ...], words: str, tmp_path) -> None:
    scenes.glb(tmp_path / "box.glb")
    done = scene(tmp_path, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
