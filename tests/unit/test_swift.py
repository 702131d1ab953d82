"""The net for speed: equal to a straight-line version, of any size, read back as it was written."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.nets.feed_forward import FeedForward
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.nets.swift import SwiftNet, read_net
from cbs_plugins.stylers.swift import SwiftStyler

from cbs_core.choose.weights import Checkpoint, WeightsFile
from cbs_core.contract.errors import ConfigError, WeightsKeysError


def save(folder: Path, width: int = 12, blocks: int = 3) -> Path:
    """A net whose output is neither black nor white, so that clamping hides nothing."""
    torch.manual_seed(width)
    net = SwiftNet(width, blocks=blocks)
    for name, tensor in net.state_dict().items():
        if name.split(".")[-2].startswith("in"):
            tensor.add_(torch.rand_like(tensor) - 0.5)
    net.head.conv2d.weight.data.mul_(30)
    net.head.conv2d.bias.data.fill_(128)
    folder.mkdir(exist_ok=True)
    torch.save(net.state_dict(), folder / "swift.pth")
    return folder / "swift.pth"


def straight_line(state, image):
    """The net by its weights alone, in float64."""
    w = {name: tensor.double() for name, tensor in state.items()}

    def conv(x, name, stride=1):
        edge = w[f"{name}.conv2d.weight"].shape[-1] // 2
        x = F.pad(x, [edge] * 4, mode="reflect")
        return F.conv2d(x, w[f"{name}.conv2d.weight"], w[f"{name}.conv2d.bias"], stride)

    def norm(x, name):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        scale, shift = (w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    rows, columns = image.shape[2:]
    image = F.pad(image.double(), (0, -columns % 8, 0, -rows % 8), mode="replicate")
    # Pixel p of a square of 4 is channel 16 c + p.
    x = F.unfold(image, 4, stride=4).unflatten(2, (image.shape[2] // 4, image.shape[3] // 4))
    fine = F.relu(norm(conv(x, "stem"), "in1"))
    x = F.relu(norm(conv(fine, "down", 2), "in2"))
    for index in range(len({name.split(".")[1] for name in w if name.startswith("blocks")})):
        y = F.relu(norm(conv(x, f"blocks.{index}.conv1"), f"blocks.{index}.in1"))
        x = x + norm(conv(y, f"blocks.{index}.conv2"), f"blocks.{index}.in2")
    for dim in (2, 3):  # each of two pixels lies a quarter from the nearest, at 3 to 1
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        before = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
        behind = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), last], dim)
        both = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * behind], dim + 1)
        x = both.flatten(dim, dim + 1)
    x = F.relu(norm(conv(x, "up"), "in3")) + fine
    x = F.relu(norm(conv(x, "mix"), "in4"))
    x = conv(x, "head")
    return F.fold(x.flatten(2), image.shape[2:], 4, stride=4)[..., :rows, :columns]


@pytest.mark.parametrize("size", [(32, 48), (65, 131), (16, 17), (40, 24)])
@torch.inference_mode()
def test_equals_the_straight_line_net(tmp_path, size):
    styler = SwiftStyler(weights=str(save(tmp_path)), grid=True).eval()
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    want = straight_line(styler.net.state_dict(), image * 255).clamp(0, 255) / 255
    assert want.std() > 0.05
    torch.testing.assert_close(styler(image), want.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("net", [SwiftNet(12), TransformerNet(8, smooth=True)])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (9, 8)])
@torch.inference_mode()
def test_small_pictures_keep_their_size(net, size):
    class Styler(FeedForward):
        read = staticmethod(lambda path: (net, Checkpoint(WeightsFile(path, "", ""), {}, {})))

    styler = Styler(weights="none").eval()
    styled = styler(torch.rand(1, 3, *size))
    assert styled.shape == (1, 3, *size)
    assert styled.isfinite().all()


@pytest.mark.parametrize(("width", "blocks"), [(12, 3), (24, 1)])
def test_a_file_tells_its_own_size(tmp_path, width, blocks):
    net, checkpoint = read_net(save(tmp_path, width, blocks))
    assert (net.width, len(net.blocks), net.stride) == (width, blocks, 8)
    assert net.reach == 28 + 16 * blocks
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, checkpoint.tensors[name])


def test_another_net_s_weights_are_refused(tmp_path):
    torch.save(TransformerNet(8).state_dict(), tmp_path / "johnson.pth")
    with pytest.raises(WeightsKeysError, match="another net than SwiftNet"):
        SwiftStyler(weights=str(tmp_path / "johnson.pth"))
    with pytest.raises(ConfigError, match=r"styler\.halo must not be negative, as -1 is"):
        SwiftStyler(weights=str(save(tmp_path)), halo=-1)


def test_it_computes_two_sevenths_of_what_johnson_s_does():
    def operations(net):
        count = 0

        def counted(layer, args, out):
            nonlocal count
            count += layer.weight[0].numel() * out.numel()

        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(counted)
        with torch.inference_mode():
            net(torch.rand(1, 3, 64, 64))
        return count / 64**2

    of_johnson = 2.51e9 / 256**2  # at width 16, as its cards say
    assert operations(SwiftNet()) < of_johnson / 3.5
