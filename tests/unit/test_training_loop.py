"""The training loop on a net that trains in milliseconds."""

import copy
import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from torch import nn

from cbs_core.contract.errors import SinkError, WeightsError
from cbs_core.training import checkpoint, export
from cbs_core.training.history import DivergenceError
from cbs_core.training.loop import Settings, guard, restore_best, train
from tests.toy_task import STEPS, ToyTask

CPU = torch.device("cpu")
SETTINGS = Settings(steps=STEPS, checkpoint_every=4, validate_every=4, preview_every=6)


def run(folder, task=None, **changes):
    task = task or ToyTask()
    quiet = Console(quiet=True)
    return task, train(task, replace(SETTINGS, **changes), folder, device=CPU, console=quiet)


def equal(one: ToyTask, two: ToyTask) -> bool:
    states = one.module.state_dict(), two.module.state_dict()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_whole_run(tmp_path):
    task, outcome = run(tmp_path)
    assert (outcome.step, outcome.end, task.steps_taken) == (STEPS, "steps", STEPS)
    assert outcome.metrics["error"] < 1
    assert outcome.best_step in (4, 8, 12)
    assert sorted(p.name for p in (tmp_path / "previews").iterdir()) == ["000006.png", "000012.png"]
    assert Image.open(tmp_path / "previews/000006.png").size == (6, 4)
    history = json.loads((tmp_path / "curves.json").read_text())
    assert history["training"]["step"] == list(range(1, STEPS + 1))
    assert history["validation"]["step"] == [4, 8, 12]
    assert history["training"].keys() == {"step", "loss", "twice", "learning_rate"}
    assert Image.open(tmp_path / "curves.png").width > 400
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, workers, precision):
    whole, _ = run(tmp_path / "whole", dtype=precision)
    options = {"workers": workers, "dtype": precision}
    run(tmp_path / "parts", ToyTask(), steps=5, **options)
    torch.rand(3)  # the global generator is of no account
    resumed, outcome = run(tmp_path / "parts", ToyTask(), **options)
    assert resumed.steps_taken == STEPS - 5
    assert outcome.step == STEPS
    assert equal(whole, resumed)
    last = [checkpoint.load(tmp_path / part / "last.pt") for part in ("whole", "parts")]
    assert last[0]["history"]["training"] == last[1]["history"]["training"]


