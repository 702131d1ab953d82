"""``cbs-train segmenter=``, then ``cbs-eval`` and ``cbs-run`` of what it wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from cbs_plugins.nets.espnetv2 import ESPNetv2
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from cbs_core.cli import evaluate, run, train
from tests.integration.command import Ran

QUICK = (
    "recipe.crop=[32,32]",
    "recipe.batch=2",
    "recipe.warm_up=1",
    "device=cpu",
    "precision=fp32",
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a labelled set named ``it's``, and a teacher that knows VOC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / "it's" / name).mkdir(parents=True)
    (tmp_path / "it's/classes.txt").write_text("background\nperson\n")
    for index in range(6):
        pixels = random.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"it's/images/{index}.png")
        Image.fromarray((pixels[..., 0] > 128).astype(np.uint8)).save(f"it's/labels/{index}.png")
    torch.manual_seed(0)
    torch.save(ESPNetv2(21, (16, 32, 64, 128), planes=4).state_dict(), "teacher.pth")
    return tmp_path


@pytest.fixture
def call(place, monkeypatch, capsys):
    """Runs a command in this process, which starts faster than another."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(1)

    def run(command: ModuleType, *argv: str) -> Ran:
        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        monkeypatch.setattr(sys, "argv", ["command", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    yield run
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


@pytest.mark.parametrize(
    "way",
    [
        (),
        ("precision=bf16", "recipe.cutmix=1"),
        ("recipe.held=true", "recipe.teacher_sees=views", "recipe.average=0.5"),
    ],
)
def test_trained_with_a_teacher_then_evaluated_then_used(call, way):
    teacher = ("teacher=espnetv2", "teacher.weights=teacher.pth", "recipe.unlabelled_batch=1")
    data = ("data=it's", "recipe.unlabelled=it's/images")
    trained = call(train, "segmenter=dabnet", *data, *teacher, *QUICK, "steps=2", *way)
    assert trained.code == 0, trained.err
    file = "weights/dabnet/segmenter.safetensors"
    with safe_open(file, "pt") as header:
        said = header.metadata()
    assert json.loads(said["classes"]) == ["background", "person"]
    assert json.loads(said["recipe"])["teacher"]["name"] == "espnetv2"
    assert "mean_iou" in json.loads(said["metrics"])

    weights = f"segmenter.weights={file}"
    evaluated = call(evaluate, "segmenter=dabnet", weights, "data=it's", "calls=1", "device=cpu")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(Path("eval.json").read_text())["scores"]["pictures"] == 6

    used = call(
        run,
        *(weights, "styler=none", "input=it's/images/0.png", "output=a.png"),
        *("segmenter=dabnet", "routes=[person]", "device=cpu"),
    )
    assert used.code == 0, used.err


def test_killed_and_resumed_it_ends_in_the_same_weights(call):
    options = ("segmenter=dabnet", "data=it's", *QUICK, "recipe.by_class=0.5", "checkpoint_every=2")
    whole = call(train, *options, "steps=24", "output=whole.safetensors")
    assert whole.code == 0, whole.err

    options = (*options, "steps=24", "output=parts.safetensors", "resume=true")
    script = Path(sys.executable).with_name("cbs-train")
    first = subprocess.Popen(
        [script, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not Path("parts.train/last.pt").is_file() and time.monotonic() < end:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not Path("parts.safetensors").exists()
    assert call(train, *options).code == 0
    ours, theirs = load_file("parts.safetensors"), load_file("whole.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_mistake_is_one_line(call):
    refused = call(train, "segmenter=dabnet", "data=nowhere", *QUICK)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "no folder or table 'nowhere'" in refused.err
    unknown = call(train, "segmenter=dabnet", "data=it's", "+recipe.croop=1", *QUICK)
    assert unknown.code == 2
    assert "did you mean 'crop'" in unknown.err
