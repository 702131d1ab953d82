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
    (*RUN, "routes=[tigr]", "segmenter=auto"),
    (*RUN, "styler=gatys"),
    (*RUN, "styler=microast"),
    (*RUN, "styler=swift"),
    (*RUN, "styler=gatys", "styler.style=photo.png", "styler.optimizer=adm"),
    (*RUN, "segmenter=timm"),
    (*RUN, "styler.halo=-4"),
    (*RUN, "styler=magenta", "styler.style=99"),
    (*RUN, "segmenter.vocabulary=camvd"),
    (*RUN, "+segmenter.tsk=1", "segmenter=huggingface"),
    (*RUN, "routes={person: {style: wave, hallo: 3}}"),
    (*RUN, "+hydra.run.dr=x"),
    ("batch", "+styler.wher=mask"),
    ("scene", "+styler.halp=1"),
    ("live", "size=big"),
    ("live", "quiet=1"),
    ("live", "select=largst"),
    ("live", "output=o.xyz"),
    ("train", "styler=johnson", "style=photo.png", "data=photos", "workers=two"),
    (*AUGMENT, "remake=nothing.jsonl"),
    ("train", "styler=johnson", "style=photo.png", "data=nowhere"),
    ("train", "styler=johnson", "style=nope.png", "data=photos"),
    ("train", "styler=johnson", "style=photo.png", "data=photos", "init=nobody"),
    ("train", "segmenter=dabnet", "data=nowhere"),
    ("train", "data=photos"),
    (*EVAL, "styler=johnson"),
    (*EVAL, "styler=johnson", "painting=nope.png"),
    (*EVAL, "segmenter=dabnet", "calls=ten"),
    (*EVAL, "styler=microast"),
    (*BATCH, "tries=many"),
    (*SCENE, "views=[1]"),
    (*AUGMENT, "data=photos", "routes={car: {probabilty: 0.5}}"),
    (*AUGMENT, "data=photos", "variants=two"),
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
