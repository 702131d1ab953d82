"""A source or a device lost in mid-run: one line, exit code 2, and a playable file so far."""

import json
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor

from cbs_core.choose.registry import sources
from cbs_core.contract.errors import PluginContractError, SourceError
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.run.stream import Stream
from tests.integration.command import ROUTES, WAVE, Ran
from tests.media import frames_in, picture

Command = Callable[..., Ran]

SCHEDULERS = ["serial", "pipeline", "auto"]


class Camera:
    """Gives seven frames, and then breaks off."""

    info = StreamInfo(64, 48, Fraction(25), name="camera")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __iter__(self) -> Iterator[RawFrame]:
        for index in range(7):
            yield RawFrame(torch.from_numpy(picture(index)), index, Fraction(index, 25))
        raise OSError("No such device: unplugged")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_camera_that_is_unplugged(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    monkeypatch.setattr(sources, "_registered", {"webcam": Camera})
    threads = set(threading.enumerate())
    ran = command("source=webcam", "output=out.mp4", WAVE, ROUTES, f"scheduler={scheduler}")
    assert ran.code == 2
    assert ran.err == (
        "cbs-run: error: source 'camera' (Camera) of test_lost failed (OSError: No such device: "
        "unplugged); out.mp4 is closed, with 7 frames\n"
    )
    assert frames_in(place / "out.mp4") == 7
    report = json.loads((place / "out.report.json").read_text())
    assert (report["frames"]["out"], report["interrupted"]) == (7, True)
    assert set(threading.enumerate()) <= threads
    assert not list(place.glob(".*cbs-*"))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_device_that_fails(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    real = Stream.upload

    def upload(stream: Stream, raw: RawFrame) -> Tensor:
        if raw.index == 10:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel")
        return real(stream, raw)

    monkeypatch.setattr(Stream, "upload", upload)
    ran = command(
        *("input=sample:cat", "source=pan", "source.width=64", "source.height=48"),
        *("output=out.mp4", WAVE, ROUTES, f"scheduler={scheduler}"),
    )
    assert ran.code == 2
    assert ran.err.startswith("cbs-run: error: the device failed (CUDA error: unspecified launch")
    assert ran.err.endswith("; out.mp4 is closed, with 10 frames\n")
    assert ran.err.count("\n") == 1
    assert frames_in(place / "out.mp4") == 10


@pytest.mark.parametrize("part", ["source", "pipeline"])
def test_any_other_error_in_the_middle_keeps_what_is_done(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    class Failing(Camera):
        def __iter__(self) -> Iterator[RawFrame]:
            for index in range(7 if part == "source" else 20):
                yield RawFrame(torch.from_numpy(picture(index)), index, Fraction(index, 25))
            raise SourceError("the recording is damaged")

    real = Stream.upload

    def upload(stream: Stream, raw: RawFrame) -> Tensor:
        if part == "pipeline" and raw.index == 7:
            raise PluginContractError("the styler is damaged")
        return real(stream, raw)

    monkeypatch.setattr(sources, "_registered", {"webcam": Failing})
    monkeypatch.setattr(Stream, "upload", upload)
    ran = command("source=webcam", "output=out.mp4", WAVE, ROUTES, "scheduler=pipeline")
    assert ran.code == 2
    assert "is damaged" in ran.err
    assert frames_in(place / "out.mp4") == 7
    assert not list(place.glob(".cbs-*"))


def test_a_camera_that_gives_nothing_leaves_nothing(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(Camera):
        def __iter__(self) -> Iterator[RawFrame]:
            raise OSError("No such device")

    monkeypatch.setattr(sources, "_registered", {"webcam": Dead})
    ran = command("source=webcam", "output=out.mp4", WAVE, ROUTES, "hydra.run.dir=run")
    assert ran.code == 2
    assert (
        ran.err
        == "cbs-run: error: source 'camera' (Dead) of test_lost failed (OSError: No such device)\n"
    )
    assert not (place / "out.mp4").exists()
