"""The training loop: runs a task to its end, or until it is stopped, and goes on exactly.

Before step i every generator is seeded from (seed, i), and the data of step i is a function of the
two as well. A run that was killed and goes on from its last checkpoint therefore computes what an
uninterrupted one computes: on a CPU with as many threads, bit for bit.
"""

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, TypeVar

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from cbs_core.contract.task import Task
from cbs_core.datasets import samples
from cbs_core.datasets.chance import mixed
from cbs_core.machine import signals
from cbs_core.machine.files import replace
from cbs_core.training import checkpoint, curves
from cbs_core.training.checkpoint import BEST, LAST, Progress
from cbs_core.training.display import display
from cbs_core.training.history import DivergenceError, History

T = TypeVar("T")

log = logging.getLogger("cbs")

End = Literal["steps", "minutes", "interrupted"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a task is run; what changes the result is in `recipe` or the task's own."""

    steps: int
    """In all, those before a resumption included."""

    seed: int = 0
    dtype: torch.dtype = torch.float32
    """Of autocast; float16 with scaled gradients."""

    minutes: float | None = None
    """Of this run, after which it stops with a checkpoint; None for no limit."""

    channels_last: bool = True
    compile: bool = False
    workers: int = 2
    """Threads that prepare batches."""

    clip: float | None = None
    """Largest norm of the gradient; longer ones are shortened to it. None for any."""

    divergence: float | None = 10.0
    """How many times its running median the loss may be; None for any."""

    checkpoint_every: int = 500
    """Steps."""

    checkpoint_minutes: float = 10.0
    validate_every: int = 500
    """Steps; 0 for the end only."""

    preview_every: int = 500
    """Steps; 0 for none."""

    recipe: Mapping[str, str] = field(default_factory=dict)
    """What the run was started with, kept in its checkpoints."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps done in all."""

    end: End
    metrics: Mapping[str, float]
    """Of the last validation; empty where there was none."""

    best_step: int
    """After which step `Task.criterion` was best; 0 where it was not measured."""


def train(
    task: Task, settings: Settings, folder: Path, *, device: torch.device, console: Console
) -> Outcome:
    """Trains until the steps or minutes are over, or Ctrl-C; goes on from ``folder/last.pt``.

    Writes ``last.pt``, ``best.pt``, ``curves.json``, ``curves.png`` and ``previews/`` into the
    folder. The module ends as the last step left it.

    Args:
        task: what is trained.
        settings: how.
        folder: of this run.
        device: where.
        console: shows progress, unless it is quiet.

    Raises:
        DivergenceError: the loss, or a weight, is no number, or the loss left all bounds.
        CbsError: the data cannot be read, or a file not written.
    """
    with interrupts() as interrupted:
        return _Run(task, settings, folder, device, console).go(interrupted)


class _Contiguous:
    """Mixed into a convolution by `guard`."""

    # Compiled code would choose the layout itself.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, pictures: Tensor) -> Tensor:
        out: Tensor = super().forward(pictures.contiguous())  # type: ignore[misc]
        return out


def guard(module: nn.Module) -> None:
    """Keeps oneDNN from one of its kernels, in a module that a CPU trains in bfloat16.

    In channels_last its gradient of a dilated depth-wise convolution's weights is whatever was in
    memory, from widths above 32 (torch 2.14 with AVX-512 BF16: errors of 1e35, now and then the
    process dies). Where pictures and weights are contiguous, another kernel computes it.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.groups > 1 and max(part.dilation) > 1:
            # `contiguous` would leave them: of one channel a filter, the strides may be those of
            # channels_last too.
            part.weight.data = part.weight.data.clone(memory_format=torch.contiguous_format)
            kind = type(part)
            part.__class__ = type(kind.__name__, (_Contiguous, kind), {})


class _Run:
    """One call of `train`."""

    def __init__(
        self, task: Task, settings: Settings, folder: Path, device: torch.device, console: Console
    ) -> None:
        self.task = task
        self.settings = settings
        self.folder = folder
        self.device = device
        self.console = console
        layout = torch.channels_last if settings.channels_last else torch.preserve_format
        task.module.to(device).to(memory_format=layout)
        if device.type == "cpu" and settings.dtype == torch.bfloat16:
            guard(task.module)
        task.prepare(device)
        scaled = settings.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.progress = Progress()
        if (folder / LAST).is_file():
            content = checkpoint.load(folder / LAST)
            self._compare(content["settings"])
            self.progress = checkpoint.restore(content, task, self.scaler)
        self.losses = torch.compile(task.step) if settings.compile else task.step
        self.saved = self.progress.step
        self.saved_at = self.started = time.monotonic()
        self.measured, self.metrics = self.progress.history.last("validation") or (-1, {})

    def go(self, interrupted: Callable[[], bool]) -> Outcome:
        settings, progress = self.settings, self.progress
        end: End = "steps"
        batches = samples.prefetch(
            self._batch, range(progress.step, settings.steps), workers=settings.workers
        )
        with (
            closing(batches),
            display(self.console, first=progress.step, steps=settings.steps) as tick,
        ):
            for batch in batches:
                losses = self._step(batch)
                tick(progress.step, losses)
                if interrupted():
                    end = "interrupted"
                elif self._minutes(self.started) >= (settings.minutes or float("inf")):
                    end = "minutes"
                if end != "steps":
                    break
                self._now_and_then()
        if end != "interrupted":
            self._validate()
        self._save()
        return Outcome(progress.step, end, self.metrics, progress.best_step)

    def _compare(self, before: Mapping[str, str]) -> None:
        now = self.settings.recipe
        changed = [key for key in {**now, **before} if now.get(key) != before.get(key)]
        if changed:
            told = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in changed)
            log.warning("goes on with other settings than it began with: %s", told)

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        batch = self.task.batch(step, samples.generator(self.settings.seed, step))
        # Only from pinned memory a copy runs beside the computation.
        return tuple(t.pin_memory() for t in batch) if self.device.type == "cuda" else batch

    def _step(self, batch: tuple[Tensor, ...]) -> dict[str, float]:
        task, step = self.task, self.progress.step
        # Dropout and the like draw from the global generators.
        torch.manual_seed(mixed(self.settings.seed, step, 1))
        task.module.train()
        task.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = self.losses(*(t.to(self.device, non_blocking=True) for t in batch))
        # One transfer for all of them: each would wait for the device.
        stacked = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
        values = dict(zip(losses, stacked, strict=True))
        try:
            self.progress.history.check(step + 1, values["loss"], factor=self.settings.divergence)
        except DivergenceError as error:
            raise self._diverged(str(error)) from None
        self.scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
        if self.settings.clip is not None:
            self.scaler.unscale_(task.optimizer)
            nn.utils.clip_grad_norm_(task.module.parameters(), self.settings.clip)
        rate = float(task.optimizer.param_groups[0]["lr"])
        self.scaler.step(task.optimizer)
        self.scaler.update()
        with warnings.catch_warnings():
            # It warns where the scaler left out the optimizer's first step, which is as it should.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)`")
            task.scheduler.step()
        self.progress.step += 1
        self.progress.history.add("training", self.progress.step, {**values, "learning_rate": rate})
        return values

    def _now_and_then(self) -> None:
        settings, step = self.settings, self.progress.step
        if settings.preview_every and step % settings.preview_every == 0:
            self._preview()
        if settings.validate_every and step % settings.validate_every == 0:
            self._validate()
        late = self._minutes(self.saved_at) >= settings.checkpoint_minutes
        if step % settings.checkpoint_every == 0 or late:
            self._save()

    def _validate(self) -> None:
        progress, task = self.progress, self.task
        if self.measured == progress.step:
            return
        self.metrics = dict(self._evaluated(task.validate))
        value = self.metrics[task.criterion]
        if not math.isfinite(value):
            raise self._diverged(
                f"the validation's {task.criterion} is {value} after step {progress.step}"
            )
        self.measured = progress.step
        progress.history.add("validation", progress.step, self.metrics)
        figures = " · ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        self.console.print(f"step {progress.step}: validation {figures}", markup=False)
        sign = 1 if task.greater_is_better else -1
        if progress.best is None or sign * value > sign * progress.best:
            progress.best, progress.best_step = value, progress.step
            self._write(BEST)

    def _preview(self) -> None:
        picture = self._evaluated(self.task.preview)
        if picture is not None:
            image = Image.fromarray(picture.cpu().numpy())
            path = self.folder / "previews" / f"{self.progress.step:06}.png"
            replace(path, lambda file: image.save(file, format="png"))

    def _save(self) -> None:
        self._write(LAST)
        self.saved, self.saved_at = self.progress.step, time.monotonic()
        curves.write(self.progress.history, self.folder)

    def _write(self, name: str) -> None:
        for key, tensor in self.task.module.state_dict().items():
            if not tensor.isfinite().all():
                raise self._diverged(f"after step {self.progress.step}, {key} holds no numbers")
        settings, path = self.settings, self.folder / name
        checkpoint.save(path, self.task, self.progress, self.scaler, settings.recipe)

    def _diverged(self, reason: str) -> DivergenceError:
        last = self.folder / LAST
        good = f"the last good checkpoint is of step {self.saved}, '{last}'"
        return DivergenceError(
            f"training stopped: {reason}; {good if last.is_file() else 'no checkpoint yet'}: "
            "go on from good weights (init=FILE), or start anew, with a lower learning rate"
        )

    def _autocast(self) -> torch.autocast:
        dtype = self.settings.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def _evaluated(self, call: Callable[[], T]) -> T:
        self.task.module.eval()
        with torch.no_grad(), self._autocast():
            return call()

    @staticmethod
    def _minutes(since: float) -> float:
        return (time.monotonic() - since) / 60


def restore_best(task: Task, folder: Path) -> tuple[int, dict[str, float]] | None:
    """Puts the best checkpoint's weights into the task's module.

    Returns:
        Its step and the figures of its validation; None where there is no such checkpoint.

    Raises:
        WeightsError: the checkpoint is damaged.
    """
    if not (folder / BEST).is_file():
        return None
    content = checkpoint.load(folder / BEST)
    task.module.load_state_dict(content["model"])
    return History(content["history"]).last("validation")


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Lets the step in progress end after Ctrl-C or its like; the second one raises at once.

    Yields:
        A function that tells whether there was one.
    """
    pressed, presses = threading.Event(), signals.Presses()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(number: int, _frame: FrameType | None) -> None:
        if not presses.counts(number):
            return
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signals.listen(press)
    try:
        yield pressed.is_set
    finally:
        signals.restore(before)
