import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.nets import dabnet
from cbs_plugins.nets.backward import depthwise_conv2d, prelu
from cbs_plugins.nets.dabnet import DABModule

KERNELS = [((3, 1), (4, 1)), ((1, 3), (1, 2)), ((3, 3), (2, 16)), ((5, 3), (1, 1))]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def of(out, *inputs):
    """The gradients of a loss that gives each pixel another weight."""
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    return torch.autograd.grad((out * weights.to(out)).sum(), inputs)


def native(x, weight, dilation):
    padding = [size // 2 * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    return F.conv2d(x, weight, None, 1, padding, dilation, groups=len(weight))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kernel", "dilation"), KERNELS)
@pytest.mark.parametrize("width", [11, 40])
def test_depthwise_is_torchs_with_its_gradients(kernel, dilation, layout, width):
    x = torch.randn(2, 16, 9, width, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn(16, 1, *kernel, dtype=torch.float64, requires_grad=True)
    out, want = depthwise_conv2d(x, weight, dilation), native(x, weight, dilation)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(of(out, x, weight), of(want, x, weight))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prelu_is_torchs_with_its_gradients(layout):
    x = torch.randn(2, 5, 7, 9, dtype=torch.float64)
    x[0, :, 0] = 0
    x = x.to(memory_format=layout).requires_grad_()
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    out, want = prelu(x, weight), F.prelu(x, weight)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(of(out, x, weight), of(want, x, weight))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_autocast_gives_bfloat16_and_gradients_of_float32(layout):
    """Of widths where oneDNN's gradient of a dilated convolution is what was in memory."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 40, 40).to(memory_format=layout).requires_grad_()
    weight = torch.randn(16, 1, 3, 1, requires_grad=True)
    slopes = torch.rand(16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = prelu(depthwise_conv2d(x, weight, (4, 1)), slopes)
    assert out.dtype == torch.bfloat16
    exact = [t.detach().double().requires_grad_() for t in (x, weight, slopes)]
    want = F.prelu(native(*exact[:2], (4, 1)), exact[2])
    for ours, theirs in zip(of(out, x, weight, slopes), of(want, *exact), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.1 * theirs.norm()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_learns_what_torchs_layers_would(layout, monkeypatch):
    torch.manual_seed(0)
    module = DABModule(64, 4).double().train().to(memory_format=layout)
    x = torch.randn(2, 64, 8, 40, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    inputs = (x, *module.parameters())
    grads = of(module(x), *inputs)
    monkeypatch.setattr(dabnet, "depthwise_conv2d", native)
    monkeypatch.setattr(dabnet, "prelu", F.prelu)
    torch.testing.assert_close(grads, of(module(x), *inputs))
