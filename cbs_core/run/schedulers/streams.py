"""On CUDA: every stage on a stream of its own, so that neighbouring frames overlap.

    upload ─► segment ─► matte ─► style ─► composite ─► download      each on its stream
                     frame n      │ frame n - 1                └─► frame n - 2 leaves

Each stage waits, on the device, for the event that ends what it reads. Which styles are due is for
the host to know: a style whose classes are absent is not run, and a window must be planned. So the
host asks one frame behind: frame n is uploaded and segmented first, then the mattes of frame n - 1
are waited for, and its styles launched. By then the device has frame n's segmentation and frame
n - 2's styles to work on, and never idles for the host. The alternative, to launch every style
unasked, would pay for styles that are not seen and could not be equal to `serial`.

The other wait is for the download of the frame whose slot is due. Tensors cross streams without
`record_stream`, because a slot keeps all of its frame's until then: none is freed, and so none
used anew, while another stream still reads it. Pinned memory comes from torch's caching host
allocator, which uses it again.

Whether kernels do run side by side is the device's business: saturating convolutions follow one
another. `Meter.overlap` tells.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor, cuda

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_pixels
from cbs_core.contract.types import RawFrame, Scores
from cbs_core.frame.pipeline import Result
from cbs_core.frame.plan import Plan
from cbs_core.machine.meter import Meter
from cbs_core.run.schedulers.serial import Observe
from cbs_core.run.stream import Stream

DEPTH = 3
"""Slots: a frame segmented, one styled, one downloaded."""

STAGES = ("upload", "segment", "matte", "style", "composite", "download")


class _Slot:
    """A frame under way: its events, used again by the next frame here, and all its tensors."""

    def __init__(self) -> None:
        self.begun = {stage: cuda.Event(enable_timing=True) for stage in STAGES}
        self.ended = {stage: cuda.Event(enable_timing=True) for stage in STAGES}
        self.clear()

    def clear(self) -> None:
        """Lets the frame's tensors go."""
        self.raw: RawFrame | None = None
        self.plan: Plan | None = None
        self.image: Tensor | None = None
        self.scores: Scores | None = None
        self.result: Result | None = None
        self.packed: Tensor | None = None
        self.pixels: Tensor | None = None


class StreamsScheduler:
    """A ring of `DEPTH` slots over long-lived streams (`Scheduler`, `Closable`).

    Args:
        stream: what the frames are of.
        meter: given each stage's time, by events on its stream.
        observe: called with each frame and its result, once the device is done with it.

    Raises:
        ConfigError: the stream is not on a CUDA device.
    """

    def __init__(self, stream: Stream, *, meter: Meter, observe: Observe | None = None) -> None:
        if stream.device.type != "cuda":
            raise ConfigError(
                f"scheduler=streams is for CUDA devices, not for {stream.device}: say "
                "scheduler=pipeline or scheduler=auto"
            )
        self._stream = stream
        self._meter = meter
        self._observe = observe
        self._streams = {stage: cuda.Stream(stream.device) for stage in STAGES}
        self._free = deque(_Slot() for _ in range(DEPTH))
        self._segmented: deque[_Slot] = deque()
        self._launched: deque[_Slot] = deque()
        self._done: deque[RawFrame] = deque()
        self._asked = False  # since the last frame came
        cuda.synchronize(stream.device)  # the weights were moved on the default stream

    def submit(self, raw: RawFrame, /) -> None:
        """Launches a frame's upload and segmentation, and all the rest of the one before it."""
        self._asked = False
        if not self._free:
            self._finish()
        slot = self._free.popleft()
        self._begin(slot, raw)
        if self._segmented:
            self._launch()
        self._segmented.append(slot)

    def ready(self) -> Iterator[RawFrame]:
        """Yields what is done; asked again before a frame came, launches the rest of the last."""
        idle, self._asked = self._asked, True
        if idle and self._segmented and self._segmented[0].ended["segment"].query():
            self._launch()
        while self._launched and self._launched[0].ended["download"].query():
            self._finish()
        while self._done:
            yield self._done.popleft()

    def drain(self) -> Iterator[RawFrame]:
        """Yields what is under way, waiting for it."""
        if self._segmented:
            self._launch()
        while self._launched:
            self._finish()
        while self._done:
            yield self._done.popleft()

    def close(self) -> None:
        """Lets everything under way end, and go."""
        with suppress(torch.AcceleratorError):  # of a device that is lost, told already
            cuda.synchronize(self._stream.device)
        for slots in (self._segmented, self._launched):
            while slots:
                slot = slots.popleft()
                slot.clear()
                self._free.append(slot)

    @contextmanager
    def _on(self, slot: _Slot, stage: str, *after: str) -> Iterator[None]:
        """Launches a block on the stage's stream, behind other stages of the frame."""
        stream = self._streams[stage]
        for earlier in after:
            stream.wait_event(slot.ended[earlier])
        with cuda.stream(stream):
            slot.begun[stage].record()
            yield
            slot.ended[stage].record()

    def _begin(self, slot: _Slot, raw: RawFrame) -> None:
        frame = self._stream.admit(raw)
        slot.raw, slot.plan = raw, frame.plan
        if raw.pixels.is_cuda:  # on the stream of whoever made it
            self._streams["upload"].wait_stream(cuda.current_stream(self._stream.device))
            slot.pixels = raw.pixels
        else:
            slot.pixels = raw.pixels.pin_memory()
        with self._on(slot, "upload"):
            slot.image = self._stream.upload(replace(raw, pixels=slot.pixels))
        with self._on(slot, "segment", "upload"):
            slot.scores = self._stream.score(slot.image, frame.plan, ahead=frame.raw.ahead)

    def _launch(self) -> None:
        slot = self._segmented.popleft()
        image, scores, plan = slot.image, slot.scores, slot.plan
        assert image is not None
        assert scores is not None
        assert plan is not None
        with self._on(slot, "matte", "segment"):
            located = self._stream.locate(image, scores, plan)
        with self._on(slot, "style", "matte"):
            styled = self._stream.paint(image, located, plan)
        with self._on(slot, "composite", "style"):
            covers = self._stream.covered(image, located, plan)
            out = self._stream.composite(image, located, styled, plan)
        slot.result = Result(
            out, scores.logits, located.mattes, styled, located.shown, plan, covers
        )
        with self._on(slot, "download", "composite"):
            slot.packed = to_pixels(out)
            slot.pixels = _pinned_like(slot.packed)
            slot.pixels.copy_(slot.packed, non_blocking=True)
        self._launched.append(slot)

    def _finish(self) -> None:
        slot = self._launched.popleft()
        assert slot.raw is not None
        assert slot.result is not None
        assert slot.pixels is not None
        slot.ended["download"].synchronize()
        for stage in STAGES:
            self._meter.add(stage, slot.begun[stage].elapsed_time(slot.ended[stage]))
        if self._observe is not None:
            self._observe(slot.raw, slot.result)
        self._done.append(self._stream.finished(slot.raw, slot.result, slot.pixels))
        slot.clear()
        self._free.append(slot)


def _pinned_like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
