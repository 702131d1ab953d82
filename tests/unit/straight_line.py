"""DABNet, TransformerNet and the end of soft edges written a second time, straight down.

They share no code with the plugins: what both get wrong in the same way, they got wrong twice.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def dabnet(state: State, image: Tensor) -> Tensor:
    """``(B,3,H,W)`` RGB in [0,1] -> Cityscapes logits at an eighth of the size."""

    def bn_prelu(x: Tensor, name: str) -> Tensor:
        shape = (1, -1, 1, 1)
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        x = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-3)
        x = x * state[f"{name}.bn.weight"].view(shape) + state[f"{name}.bn.bias"].view(shape)
        return torch.where(x > 0, x, x * state[f"{name}.acti.weight"].view(shape))

    def even(x: Tensor) -> Tensor:
        """Repeats nothing: an odd side gets one line of -inf, which no maximum takes."""
        return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), value=float("-inf"))

    def dab(x: Tensor, name: str, d: int) -> Tensor:
        y = bn_prelu(x, f"{name}.bn_relu_1")
        y = F.conv2d(y, state[f"{name}.conv3x3.conv.weight"], padding=1)
        y = bn_prelu(y, f"{name}.conv3x3.bn_prelu")
        n = y.shape[1]
        near = F.conv2d(y, state[f"{name}.dconv3x1.conv.weight"], padding=(1, 0), groups=n)
        near = bn_prelu(near, f"{name}.dconv3x1.bn_prelu")
        near = F.conv2d(near, state[f"{name}.dconv1x3.conv.weight"], padding=(0, 1), groups=n)
        near = bn_prelu(near, f"{name}.dconv1x3.bn_prelu")
        far = state[f"{name}.ddconv3x1.conv.weight"]
        far = F.conv2d(y, far, padding=(d, 0), dilation=(d, 1), groups=n)
        far = bn_prelu(far, f"{name}.ddconv3x1.bn_prelu")
        kernel = state[f"{name}.ddconv1x3.conv.weight"]
        far = F.conv2d(far, kernel, padding=(0, d), dilation=(1, d), groups=n)
        far = bn_prelu(far, f"{name}.ddconv1x3.bn_prelu")
        y = bn_prelu(near + far, f"{name}.bn_relu_2")
        return x + F.conv2d(y, state[f"{name}.conv1x1.conv.weight"])

    rgb = image * 255
    rgb = torch.stack([rgb[:, 0] - 73.158325, rgb[:, 1] - 82.90902, rgb[:, 2] - 72.3924], dim=1).to(
        image
    )
    half = F.avg_pool2d(rgb, 3, stride=2, padding=1)
    quarter = F.avg_pool2d(half, 3, stride=2, padding=1)
    eighth = F.avg_pool2d(quarter, 3, stride=2, padding=1)

    x = rgb
    for i, stride in enumerate((2, 1, 1)):
        x = F.conv2d(x, state[f"init_conv.{i}.conv.weight"], stride=stride, padding=1)
        x = bn_prelu(x, f"init_conv.{i}.bn_prelu")
    x = bn_prelu(torch.cat([x, half], 1), "bn_prelu_1")

    conv = F.conv2d(x, state["downsample_1.conv3x3.conv.weight"], stride=2, padding=1)
    first = bn_prelu(torch.cat([conv, F.max_pool2d(even(x), 2)], 1), "downsample_1.bn_prelu")
    x = first
    for i in range(3):
        x = dab(x, f"DAB_Block_1.DAB_Module_1_{i}", 2)
    x = bn_prelu(torch.cat([x, first, quarter], 1), "bn_prelu_2")

    conv = F.conv2d(x, state["downsample_2.conv3x3.conv.weight"], stride=2, padding=1)
    second = bn_prelu(conv, "downsample_2.bn_prelu")
    x = second
    for i, d in enumerate((4, 4, 8, 8, 16, 16)):
        x = dab(x, f"DAB_Block_2.DAB_Module_2_{i}", d)
    x = bn_prelu(torch.cat([x, second, eighth], 1), "bn_prelu_3")
    return F.conv2d(x, state["classifier.0.conv.weight"])


def transformer_net(state: State, image: Tensor) -> Tensor:
    """``(B,3,H,W)`` RGB 0..255 -> the same range, sides rounded up to multiples of 4."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        pad = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight, bias, stride)

    def norm(x: Tensor, name: str) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        var = x.var((2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / (var + 1e-5).sqrt()
        return x * state[f"{name}.weight"].view(1, -1, 1, 1) + state[f"{name}.bias"].view(
            1, -1, 1, 1
        )

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = norm(conv(image, "conv1"), "in1").relu()
    x = norm(conv(x, "conv2", 2), "in2").relu()
    x = norm(conv(x, "conv3", 2), "in3").relu()
    for i in range(1, 6):
        y = norm(conv(x, f"res{i}.conv1"), f"res{i}.in1").relu()
        x = norm(conv(y, f"res{i}.conv2"), f"res{i}.in2") + x
    x = norm(conv(twice(x), "deconv1"), "in4").relu()
    x = norm(conv(twice(x), "deconv2"), "in5").relu()
    return conv(x, "deconv3")


def spread(hard, size):
    """1 in a mask and 4 pixels around it, averaged over squares of 9 pixels within the frame."""
    near = F.unfold(F.pad(hard, (4, 4, 4, 4)), 9).amax(1).view(len(hard), 1, *size)
    total, count = (
        F.unfold(F.pad(part, (4, 4, 4, 4)), 9).sum(1) for part in (near, torch.ones_like(near))
    )
    return (total / count).view(len(hard), *size)
