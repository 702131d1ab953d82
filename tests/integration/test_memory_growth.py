"""A long clip must not fill the memory."""

from pathlib import Path

import psutil
import pytest
import torch
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.pan import PanSource

from cbs_core.machine.meter import Meter
from cbs_core.run import workshop
from cbs_core.run.runner import Runner
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.run.stream import Stream
from cbs_core.words import vocabularies

FRAMES = 600
WARM = 100
A_FRAME = 17 * 2**10
"""Bytes, fewer than a frame of this clip has: where frames were kept, it would be more."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_hundred_frames_do_not_grow(tmp_path: Path) -> None:
    torch.save(DABNet(19).state_dict(), tmp_path / "dabnet.pth")
    torch.save(TransformerNet(8).state_dict(), tmp_path / "style.pth")
    config = {
        "segmenter": {"name": "dabnet", "weights": str(tmp_path / "dabnet.pth")},
        "styler": {"name": "johnson", "weights": str(tmp_path / "style.pth")},
        "compositor": {"name": "feather"},
        "accelerator": {"name": "eager"},
        "matte": "argmax",
        "routes": list(vocabularies.get("cityscapes")),
    }
    stream = Stream(workshop.plan(config, device=torch.device("cpu"), dtype=torch.float32))
    meter = Meter()
    resident: dict[int, int] = {}

    def sample() -> None:
        if meter.frames_out % WARM == 0:
            resident[meter.frames_out] = psutil.Process().memory_info().rss

    source = PanSource("sample:cat", frames=FRAMES, width=96, height=64)
    with source:
        Runner(
            source,
            SerialScheduler(stream, meter=meter),
            VideoSink(str(tmp_path / "out.mp4")),
            meter=meter,
            progress=sample,
        ).run()
    assert meter.frames_out == FRAMES
    assert max(resident.values()) - resident[WARM] < A_FRAME * (FRAMES - WARM)
