"""``select=`` from the command line to the frames: one object changes, and always the same one."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.sources.pan import PanSource
from PIL import Image
from torch import Tensor

from cbs_core.choose import registry
from cbs_core.contract.types import RawFrame
from cbs_core.machine.meter import Meter
from cbs_core.run import workshop
from cbs_core.run.schedulers.serial import SerialScheduler
from cbs_core.run.stream import Stream
from tests.integration.command import Ran
from tests.shapes import NAMES, draw, texture

STILL = (120, 200)
"""H and W of a still with two discs."""

DISCS = ((1, 60, 55, 14), (1, 125, 65, 12))
Command = Callable[..., Ran]

FRAMES = 40
WINDOW = {"frames": FRAMES, "width": 160, "height": 96}


class Warm:
    """Sees warm colours as ``disc``."""

    classes = ("background", "disc")

    def __call__(self, image: Tensor) -> Tensor:
        disc = image[:, :1] - image[:, 2:] - 0.36
        return 100 * torch.cat([-disc, disc], 1)


class Inverse:
    def __call__(self, image: Tensor) -> Tensor:
        return 1 - image


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch, mask_rcnn: torch.nn.Module) -> None:
    from cbs_plugins.segmenters.maskrcnn import DetectionSegmenter

    for kind, name, target in (
        (registry.segmenters, "warm", Warm),
        (registry.segmenters, "tiny", lambda: DetectionSegmenter(mask_rcnn, NAMES)),
        (registry.stylers, "inverse", Inverse),
    ):
        monkeypatch.setitem(kind._registered, name, target)


@pytest.fixture
def still(tmp_path: Path) -> tuple[Path, Tensor]:
    """The still's file, and the masks of its discs."""
    image, masks = draw(texture(*STILL, seed=1), DISCS)
    path = tmp_path / "still.png"
    Image.fromarray(image.mul(255).round().byte().permute(1, 2, 0).numpy()).save(path)
    return path, masks


def config(**changes: object) -> dict[str, object]:
    return {
        "segmenter": {"name": "warm"},
        "styler": {"name": "inverse"},
        "compositor": {"name": "hard"},
        "accelerator": {"name": "eager"},
        "routes": ["disc"],
        "matte": "argmax",
    } | changes


def restyle(path: Path, **changes: object) -> tuple[list[tuple[RawFrame, Tensor]], PanSource, int]:
    """Each frame with the pixels that changed, the source, and the frames without the object."""
    plan = workshop.plan(config(**changes), device=torch.device("cpu"), dtype=torch.float32)
    stream = Stream(plan)
    scheduler = SerialScheduler(stream, meter=Meter())
    with PanSource(str(path), **WINDOW) as source:
        frames = []
        for raw in source:
            scheduler.submit(raw)
            (done,) = scheduler.ready()
            frames.append((raw, (done.pixels != raw.pixels).any(2)))
    return frames, source, stream.state.styling.followed.frames_without


def windows(source: PanSource, masks: Tensor) -> list[Tensor]:
    """Where the pan's exact path shows each disc in each frame, ``(N,H,W)``."""
    shown = []
    for index in range(FRAMES):
        x, y = source.offset(index)
        shown.append(masks[:, y : y + source.info.height, x : x + source.info.width])
    return shown


@pytest.mark.parametrize("chosen", [0, 1])
@pytest.mark.parametrize("matte", ["argmax", "soft"])
def test_only_the_chosen_object_changes_across_a_pan(
    still: tuple[Path, Tensor], chosen: int, matte: str
) -> None:
    path, masks = still
    _, x, y, _ = DISCS[chosen]
    frames, source, without = restyle(path, select=f"{x},{y}", matte=matte)
    assert len({source.offset(index) for index in range(FRAMES)}) > 30, "the window moves"
    for (_, changed), shown in zip(frames, windows(source, masks), strict=True):
        assert torch.equal(changed, shown[chosen])
    assert without == 0


def test_all_changes_both(still: tuple[Path, Tensor]) -> None:
    path, masks = still
    frames, source, _ = restyle(path, select="all")
    for (_, changed), shown in zip(frames, windows(source, masks), strict=True):
        assert torch.equal(changed, shown.any(0))


