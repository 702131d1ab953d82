"""A stream's plan, which may change between two frames, and where the stream stands.

Schedulers drive it. A frame is admitted with the plan of that moment and keeps it to its end, so
that no frame is done by two. The two halves of the state belong to the two steps; each step sees
the frames in order, in one thread at a time.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_pixels
from cbs_core.contract.types import RawFrame, Scores
from cbs_core.frame import cutout, pipeline, scoring
from cbs_core.frame.covers import covered
from cbs_core.frame.cutout import Exports
from cbs_core.frame.pipeline import Located, Result
from cbs_core.frame.plan import Plan
from cbs_core.machine.memory import check_memory, give_back
from cbs_core.machine.meter import Meter
from cbs_core.temporal.state import State


@dataclass(frozen=True, slots=True)
class Admitted:
    """A frame under way."""

    raw: RawFrame
    plan: Plan
    """By which all of it is done."""


class Stream:
    """Frames that follow each other.

    Args:
        plan: what is done with them.
        state: where the stream stands; None is its start.
        ahead: whether a frame of a new size has every net built, those of styles that it does not
            show too, so that none has to be built in the middle of the stream.
        exports: what the frames carry beside the composite, or in its place.
    """

    def __init__(
        self,
        plan: Plan,
        state: State | None = None,
        *,
        ahead: bool = False,
        exports: Exports | None = None,
    ) -> None:
        self.exports = exports or Exports()
        start = state or State()
        self._plan = plan
        self._scoring, self._styling = start.scoring, start.styling
        self.ahead = ahead
        self._fits: set[tuple[int, int, int]] = set()
        self._size: tuple[int, int] | None = None
        self._prepared: tuple[Plan, set[torch.Size]] = (plan, set())

    @property
    def plan(self) -> Plan:
        """What is done with the frames that are admitted from now on."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        if plan.device != self._plan.device:
            raise ConfigError(
                f"a stream on {self._plan.device} cannot go on with a plan on {plan.device}: begin "
                "another"
            )
        self._plan = plan

    @property
    def device(self) -> torch.device:
        """Where all of it runs."""
        return self._plan.device

    @property
    def state(self) -> State:
        """Where the stream stands; only between frames, while none is under way."""
        return State(self._scoring, self._styling)

    @state.setter
    def state(self, state: State) -> None:
        self._scoring, self._styling = state.scoring, state.styling

    def reset(self) -> None:
        """Forgets the state: the next frame is the first of another stream."""
        self.state = State()

    def check(self, height: int, width: int) -> None:
        """Refuses frames too large for the device before any work is done.

        What frames of another size left free in the heap goes back to the system.

        Raises:
            MemoryLimitError: with the memory needed and that there is.
        """
        if self._size not in (None, (height, width)):
            give_back()
        self._size = height, width
        cost = self._plan.bytes_per_pixel(height, width)
        if (height, width, cost) not in self._fits:
            check_memory(height, width, cost, self.device)
            self._fits.add((height, width, cost))

    def admit(self, raw: RawFrame) -> Admitted:
        """Takes a frame, to be done by the plan of now.

        Raises:
            MemoryLimitError: it is too large.
        """
        self.check(*raw.pixels.shape[:2])
        return Admitted(raw, self._plan)

    def upload(self, raw: RawFrame) -> Tensor:
        """Moves a frame to the device: float32 ``(1,3,H,W)`` in [0,1]."""
        return pipeline.upload(raw.pixels, self.device)

    def score(
        self,
        image: Tensor,
        plan: Plan,
        *,
        meter: Meter | None = None,
        ahead: Sequence[RawFrame] = (),
    ) -> Scores:
        """Segments ``(B,3,H,W)``, the first step; a frame of a new size waits for its nets.

        Args:
            image: the frame.
            plan: by which it was admitted.
            meter: times it.
            ahead: `RawFrame.ahead` of it.
        """
        if self.ahead:
            self._prepare(image, plan, meter)
        pictures = [partial(self.upload, raw) for raw in ahead[: plan.lookahead]]
        scores, self._scoring = scoring.score(
            image, plan, self._scoring, meter=meter, ahead=pictures
        )
        return scores

    def _prepare(self, image: Tensor, plan: Plan, meter: Meter | None) -> None:
        if self._prepared[0] is not plan:
            self._prepared = (plan, set())
        sizes = self._prepared[1]
        if image.shape[2:] not in sizes:
            with nullcontext() if meter is None else meter.stage("prepare", device=self.device):
                pipeline.prepare(image, plan)
            sizes.add(image.shape[2:])

    def restyle(
        self, image: Tensor, scores: Scores, plan: Plan, *, meter: Meter | None = None
    ) -> Result:
        """Runs all that comes after `score`, the second step."""
        result, self._styling = pipeline.restyle(
            image, scores, plan, self._styling, meter=meter, covers=self.exports.any
        )
        return result

    def locate(self, image: Tensor, scores: Scores, plan: Plan) -> Located:
        """The first part of `restyle`, for schedulers that launch its parts apart."""
        located, self._styling = pipeline.locate(image, scores, plan, self._styling)
        return located

    def paint(self, image: Tensor, located: Located, plan: Plan) -> dict[str, Tensor]:
        """The second part."""
        styled, self._styling = pipeline.paint(image, located, plan, self._styling)
        return styled

    def covered(self, image: Tensor, located: Located, plan: Plan) -> Tensor | None:
        """What comes before the last part, where something is exported: `Result.covers`."""
        if not self.exports.any:
            return None
        return covered(image, located.mattes, located.shown, plan, self._styling)

    def composite(
        self, image: Tensor, located: Located, styled: Mapping[str, Tensor], plan: Plan
    ) -> Tensor:
        """The last part."""
        out, self._styling = pipeline.composite(image, located, styled, plan, self._styling)
        return out

    def finished(self, raw: RawFrame, result: Result, pixels: Tensor | None = None) -> RawFrame:
        """Returns a frame as it leaves, on the host, with everything else from ``raw``.

        Args:
            raw: the source's.
            result: what was made of it; the device is waited for.
            pixels: its composite, uint8 ``(H,W,3)``, where that is on the host already.
        """
        mattes, alpha = raw.mattes, raw.alpha
        if result.covers is not None and self.exports.mattes:
            mattes = cutout.mattes(result.covers)
        if result.covers is not None and self.exports.cutout:
            pixels, cover = cutout.cut_out(self.upload(raw), result)
            alpha = cover if alpha is None else _both(cover, alpha.cpu())
        if pixels is None:
            pixels = to_pixels(result.image).cpu()
        return replace(raw, pixels=pixels, alpha=alpha, mattes=mattes, ahead=())

    def __call__(self, image: Tensor, *, meter: Meter | None = None) -> Result:
        """Restyles the next ``(B,3,H,W)``, both steps one after the other."""
        plan = self._plan
        scores = self.score(image, plan, meter=meter)
        return self.restyle(image, scores, plan, meter=meter)


def _both(cover: Tensor, alpha: Tensor) -> Tensor:
    """Returns the transparency of a picture that is transparent itself, uint8 ``(H,W)``."""
    return ((cover.int() * alpha.int() + 127) // 255).to(torch.uint8)
