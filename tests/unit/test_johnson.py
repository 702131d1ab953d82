from pathlib import Path

import numpy as np
import pytest
import straight_line
import torch
import torch.nn.functional as F
from cbs_plugins.nets.johnson import TransformerNet, conv_by_squares
from cbs_plugins.nets.style_net import moments_of_half
from cbs_plugins.stylers.johnson import JohnsonStyler
from cbs_plugins.stylers.none import NoStyler
from PIL import Image

from cbs_core.contract.errors import WeightsKeysError, WeightsMissingError
from cbs_core.contract.interfaces import HasMemory, HasWeights, Styler

COUNTS = {32: 1_679_235, 16: 424_899, 8: 108_771}


def save(folder: Path, name: str = "net", width: int = 8) -> Path:
    """A net whose output is neither black nor white, so that clamping hides nothing."""
    torch.manual_seed(width)
    net = TransformerNet(width)
    for tensor_name, tensor in net.state_dict().items():
        if tensor_name.split(".")[-2].startswith("in"):
            tensor.add_(torch.rand_like(tensor) - 0.5)
    net.deconv3.conv2d.weight.data.mul_(100)
    net.deconv3.conv2d.bias.data.fill_(128)
    folder.mkdir(exist_ok=True)
    torch.save(net.state_dict(), folder / f"{name}.pth")
    return folder / f"{name}.pth"


@pytest.mark.parametrize(("width", "count"), COUNTS.items())
def test_parameter_counts(width, count):
    assert sum(p.numel() for p in TransformerNet(width).parameters()) == count


@pytest.mark.parametrize("width", COUNTS)
@pytest.mark.parametrize("size", [(32, 48), (65, 131), (8, 9)])
@torch.inference_mode()
def test_equals_the_straight_line_net(tmp_path, width, size):
    styler = JohnsonStyler(weights=str(save(tmp_path, width=width)), grid=True).eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    want = straight_line.transformer_net(styler.net.state_dict(), image * 255)
    assert want.shape[-2:] == tuple(-(-side // 4) * 4 for side in size)
    want = want[..., : size[0], : size[1]].clamp(0, 255) / 255
    assert want.std() > 0.05
    torch.testing.assert_close(styler(image), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("side", "gather"), [(2, False), (4, False), (2, True), (4, True)])
def test_squares_are_the_convolution(side, gather):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.rand(*shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 5, 32, 20), (3, 5, 9, 9), (3,))
    )
    want = F.conv2d(x, weight, bias)
    torch.testing.assert_close(conv_by_squares(x, weight, bias, side, gather=gather), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_half_precision_do_not_cancel(dtype):
    x = torch.rand(2, 5, 70, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x * torch.tensor([1.0, 3.0, 30.0, 300.0, 0.01]).view(-1, 1, 1) + 1000).to(dtype)
    mean, variance = moments_of_half(x)
    torch.testing.assert_close(mean, x.double().mean((2, 3)).float(), atol=0, rtol=1e-5)
    want = x.double().var((2, 3), correction=0).float()
    torch.testing.assert_close(variance, want, atol=1e-3, rtol=2e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("way", ["forward", "dense", "window"])
@torch.inference_mode()
def test_half_precision_on_cuda_is_close_to_float64_on_the_host(tmp_path, way):
    styler = JohnsonStyler(weights=str(save(tmp_path, width=32))).eval()
    image = torch.rand(1, 3, 136, 200, generator=torch.Generator().manual_seed(1))
    want, statistics = styler.double().dense_module()(image.double())
    given = [statistics.float().cuda()] if way == "window" else []
    modules = {
        "forward": styler,
        "dense": styler.dense_module(),
        "window": styler.window_module(),
    }
    module = modules[way].to("cuda", torch.float16, memory_format=torch.channels_last)
    have = module(image.half().cuda(), *given)
    if way == "dense":
        torch.testing.assert_close(have[1].cpu(), statistics.float(), atol=1, rtol=0.02)
        have = have[0]
    error = (have.cpu().double() - want).square().mean()
    assert 10 * torch.log10(1 / error) > 40


@pytest.mark.shared
@torch.inference_mode()
def test_mosaic_equals_the_straight_line_net_on_a_highway_frame(shared):
    weights = str(shared / "weights/johnson/mosaic_width16.pth")
    styler = JohnsonStyler(weights=weights, grid=True).eval()
    picture = Image.open(shared / "data/pictures/highway_1.jpg").convert("RGB").resize((321, 181))
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    styled = styler(image)
    want = straight_line.transformer_net(styler.net.state_dict(), image * 255)
    want = want[..., :181, :321].clamp(0, 255) / 255
    torch.testing.assert_close(styled, want, atol=1e-4, rtol=0)
    assert (styled - image).abs().mean() > 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (9, 10), (65, 131), (65, 130)])
@torch.inference_mode()
def test_any_size_is_kept(tmp_path, size):
    styled = JohnsonStyler(weights=str(save(tmp_path))).eval()(torch.rand(1, 3, *size))
    assert styled.shape == (1, 3, *size)
    assert styled.isfinite().all()
    assert styled.min() >= 0
    assert styled.max() <= 1


def test_old_running_statistics_are_dropped(tmp_path):
    path = save(tmp_path)
    state = torch.load(path, weights_only=True)
    for name in ("in1", "res3.in2"):
        state[f"{name}.running_mean"] = state[f"{name}.running_var"] = torch.ones(8)
    torch.save(state, path)
    assert isinstance(JohnsonStyler(weights=str(path)), Styler)


def test_fills_its_interfaces(tmp_path):
    styler = JohnsonStyler(weights=str(save(tmp_path)))
    assert isinstance(styler, HasWeights)
    assert isinstance(styler, HasMemory)


def test_style_is_a_name_and_a_file_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr("cbs_core.choose.weights.search_folders", lambda: (tmp_path,))
    save(tmp_path / "johnson", "wave_width8", width=8)
    save(tmp_path / "johnson", "wave_width16", width=16)
    other = save(tmp_path, "other")
    assert JohnsonStyler("wave").weights_files[0].path.stem == "wave_width16"
    assert JohnsonStyler("wave", str(other)).weights_files[0].path == other
    with pytest.raises(WeightsMissingError, match="did you mean 'wave'"):
        JohnsonStyler("waves")
    with pytest.raises(WeightsMissingError, match=r"'starry_night' \(there are: wave\)"):
        JohnsonStyler()
    save(tmp_path / "johnson", "starry_night", width=8)
    assert JohnsonStyler().weights_files[0].path.stem == "starry_night"


def test_another_nets_weights_are_refused(tmp_path):
    state = torch.load(save(tmp_path), weights_only=True)
    del state["res2.conv1.conv2d.bias"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsKeysError, match=r"1 missing \(res2.conv1.conv2d.bias\)"):
        JohnsonStyler(weights=str(tmp_path / "net.pth"))


def test_none_returns_the_picture():
    image = torch.rand(1, 3, 4, 5)
    assert NoStyler()(image) is image
    assert isinstance(NoStyler(), Styler)
