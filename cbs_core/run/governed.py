"""A stream whose frame rate is held: what the governor chooses, built beside it and taken."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from itertools import repeat
from typing import TypeAlias

from torch import Tensor

from cbs_core.choose import registry
from cbs_core.contract.errors import error_words
from cbs_core.frame import pipeline
from cbs_core.frame.enlarging import Enlarged
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.sizes import Auto, Fit, Scale, size_of
from cbs_core.frame.styling import Styling
from cbs_core.machine.meter import Meter
from cbs_core.run.governor import Governor, Knob
from cbs_core.run.settings import Look
from cbs_core.run.stream import Stream
from cbs_core.run.workshop import Workshop

SEGMENT = ((1.0, 1), (0.75, 1), (0.5, 1), (0.5, 2), (0.5, 3), (0.35, 3), (0.35, 5))
"""Of segmentation, best first: the share of the sides that is segmented, and every which frame."""

SMALLEST = 64
"""Pixels that the shorter side of what is segmented or painted keeps."""

STYLE = (1.0, 0.75, 0.5, 0.35)
"""Of styles, best first: the share of the sides that is painted."""

HALOS = ((32, 0.85), (16, 0.75))
"""Of a styler that restyles windows: the halo, and what part of its time it takes: a guess."""

NOT_THE_PLAN = ("decode", "encode", "prepare")
"""Stages that lie beside the frame's way, or are no frame's."""

HISTORY = 500
"""Changes that are kept, the newest: a stream may go on for weeks."""

log = logging.getLogger("cbs")


class Governed:
    """Holds a stream's frame rate (`cbs_core.run.governor`); called after each frame.

    Args:
        stream: whose plan is changed, between two frames.
        workshop: builds plans.
        wanted: tells what is wanted now, at full quality; at first, what the plan was built from.
        meter: of the stages' times; its ``chosen`` tells what is lowered.
        target_fps: frames a second that are to be held.
        size: the frames' height and width.
        clock: seconds.
    """

    def __init__(
        self,
        stream: Stream,
        workshop: Workshop,
        wanted: Callable[[], Look],
        *,
        meter: Meter,
        target_fps: float,
        size: tuple[int, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._workshop = workshop
        self._wanted = wanted
        self._look = look = wanted()
        self._meter = meter
        self._clock = clock
        self.target_fps = target_fps
        self.size = size
        self._full = stream.plan.segment_size
        self._size = self._full(*size) if isinstance(self._full, Fit) else self._full
        self._segment = _segment_levels(self._size, look.segment_every, *size)
        self._painted = min(map(_share_of, stream.plan.stylings.values(), repeat(size)), default=1)
        side = min(size) * self._painted
        self._style = [one for one in STYLE if one == 1 or side * one >= SMALLEST]
        knobs = {
            "segment": Knob(
                "segment",
                tuple(share**2 * look.segment_every / every for share, every in self._segment),
            ),
            "style": Knob("style", tuple(share**2 for share in self._style)),
        }
        self._halos: list[tuple[int | None, float]] = [(None, 1.0)]
        if look.extent.masked and registry.stylers.takes(look.styler.name, "halo"):
            base = look.styler.params.get("halo")
            self._halos += [h for h in HALOS if not isinstance(base, int) or h[0] < base]
            knobs["halo"] = Knob("style", tuple(cost for _, cost in self._halos))
        self._governor = Governor(1 / target_fps, knobs)
        self._begun: float | None = None
        self._ordered: tuple[Future[Plan], Look] | None = None
        self.changes = 0
        """How many took effect."""

        self.history: deque[dict[str, object]] = deque(maxlen=HISTORY)
        """The last of them: the seconds since the first frame, and what is set from then on."""

    def __call__(self, pixels: Tensor) -> None:
        """Notes that a frame, uint8 ``(H,W,3)``, is done; takes a plan that is ready, or orders."""
        now = self._clock()
        if self._begun is None:
            self._begun = now
        if self._ordered is not None:
            self._take(now, pixels)
        elif self._governor.saw(now, self._seconds()):
            self._order(pixels)

    def _seconds(self) -> dict[str, float]:
        return {
            name: ms / 1e3 for name, ms in self._meter.totals().items() if name not in NOT_THE_PLAN
        }

    def _order(self, pixels: Tensor) -> None:
        look = self.lowered(self._wanted())
        image = pipeline.upload(pixels, self._stream.device)
        self._ordered = self._workshop.order(look, image), look

    def _take(self, now: float, pixels: Tensor) -> None:
        assert self._ordered is not None
        done, look = self._ordered
        if not done.done():
            return
        self._ordered = None
        if (error := done.exception()) is not None:
            log.warning("%s", error_words(error) or type(error).__name__)
            self._governor.settled(now)
            return
        if self.lowered(self._wanted()) == look:
            self._stream.plan = done.result()
        if self.lowered(self._wanted()) != look:  # another style was chosen meanwhile, or just now
            self._order(pixels)
            return
        self._governor.settled(now)
        assert self._begun is not None
        self._meter.chosen = self.line()
        self.changes += 1
        self.history.append({"seconds": round(now - self._begun, 2), **self.chosen()})

    def chosen(self) -> dict[str, object]:
        """Returns what is set now, by the configuration's keys."""
        share, every = self._segment[self._governor.levels["segment"]]
        found: dict[str, object] = {
            "segment_size": self._look.segment_size if share == 1 else _scaled(self._size, share),
            "segment_every": every,
            "style_size": self._style_size(self._look),
        }
        if len(self._halos) > 1:
            halo = self._halos[self._governor.levels["halo"]][0]
            found["halo"] = self._look.styler.params.get("halo") if halo is None else halo
        return found

    def _style_size(self, look: Look) -> Scale | Auto:
        share = self._style[self._governor.levels["style"]]
        return look.style_size if share == 1 else round(self._painted * share, 3)

    def line(self) -> str:
        """Returns what is lowered, for people; empty at full quality."""
        if not any(self._governor.levels.values()):
            return ""
        told = " ".join(f"{key}={value}" for key, value in self.chosen().items())
        return f"{told} to hold {self.target_fps:g} FPS"

    def report(self) -> Mapping[str, object]:
        """Returns what was chosen, and when."""
        return {
            "target_fps": self.target_fps,
            "now": self.chosen(),
            "changed": self.changes,
            "changes": list(self.history),
        }

    def lowered(self, look: Look) -> Look:
        """Returns it as it is to be now: whoever builds a plan for the stream builds it by this.

        Args:
            look: at full quality, with routes that were read already; of the same
                ``segment_size``, ``segment_every``, ``style_size`` and extent as the first.
        """
        share, every = self._segment[self._governor.levels["segment"]]
        halo = self._halos[self._governor.levels.get("halo", 0)][0]
        routes = look.routes
        if halo is not None:
            assert isinstance(routes, tuple)
            routes = tuple(_with_halo(route, halo) for route in routes)
        return replace(
            look,
            routes=routes,
            segment_size=look.segment_size if share == 1 else _scaled(self._size, share),
            segment_every=every,
            style_size=self._style_size(look),
        )


