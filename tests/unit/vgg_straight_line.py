"""VGG-19 and the losses of Gatys et al. written out plainly, to check the plugin against."""

from functools import cache

import torch
import torch.nn.functional as F

BLOCKS = [2, 2, 4, 4, 4]


@cache
def tensors(path):
    return torch.load(path, weights_only=True)


def features(path, rgb, pooling="max"):
    """Every ReLU of a picture (1,3,H,W) RGB 0..255, by name, with the file's own BGR weights."""
    file = tensors(str(path))
    blue, green, red = rgb[:, 2:3] - 103.94, rgb[:, 1:2] - 116.78, rgb[:, 0:1] - 123.68
    x = torch.cat([blue, green, red], 1)
    out = {}
    for block, count in enumerate(BLOCKS, 1):
        if block > 1:
            x = F.max_pool2d(x, 2) if pooling == "max" else F.avg_pool2d(x, 2)
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            weight = file[name + "_W_table"][file[name + "_W_q"].long()]
            bias = file[name + "_b"].to(x.dtype)
            x = F.conv2d(x, weight.to(x.dtype), bias, padding=1).clamp(min=0)
            out[f"relu{block}_{index}"] = x
    return out


def gram(x):
    _, channels, height, width = x.shape
    rows = x.reshape(channels, height * width)
    return torch.einsum("ip,jp->ij", rows, rows) / (height * width)


def loss(path, content, style, style_weight=1000.0):
    """relu4_2, mean square; relu1_1 to 5_1, Gram / (H W), mean square, weight 1000 / C²."""
    with torch.no_grad():
        want, styled = features(path, content), features(path, style)

    def of(image):
        have = features(path, image)
        total = ((have["relu4_2"] - want["relu4_2"]) ** 2).mean()
        for name in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"):
            difference = gram(have[name]) - gram(styled[name])
            total = total + style_weight / have[name].shape[1] ** 2 * (difference**2).mean()
        return total

    return of


def gradient(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value, x)
    return value.item(), slope


def lbfgs(function, x, evaluations):
    """Nocedal and Wright, algorithm 7.4; the value at each evaluation.

    The first step moves the values by 1 in the mean, all others are of length 1.
    """
    pairs, values = [], []
    value, slope = gradient(function, x)
    values.append(value)
    direction, step = -slope, 1 / slope.abs().mean()
    while len(values) < evaluations:
        move = step * direction
        x = x + move
        before = slope
        value, slope = gradient(function, x)
        values.append(value)
        change = slope - before
        if (change * move).sum() > 1e-10:
            pairs.append((move, change))
        q = slope.clone()
        factors = []
        for s, y in reversed(pairs):
            factors.append((s * q).sum() / (s * y).sum())
            q = q - factors[-1] * y
        s, y = pairs[-1]
        q = q * (s * y).sum() / (y * y).sum()
        for (s, y), factor in zip(pairs, reversed(factors), strict=True):
            q = q + s * (factor - (y * q).sum() / (s * y).sum())
        direction, step = -q, 1.0
    return values
