"""MicroAST against its equations in a straight line, without and with the authors' weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.stylers.microast import (
    Decoder,
    Encoder,
    MicroASTStyler,
    Modulator,
    read_style,
)
from PIL import Image

from cbs_core.contract.errors import ConfigError, SourceError, WeightsKeysError, WeightsMissingError
from cbs_core.contract.interfaces import HasMemory, HasWeights, Styler

PARTS = {
    "content_encoder": Encoder,
    "style_encoder": Encoder,
    "modulator": Modulator,
    "decoder": Decoder,
}


@pytest.fixture
def weights(tmp_path) -> Path:
    """A folder of seeded weights, named as the authors' are."""
    folder = tmp_path / "microast"
    folder.mkdir()
    torch.manual_seed(0)
    for part, net in PARTS.items():
        torch.save(net().state_dict(), folder / f"{part}_iter_160000.pth.tar")
    return folder


@pytest.fixture
def painting(tmp_path) -> Path:
    return save_picture(tmp_path / "painting.png", seed=1)


def save_picture(path: Path, *, seed: int, size: tuple[int, int] = (48, 32)) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def straight_line(styler: MicroASTStyler, image, style):
    """The authors' net at full strength."""
    content, paint = styler.content_encoder.state_dict(), styler.style_encoder.state_dict()
    modulator, decoder = styler.modulator.state_dict(), styler.decoder.state_dict()

    def conv(state, name, x, stride=1, groups=1):
        kernel = state[f"{name}.conv_layer.weight"]
        x = F.pad(x, [kernel.shape[-1] // 2] * 4, mode="reflect")
        return F.conv2d(x, kernel, state[f"{name}.conv_layer.bias"], stride, groups=groups)

    def residual(state, name, x, weight=1, bias=0):
        y = torch.relu(weight * conv(state, f"{name}.conv1", x) + bias * x)
        return x + weight * conv(state, f"{name}.conv2", y) + bias * y

    def encode(state, x):
        for index, (stride, groups) in {0: (1, 1), 2: (2, 16), 4: (1, 1), 6: (2, 32)}.items():
            x = torch.relu(conv(state, f"enc1.{index}", x, stride, groups))
        x = torch.relu(conv(state, "enc1.8", x))
        shallow = residual(state, "enc1.10", x)
        return shallow, residual(state, "enc2.0", shallow)

    def statistics(x):
        return x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + 1e-5).sqrt()

    style_features = encode(paint, style)
    x = encode(content, image)[1]
    for name, level in (("dec1", 1), ("dec2", 0)):
        feature = style_features[level]
        mean, std = statistics(feature)
        old_mean, old_std = statistics(x)
        x = (x - old_mean) / old_std * std + mean
        weight, bias = (
            conv(modulator, f"{kind}{level + 1}.0", feature, groups=64).mean((2, 3), keepdim=True)
            for kind in ("weight", "bias")
        )
        x = residual(decoder, name, x, weight, bias)
    for index, groups in ((1, 32), (6, 16)):
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = torch.relu(conv(decoder, f"dec3.{index}", x, groups=groups))
        x = torch.relu(conv(decoder, f"dec3.{index + 2}", x))
    return conv(decoder, "dec3.10", x)


def test_parameter_count():
    assert sum(p.numel() for net in PARTS.values() for p in net().parameters()) == 471_987


@pytest.mark.parametrize("size", [(32, 48), (65, 131), (8, 9)])
@torch.inference_mode()
def test_equals_the_straight_line_net(weights, painting, size):
    styler = MicroASTStyler(str(painting), str(weights), style_size=32).eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    style = torch.from_numpy(np.array(Image.open(painting))).permute(2, 0, 1)[None] / 255
    want = straight_line(styler, image, style)
    assert want.shape[-2:] == tuple(-(-side // 4) * 4 for side in size)
    want = want[..., : size[0], : size[1]]
    assert want.std() > 0.01
    torch.testing.assert_close(styler(image), want.clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (9, 10), (65, 130)])
@pytest.mark.parametrize("strength", [1.0, 0.5])
@torch.inference_mode()
def test_any_size_is_kept(weights, painting, size, strength):
    styler = MicroASTStyler(str(painting), str(weights), strength=strength).eval()
    styled = styler(torch.rand(1, 3, *size))
    assert styled.shape == (1, 3, *size)
    assert styled.isfinite().all()
    assert styled.min() >= 0
    assert styled.max() <= 1


@torch.inference_mode()
def test_strength_0_knows_nothing_of_the_painting(weights, painting, tmp_path):
    other = save_picture(tmp_path / "other.png", seed=2)
    image = torch.rand(1, 3, 40, 56)
    one, two = (
        MicroASTStyler(str(style), str(weights), strength=0).eval() for style in (painting, other)
    )
    torch.testing.assert_close(one(image), two(image), atol=1e-6, rtol=0)
    own = one.decoder(one.content_encoder(image)[1], one.encode_style(image)).clamp(0, 1)
    torch.testing.assert_close(one(image), own, atol=1e-6, rtol=0)


def test_a_blend_is_the_weighted_mean_of_codes(weights, painting, tmp_path):
    other = save_picture(tmp_path / "other.png", seed=2)
    both = [str(painting), str(other)]
    one, two = (MicroASTStyler(style, str(weights)).style_code for style in both)
    even = MicroASTStyler(both, str(weights)).style_code
    mostly = MicroASTStyler(both, str(weights), blend=[3, 1]).style_code
    torch.testing.assert_close(even, (one + two) / 2)
    torch.testing.assert_close(mostly, 0.75 * one + 0.25 * two)


def test_style_size_is_the_shorter_side(tmp_path):
    path = save_picture(tmp_path / "wide.png", seed=0, size=(90, 30))
    assert read_style(path, 60).shape == (1, 3, 60, 180)
    assert read_style(path, 15).shape == (1, 3, 15, 45)


def test_fills_its_interfaces(weights, painting):
    styler = MicroASTStyler(str(painting), str(weights))
    assert isinstance(styler, Styler)
    assert isinstance(styler, HasWeights)
    assert isinstance(styler, HasMemory)
    assert [file.path.name.partition("_iter")[0] for file in styler.weights_files] == list(PARTS)


def test_weights_are_found_in_the_weight_folders(weights, painting, monkeypatch):
    monkeypatch.setattr(
        "cbs_plugins.stylers.microast.search_folders", lambda: (Path("/no"), weights.parent)
    )
    assert MicroASTStyler(str(painting)).weights_files[0].path.parent == weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength=1.5 is outside 0..1"),
        ({"style_size": 4}, "style_size=4 is below 8"),
        ({"blend": [1, 2]}, "blend has 2 weights for 1 styles"),
        ({"blend": [-1]}, "at least 0"),
        ({"blend": [0]}, "not all of them 0"),
        ({"blend": [float("nan")]}, "at least 0"),
    ],
)
def test_values_out_of_range(weights, painting, options, message):
    with pytest.raises(ConfigError, match=message):
        MicroASTStyler(str(painting), str(weights), **options)