@pytest.mark.parametrize(("select", "chosen"), [("largest", 0), (2, 1)])
def test_an_objects_number_is_its_size_where_it_was_chosen(
    still: tuple[Path, Tensor], select: object, chosen: int
) -> None:
    path, masks = still
    frames, source, _ = restyle(path, select=select)
    for (_, changed), shown in zip(frames, windows(source, masks), strict=True):
        assert torch.equal(changed, shown[chosen])


@pytest.mark.parametrize("chosen", [0, 1])
def test_mask_rcnn_follows_the_chosen_disc(still: tuple[Path, Tensor], chosen: int) -> None:
    path, masks = still
    _, x, y, radius = DISCS[chosen]
    frames, source, without = restyle(path, select=[x, y], segmenter={"name": "tiny"})
    assert without <= FRAMES // 10
    for (_, changed), shown in zip(frames, windows(source, masks), strict=True):
        assert not (changed & shown[1 - chosen]).any(), "the other disc stays as it was"
        if changed.any():
            overlap = (changed & shown[chosen]).sum() / (changed | shown[chosen]).sum()
            assert overlap > 0.6
            assert changed.sum() < 1.5 * math.pi * radius**2


def test_precision_and_accelerator_leave_a_detector_working(still: tuple[Path, Tensor]) -> None:
    plan = workshop.plan(
        config(segmenter={"name": "tiny"}, select="largest"),
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
    )
    stream = Stream(plan)
    with PanSource(str(still[0]), **WINDOW) as source:
        raw = next(iter(source))
    result = stream(stream.upload(raw))
    shown = result.mattes[0, 0] > 0.5
    assert (shown & still[1][0, :96, :160]).sum() / (shown | still[1][0, :96, :160]).sum() > 0.6


ARGUMENTS = ("segmenter=warm", "styler=inverse", "routes=[disc]", "sheet=null")


def test_from_the_command_line(place: Path, command: Command, still: tuple[Path, Tensor]) -> None:
    ran = command(f"input={still[0]}", "output=out.png", "select=60,55", *ARGUMENTS)
    assert ran.code == 0, ran.err
    before, after = (torch.from_numpy(_pixels(path)) for path in (still[0], place / "out.png"))
    assert torch.equal((before != after).any(2), still[1][0])
    report = json.loads((place / "out.report.json").read_text())
    assert report["selection"] == {"object": [60, 55], "frames_without": 0, "most_objects": 2}
    assert "select" in report["stages_ms"]


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def test_no_object_leaves_the_frame_and_is_told(
    place: Path, command: Command, still: tuple[Path, Tensor]
) -> None:
    ran = command(f"input={still[0]}", "output=out.png", "select=2,3", *ARGUMENTS)
    assert ran.code == 0
    assert "1 without the object selected" in ran.out
    assert "the object selected was in no frame (at most 2 of disc in one)" in ran.out
    assert (_pixels(still[0]) == _pixels(place / "out.png")).all()
    assert json.loads((place / "out.report.json").read_text())["selection"]["frames_without"] == 1


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("200,50", "select=200,50 is outside the picture of 200x120: give x in 0..199 and y in"),
        ("-1,5", "outside the picture of 200x120"),
        ("[5,120]", "select=5,120 is outside the picture of 200x120"),
        ("foo", "select=foo is none of all, largest, an object's number"),
        ("0", "select=0 is none of"),
        ("-1", "select=-1 is none of"),
        ("[1,2,3]", "is none of"),
    ],
)
def test_bad_input_is_one_line(
    place: Path, command: Command, still: tuple[Path, Tensor], select: str, words: str
) -> None:
    ran = command(f"input={still[0]}", "output=out.png", f"select={select}", *ARGUMENTS)
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (place / "out.png").exists()


def test_a_point_outside_is_told_before_nets_are_looked_for(
    place: Path, command: Command, still: tuple[Path, Tensor]
) -> None:
    Path("none.pth").write_bytes(b"none")  # which is seen when it is read
    broken = ("segmenter=dabnet", "segmenter.weights=none.pth", "styler=none")
    ran = command(f"input={still[0]}", "select=200,50", *broken)
    assert "select=200,50 is outside the picture of 200x120" in ran.err
