"""What a folder of pictures of many sizes costs: no trials, no nets that are not due."""

from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from cbs_plugins.sources.folder import FolderSource
from PIL import Image
from torch import Tensor, nn

from cbs_core.choose import registry
from cbs_core.choose.sections import Choice
from cbs_core.contract.types import StreamInfo
from cbs_core.run.job import Job
from cbs_core.run.settings import Look, Settings
from cbs_core.run.trials import counted, worth_trials


class Everything(nn.Module):
    """Calls every pixel a wall; ``seen`` tells the sizes of each style's pictures."""

    classes = ("wall", "car")

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(image[:, :1]), torch.zeros_like(image[:, :1])], 1)


class Noting(nn.Module):
    seen: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, style: str = "a") -> None:
        super().__init__()
        self.style = style

    def forward(self, image: Tensor) -> Tensor:
        Noting.seen.append((self.style, image.shape[3]))
        return 1 - image


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name, target in (("segmenter", "walls", Everything), ("styler", "noting", Noting)):
        monkeypatch.setitem(registry.REGISTRIES[kind]._registered, name, target)
    Noting.seen.clear()


def folder(path: Path, sizes: list[int]) -> Path:
    path.mkdir()
    for number, size in enumerate(sizes):
        Image.new("RGB", (size, 16)).save(path / f"{number:02}.png")
    return path


@pytest.mark.parametrize(("sizes", "many"), [([16] * 12, 1), ([16, 20, 24] * 4, 3)])
def test_styles_that_are_not_due_are_built_for_a_stream_of_one_size_alone(
    tmp_path: Path, sizes: list[int], many: int
) -> None:
    source = str(folder(tmp_path / "in", sizes))
    with FolderSource(source) as opened:
        assert opened.info.sizes == many
    look = Look(
        Choice("walls"),
        Choice("noting"),
        accelerator=Choice("eager"),
        routes={"wall": "shown", "car": "never"},
    )
    settings = Settings(
        look,
        Choice("folder", {"path": source}),
        Choice("null"),
        Choice("serial"),
        input=source,
        device="cpu",
        precision="fp32",
    )
    assert Job(settings, run_folder=tmp_path).run() is not None
    assert {size for style, size in Noting.seen if style == "shown"} == {*sizes}
    assert any(style == "never" for style, _ in Noting.seen) is (many == 1)


@pytest.mark.parametrize(
    ("frames", "sizes", "worth"),
    [(None, 1, True), (9, 1, False), (10, 1, True), (12, 12, False), (100, 10, True)],
)
def test_what_is_fastest_is_tried_where_a_size_comes_often(
    frames: int | None, sizes: int, worth: bool
) -> None:
    info = StreamInfo(8, 8, rate=Fraction(25), frames=frames, sizes=sizes)
    assert worth_trials(info) is worth


def test_trying_is_told_how_many_frames_of_a_size_come() -> None:
    def frames(accelerator: Choice, many: int | None) -> object:
        look = Look(Choice("net"), Choice("style"), accelerator=accelerator)
        told = counted(look, StreamInfo(8, 8, rate=Fraction(25), frames=many, sizes=2))
        return told.accelerator.params.get("frames")

    given = {"budget": 20, "frames": None}
    assert frames(Choice("auto", given), 100) == 50
    assert frames(Choice("auto", given), None) is None
    assert frames(Choice("auto", {"frames": 7}), 100) == 7
    assert frames(Choice("eager"), 100) is None