def _share_of(styling: Styling, size: tuple[int, int]) -> float:
    """Returns the share of a frame's sides that a style is painted at."""
    if not isinstance(styling, Enlarged):
        return 1.0
    return math.sqrt(math.prod(size_of(styling.scale, *size)) / math.prod(size))


def _with_halo(route: Route, most: int) -> Route:
    """Returns it with a halo no larger than that, where its styler has one."""
    if not registry.stylers.takes(route.styler, "halo"):
        return route
    own = route.params.get("halo")
    halo = min(own, most) if isinstance(own, int) else most
    return replace(route, params={**route.params, "halo": halo})


Size: TypeAlias = float | tuple[int, int] | None
"""Of the picture that is segmented, whatever the segmenter is good at."""


def _scaled(size: Size, share: float) -> Size:
    """Returns a smaller ``segment_size``."""
    if isinstance(size, tuple):
        return max(round(size[0] * share), 1), max(round(size[1] * share), 1)
    return (1.0 if size is None else size) * share


def _segment_levels(size: Size, least: int, height: int, width: int) -> list[tuple[float, int]]:
    """Returns the levels that there are for a picture of this size, every ``least`` at most."""
    side: float = min(height, width)
    if size is not None:
        side = min(size) if isinstance(size, tuple) else side * size
    found: list[tuple[float, int]] = []
    for share, every in SEGMENT:
        level = (share, max(every, least))
        if level not in found and (share == 1 or side * share >= SMALLEST):
            found.append(level)
    return found
