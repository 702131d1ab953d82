"""``import cbs_core as cbs``: the same kind out as in, nets built once, plans between frames."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import cbs_core as cbs
from cbs_core.choose import registry
from cbs_core.contract.errors import CbsError, ConfigError


class Bright:
    """Takes the right half for `right`."""

    classes = ("left", "right")
    built = 0

    def __init__(self):
        Bright.built += 1

    def __call__(self, image):
        right = torch.zeros_like(image[:, :1])
        right[..., right.shape[3] // 2 :] = 1
        return torch.cat([0.5 - right, right - 0.5], 1)


class Grey:
    def __init__(self, style="100"):
        self.level = int(style)

    def __call__(self, image):
        return torch.full_like(image, self.level / 255)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.setitem(registry.segmenters._registered, "halves", Bright)
    monkeypatch.setitem(registry.stylers._registered, "grey", Grey)


LOOK = {"segmenter": "halves", "styler": "grey", "accelerator": "eager", "device": "cpu"}


def pixels(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def check(out, before=None):
    """The right half is grey, the left one as it was."""
    before = pixels() if before is None else before
    assert (np.asarray(out)[:, 15:, :3] == 100).all()
    assert np.array_equal(np.asarray(out)[:, :15, :3], before[:, :15])


def test_an_array_gives_an_array():
    out = cbs.restyle(pixels(), ["right"], **LOOK)
    assert (type(out), out.dtype, out.shape) == (np.ndarray, np.uint8, (20, 30, 3))
    check(out)


def test_transparency_is_kept():
    clear = np.dstack([pixels(), np.arange(600, dtype=np.uint8).reshape(20, 30)])
    out = cbs.restyle(clear, ["right"], **LOOK)
    assert np.array_equal(out[..., 3], clear[..., 3])
    check(out)
    picture = cbs.restyle(Image.fromarray(clear), ["right"], **LOOK)
    assert picture.mode == "RGBA"
    assert np.array_equal(np.asarray(picture), out)


def test_a_pillow_image_gives_one():
    out = cbs.restyle(Image.fromarray(pixels()), ["right"], **LOOK)
    assert isinstance(out, Image.Image)
    check(out)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("batch", [False, True])
def test_a_tensor_gives_one_of_its_dtype_and_layout(dtype, batch):
    image = torch.from_numpy(pixels()).permute(2, 0, 1)
    image = image if dtype == torch.uint8 else image.to(dtype) / 255
    image = torch.stack([image, image.flip(1)]) if batch else image
    before = image.clone()
    out = cbs.restyle(image, ["right"], **LOOK)
    assert (out.dtype, out.shape) == (image.dtype, image.shape)
    assert torch.equal(image, before), "what was given is left alone"
    first = out[0] if batch else out
    levels = first if dtype == torch.uint8 else (first.float() * 255).round()
    check(levels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "wrong",
    [None, 3, np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8), torch.zeros(4, 4), np.zeros((2, 3))],
)
def test_what_is_no_picture_is_one_clear_line(wrong):
    with pytest.raises(ConfigError, match="is no picture: give a Pillow image") as error:
        cbs.restyle(wrong, ["right"], **LOOK)
    assert "\n" not in str(error.value)


def test_the_nets_are_built_once_for_all_calls():
    cbs.restyle(pixels(), ["right"], matte="soft", **LOOK)
    before = Bright.built
    for _ in range(3):
        cbs.restyle(pixels(40, 50), ["right"], matte="soft", **LOOK)
    assert Bright.built == before


def test_a_plan_changes_between_two_frames():
    with cbs.Restyler({"right": "100"}, **LOOK) as restyler:
        check(restyler(pixels()))
        restyler.plan = restyler.plan.with_route("left", "7")
        out = restyler(pixels())
        assert (out[:, 15:] == 100).all()
        assert (out[:, :15] == 7).all()
        restyler.plan = restyler.plan.with_route("right", "none")
        out = restyler(pixels())
        assert np.array_equal(out[:, 15:], pixels()[:, 15:])
        restyler.plan = restyler.plan.with_route("right", "255", strength=0.5)
        assert (
            abs(restyler(pixels())[:, 15:].astype(int) - (pixels()[:, 15:] + 255.0) / 2).max() <= 1
        )
        with pytest.raises(CbsError, match="no class 'lft'; did you mean 'left'"):
            restyler.plan.with_route("lft", "7")


def test_a_result_has_mattes_classes_and_a_picture_for_notebooks():
    with cbs.Restyler(["right"], **LOOK) as restyler:
        result = restyler.result(pixels())
    assert result.mattes.keys() == {"right"}
    matte = result.mattes["right"]
    assert (matte.shape, matte.dtype, matte[:, :15].max(), matte[:, 15:].min()) == (
        (20, 30),
        np.float32,
        0,
        1,
    )
    assert result.classes[result.labels[0, 29]] == "right"
    check(result.picture)
    assert result._repr_png_().startswith(b"\x89PNG")
    assert "array" not in repr(result)


def test_threads_take_turns():
    with cbs.Restyler(["right"], **LOOK) as restyler:
        outs = []
        threads = [
            threading.Thread(target=lambda: outs.append(restyler(pixels()))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outs) == 8
    for out in outs:
        check(out)


def test_a_path_gives_the_path_of_a_new_file(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(pixels()).save(path)
    first = cbs.restyle(str(path), ["right"], **LOOK)
    second = cbs.restyle(path, ["right"], **LOOK)
    assert (first.name, second.name) == ("photo_restyled.png", "photo_restyled_2.png")
    check(Image.open(first))
    named = cbs.restyle(path, ["right"], output=tmp_path / "x/out.png", **LOOK)
    assert named == tmp_path / "x/out.png"
    check(Image.open(named))
    with pytest.raises(ConfigError, match="would be written over"):
        cbs.restyle(path, ["right"], output=path, **LOOK)
    names = ["photo.png", "photo_restyled.png", "photo_restyled_2.png", "x"]
    assert sorted(one.name for one in tmp_path.iterdir()) == names
    assert np.array_equal(np.asarray(Image.open(path)), pixels())


def test_a_folder_gives_a_folder(tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(pixels()).save(folder / f"{name}.png")
    out = cbs.restyle(folder, ["right"], **LOOK)
    assert out == tmp_path / "holiday_restyled"
    assert sorted(one.name for one in out.iterdir()) == ["a.png", "b.png"]
    check(Image.open(out / "b.png"))


def test_an_unknown_key_is_told():
    with pytest.raises(ConfigError, match="unknown key 'mate'; did you mean 'matte'"):
        cbs.restyle(pixels(), ["right"], mate="soft", **LOOK)


def test_importing_it_imports_no_torch():
    script = "import sys, cbs_core; cbs_core.CbsError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