def test_missing_and_wrong_files(weights, painting, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"styler\.style=PICTURE"):
        MicroASTStyler(weights=str(weights))
    with pytest.raises(WeightsMissingError, match="no folder"):
        MicroASTStyler(str(painting), str(tmp_path / "no"))
    with pytest.raises(SourceError, match="is no picture"):
        MicroASTStyler(str(weights / "decoder_iter_160000.pth.tar"), str(weights))
    monkeypatch.setattr("cbs_plugins.stylers.microast.search_folders", lambda: (tmp_path / "no",))
    with pytest.raises(WeightsMissingError, match=r"styler\.weights=FOLDER"):
        MicroASTStyler(str(painting))
    state = Decoder().state_dict()
    del state["dec2.conv1.conv_layer.bias"]
    torch.save(state, weights / "decoder_iter_160000.pth.tar")
    with pytest.raises(WeightsKeysError, match=r"decoder: tensors 1 missing"):
        MicroASTStyler(str(painting), str(weights))
    (weights / "decoder_iter_160000.pth.tar").unlink()
    with pytest.raises(WeightsMissingError, match=r"no weight file decoder\*"):
        MicroASTStyler(str(painting), str(weights))


@pytest.mark.shared
@torch.inference_mode()
def test_the_authors_weights_on_a_frame_of_512_by_1024(shared):
    style = shared / "data/styles/edtaonisl_picabia_1913.jpg"
    picture = Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB")
    frame = np.array(picture.resize((1024, 512)))
    image = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    options = {"style": str(style), "weights": str(shared / "weights/microast")}
    styler = MicroASTStyler(**options).eval()
    styled = styler(image)
    want = straight_line(styler, image, read_style(style, 512)).clamp(0, 1)
    torch.testing.assert_close(styled, want, atol=1e-4, rtol=0)

    reconstructed = MicroASTStyler(**options, strength=0).eval()(image)
    halfway = MicroASTStyler(**options, strength=0.5).eval()(image)
    errors = [(x - image).square().mean().item() for x in (reconstructed, halfway, styled)]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 4
