"""Each command refuses what is wrong before torch and the nets are imported, and leaves nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

RUN = ("run", "input=photo.png")
BATCH = ("batch", "input=photos", "output=out")
AUGMENT = ("augment", "output=out")
SCENE = ("scene", "input=box.glb")
EVAL = ("eval", "data=photos")

REFUSED = [
    (*RUN, "routes={tigr: wave}"),
    (*RUN, "routes=[tigr]", "segmenter=dabnet"),
    (*RUN, "routes={person: wavee}"),
    (*RUN, "routes=[person]", "styler.style=wavee"),
    (*RUN, "routes={person: wave}", "styler.style=wavee"),
    (*RUN, "routes=[person]", "styler=swift", "styler.style=wavee"),
    (*RUN, "routes=[person]", "styler=gatys", "styler.style=paintng.jpg"),
    (*RUN, "styler.weights=no.pth"),
    (*RUN, "segmenter.weights=no.pth"),
    (*RUN, "output=out.xyz"),
    (*RUN, "output=photo.png/out.png"),
    (*RUN, "output=photo.png"),
    ("run", "input=phto.png"),
    ("run", "input=photo/"),
    (*RUN, "select=40,2"),
    (*RUN, "select=largst"),
    (*RUN, "styler=jonson"),
    (*RUN, "sink.codc=libx264", "output=o.mp4"),
    (*RUN, "styler.halo=wide"),
    (*RUN, "stlyer=johnson"),
    (*RUN, "+strenght=1"),
    (*BATCH, "routes={tigr: wave}"),
    (*BATCH, "routes={person: wavee}"),
    (*BATCH, "video_suffix=.xyz"),
    (*BATCH, "stlyer=johnson"),
    ("batch", "input=phtos", "output=out"),
    ("batch", "input=photos", "output=photo.png/out"),
    (*SCENE, "routes={tigr: wave}"),
    (*SCENE, "routes={person: wavee}"),
    (*SCENE, "output=out.xyz"),
    (*SCENE, "output=photo.png/out.glb"),
    (*SCENE, "sizee=3"),
    ("scene", "input=bx.glb"),
    ("scene", "input=photo.png"),
    (*AUGMENT, "data=nowhere"),
    (*AUGMENT, "data=photos", "routes={car: [wave, wavee]}"),
    (*AUGMENT, "data=photos", "styler=jonson"),
    ("augment", "data=photos", "output=photo.png/out"),
    (*AUGMENT, "data=photos", "varaints=2"),
    (*EVAL, "styler=johnson", "styler.style=wavee"),
    (*EVAL, "segmenter=dabnt"),
    (*EVAL, "segmenter=dabnet", "segmenter.weights=no.pth"),
    (*EVAL, "segmenter=dabnet", "output=out.xyz"),
    (*EVAL, "segmenter=dabnet", "output=photo.png/out.json"),
    (*EVAL, "segmenter=dabnet", "limt=3"),
    ("eval", "data=nowhere", "segmenter=dabnet"),
    ("eval", "+dta=photos", "segmenter=dabnet"),
    ("eval", "data=nowhere", "styler=johnson"),
    ("export", "styler=johnson", "styler.style=wavee", "output=o.onnx"),
    ("export", "segmenter=dabnet", "output=o.xyz"),
    ("export", "segmenter=dabnet", "output=photo.png/o.onnx"),
    ("export", "segmenter=dabnt", "output=o.onnx"),
    ("export", "segmenter=dabnet", "outptu=o.onnx"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A picture, a folder of one, and something that is called as a scene."""
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "photos/a.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "box.glb").write_bytes(b"glTF")
    return tmp_path


@pytest.mark.parametrize("said", REFUSED, ids=" ".join)
def test_it_is_refused_before_torch_is_imported(place: Path, said: tuple[str, ...]) -> None:
    command, *given = said
    before = sorted(place.rglob("*"))
    program = Path(sys.executable).with_name(f"cbs-{command}")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", program, *given],
        cwd=place,
        env={**os.environ, "CBS_WEIGHTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stderr.splitlines()
    timed = [line for line in lines if line.startswith("import time:")]
    imported = {match[1] for line in timed if (match := re.search(r"\|\s+([\w.]+)$", line))}
    told = [line for line in lines if line not in timed]
    assert done.returncode == 2, told
    assert len(told) == 1
    assert told[0].startswith(f"cbs-{command}: error: ")
    assert "cbs_core.cli.app" in imported
    assert not imported & {"torch", "torchvision", "av", "cv2", "kornia", "timm", "onnxruntime"}
    assert sorted(place.rglob("*")) == before
