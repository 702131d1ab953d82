"""The suite of schedulers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cbs_core.contract.interfaces import Closable, Scheduler
from cbs_core.contract.types import RawFrame
from cbs_core.frame.mattes import Regions
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import Whole
from cbs_core.machine.meter import Meter
from cbs_core.run.stream import Stream
from cbs_core.testing.helpers import raw_frame


class SchedulerSuite:
    """Conformance of a `Scheduler`: it must equal ``serial``, the oracle, frame for frame."""

    tolerance = 0
    """Levels of 255 by which a frame may differ from the oracle's, in float32."""

    def create(self, stream: Stream, meter: Meter) -> Scheduler:
        """Returns a new scheduler."""
        raise NotImplementedError("override create() to return your plugin")

    @staticmethod
    def device() -> torch.device:
        """Returns where the suite runs: CUDA where it is, unless a scheduler is for another."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def stream(self) -> Stream:
        """Returns a stream with a small plan of two routes: brightness classes, an inverting style.

        The second route is absent from every third frame of `drive`.
        """

        def segment(image: Tensor) -> Tensor:
            light = image.mean(1, keepdim=True)
            return torch.cat([0.4 - light, light - 0.6, torch.full_like(light, 0.05)], 1)

        routes = (Route(("dark",), "negative"), Route(("bright",), "negative", strength=0.5))
        regions = Regions(("dark", "bright", "rest"), [route.classes for route in routes])
        return Stream(
            Plan(
                segmenter=Stage(segment, "test segmenter"),
                stylings={routes[0].style: Whole(Stage(lambda image: 1 - image, "test styler"))},
                compositor=Stage(torch.lerp, "test compositor"),
                regions=regions.to(self.device()),
                routes=routes,
                device=self.device(),
            )
        )

    def drive(self, scheduler: Scheduler, count: int) -> list[RawFrame]:
        """Runs a clip through a scheduler."""
        done: list[RawFrame] = []
        for index in range(count):
            raw = raw_frame(48, 80, index)
            if index % 3 == 2:
                raw = replace(raw, pixels=raw.pixels // 2)
            scheduler.submit(raw)
            done.extend(scheduler.ready())
        done.extend(scheduler.drain())
        if isinstance(scheduler, Closable):
            scheduler.close()
        return done

    @pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
    def test_equals_serial(self, count: int) -> None:
        """Every frame comes once, in order, with its time, and equals the oracle's."""
        from cbs_core.run.schedulers.serial import SerialScheduler

        want = self.drive(SerialScheduler(self.stream(), meter=Meter()), count)
        have = self.drive(self.create(self.stream(), Meter()), count)
        assert [(f.index, f.pts) for f in have] == [(f.index, f.pts) for f in want]
        for ours, oracle in zip(have, want, strict=True):
            difference = np.abs(ours.pixels.numpy().astype(int) - oracle.pixels.numpy().astype(int))
            assert difference.max() <= self.tolerance