def dilated(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels)


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_gradients_of_dilated_depthwise_convolutions(compiled):
    """oneDNN leaves what was in memory, in channels_last from widths above 32."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), dilated(16, 4), nn.ReLU(), dilated(16, 2))
    net = net.to(memory_format=torch.channels_last)
    exact = copy.deepcopy(net).double()
    image = torch.rand(2, 3, 40, 40).to(memory_format=torch.channels_last)
    exact(image.double()).square().mean().backward()
    guard(net)
    assert net.state_dict().keys() == exact.state_dict().keys()
    with torch.autocast("cpu", torch.bfloat16):
        out = (torch.compile(net) if compiled else net)(image)
    out.float().square().mean().backward()
    for ours, theirs in zip(net.parameters(), exact.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() < 0.05 * theirs.grad.norm()


def test_a_bfloat16_training_is_guarded(tmp_path):
    def learnt(dtype):
        task = ToyTask()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            task.module.append(dilated(3, 4))
        task.step = lambda image, _: {"loss": (task.module(image) - image).square().mean()}
        task.batch = lambda _, generator: (torch.rand(1, 3, 40, 40, generator=generator),) * 2
        before = task.module[-1].weight.detach().clone()
        task.optimizer = torch.optim.SGD(task.module.parameters(), 1.0)
        task.scheduler = torch.optim.lr_scheduler.LambdaLR(task.optimizer, lambda _: 1.0)
        run(tmp_path / str(dtype), task, dtype=dtype, steps=1, preview_every=0)
        return task.module[-1].weight.detach() - before

    one, other = learnt(torch.bfloat16), learnt(torch.float32)
    assert (one - other).norm() < 0.05 * other.norm()


@pytest.mark.filterwarnings("error:Detected call of")
def test_a_gradient_that_overflows_is_left_out(tmp_path):
    task = ToyTask(disturb=lambda step, loss: loss * 1e3 if step == 0 else loss)
    task.step = lambda image, _, step=task.step: {
        "loss": step(image, torch.tensor(1))["loss"] + 1e4 * task.module(image).mean()
    }
    before = task.module[0].weight.detach().clone()
    run(tmp_path, task, dtype=torch.float16, steps=1, validate_every=0)
    assert torch.equal(task.module[0].weight, before)


def test_another_seed_gives_other_weights(tmp_path):
    assert not equal(run(tmp_path / "a")[0], run(tmp_path / "b", seed=1)[0])


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, value):
    task = ToyTask(disturb=lambda step, loss: loss * float(value) if step == 6 else loss)
    with pytest.raises(DivergenceError, match=rf"step 7 is {value}.*step 4, '.*last.pt'"):
        run(tmp_path, task)
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 4


def test_divergence_is_told_from_the_running_median(tmp_path):
    task = ToyTask(50, disturb=lambda step, loss: loss * 1e6 if step == 30 else loss)
    with pytest.raises(DivergenceError, match=r"step 31 is .* more than 10 times"):
        run(tmp_path, task, steps=50)
    task = ToyTask(50, disturb=lambda step, loss: loss * 1e6 if step == 30 else loss)
    run(tmp_path / "any", task, steps=50, divergence=None)


def test_nan_before_any_checkpoint(tmp_path):
    task = ToyTask(disturb=lambda step, loss: loss * float("nan"))
    with pytest.raises(DivergenceError, match=r"step 1 is nan; no checkpoint yet"):
        run(tmp_path, task)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    class Spoilt(ToyTask):
        def step(self, image, number):
            if int(number) == 7:
                self.module[0].bias.data[0] = float("inf")
                return {"loss": self.module[3].weight.square().sum()}
            return super().step(image, number)

    with pytest.raises(DivergenceError, match=r"after step 8, 0\.bias holds no numbers.*step 4"):
        run(tmp_path, Spoilt(), validate_every=0, preview_every=0)


def test_ctrl_c_ends_the_step_and_saves(tmp_path):
    def press(step, loss):
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    before = signal.getsignal(signal.SIGINT)
    _, outcome = run(tmp_path, ToyTask(disturb=press))
    assert (outcome.end, outcome.step) == ("interrupted", 7)
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 7
    assert signal.getsignal(signal.SIGINT) is before
    assert equal(run(tmp_path)[0], run(tmp_path / "whole")[0])


def test_minutes_and_checkpoints_by_the_clock(tmp_path):
    _, outcome = run(tmp_path, minutes=1e-9)
    assert (outcome.end, outcome.step) == ("minutes", 1)
    task = ToyTask(disturb=lambda step, loss: loss * float("nan") if step == 2 else loss)
    with pytest.raises(DivergenceError, match="step 2, "):
        run(tmp_path / "clock", task, checkpoint_minutes=0, checkpoint_every=100)


def test_a_finished_run_has_nothing_to_do(tmp_path):
    _, first = run(tmp_path)
    task, again = run(tmp_path)
    assert task.steps_taken == 0
    assert again == first
    assert json.loads((tmp_path / "curves.json").read_text())["validation"]["step"] == [4, 8, 12]


def test_a_validation_that_is_no_number_stops(tmp_path):
    task = ToyTask()
    task.validate = lambda: {"error": float("nan")}
    with pytest.raises(DivergenceError, match="validation's error is nan after step 4"):
        run(tmp_path, task)


def test_other_settings_than_before_are_told(tmp_path, caplog):
    run(tmp_path, recipe={"batch": "4", "crop": "32"})
    run(tmp_path, recipe={"batch": "8", "crop": "32"})
    assert caplog.messages == ["goes on with other settings than it began with: batch 4 -> 8"]


def test_checkpoint_of_another_net(tmp_path):
    run(tmp_path)
    other = ToyTask()
    other.module = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"another net or recipe.*resume=false"):
        run(tmp_path, other)


def test_damaged_checkpoint(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"cannot be read.*resume=false"):
        run(tmp_path)


def test_best_is_restored_and_exported(tmp_path):
    task, outcome = run(tmp_path / "run")
    for tensor in task.module.state_dict().values():
        tensor.zero_()
    step, metrics = restore_best(task, tmp_path / "run")
    assert step == outcome.best_step
    task.module.eval()
    assert task.validate() == metrics
    assert restore_best(task, tmp_path) is None
    tensors, header = task.export()
    for half in (False, True):
        export.write(tmp_path / "net.safetensors", tensors, header, half=half)
        with safe_open(tmp_path / "net.safetensors", "pt") as file:
            assert file.metadata() == {"net": "toy"}
            assert file.get_tensor("0.weight").dtype == (torch.half if half else torch.float)
            assert file.get_tensor("1.num_batches_tracked").dtype == torch.int64


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        run(tmp_path / "file")
