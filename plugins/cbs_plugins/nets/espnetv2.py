"""ESPNetv2: a light net of dilated depth-wise convolutions, for segmentation (Mehta et al. 2019).

Layer by layer this is section 3 of the paper (arXiv 1811.11431), and for segmentation the decoder
of its authors' later release (github.com/sacmehta/EdgeNets, MIT). Submodule names are those of
that release's checkpoints, which therefore load strictly.

Letters: ``B`` batch, ``C`` channels, ``K`` classes, ``H W`` the frame.
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import ceil, gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BRANCHES = 4
"""Parallel convolutions of an EESP unit (K in the paper)."""


DILATIONS = (1, 2, 3, 4)
"""Of the branches of a unit: their receptive fields are 3, 5, 7 and 9."""


DEEP_DILATIONS = (1, 1, 2, 3)
"""Of level 4's units: no receptive field larger than 7 (section 3.3)."""


UNITS = {3: 3, 4: 7}
"""Level -> how many units follow the strided one."""


SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
"""Of the branches of a pyramid pooling, against the size of its input."""


def conv_bn(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: bool = False,
) -> nn.Sequential:
    """Returns a bias-free convolution and batch normalisation, with a PReLU where asked."""
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        bn=nn.BatchNorm2d(channels_out),
    )
    if act:
        layers["act"] = nn.PReLU(channels_out)
    return nn.Sequential(layers)


class EESP(nn.Module):
    """Extremely efficient spatial pyramid of dilated depth-wise convolutions (section 3.2).

    Args:
        channels_in: of the input.
        channels_out: of the output; where both are equal and the stride is 1, the input is added.
        dilations: of the branches, growing; each branch also gets the sum of those before it.
        stride: 1 or 2; at 2 the result is left for `DownSampler` to add to and to activate.
    """

    def __init__(
        self, channels_in: int, channels_out: int, dilations: Sequence[int], *, stride: int = 1
    ) -> None:
        super().__init__()
        width = channels_out // BRANCHES
        self.strided = stride > 1
        self.proj_1x1 = conv_bn(channels_in, width, 1, groups=BRANCHES, act=True)
        self.spp_dw = nn.ModuleList(
            nn.Sequential(
                OrderedDict(conv=nn.Conv2d(width, width, 3, stride, d, d, groups=width, bias=False))
            )
            for d in dilations
        )
        self.conv_1x1_exp = conv_bn(channels_out, channels_out, 1, groups=BRANCHES)
        self.br_after_cat = nn.Sequential(
            OrderedDict(bn=nn.BatchNorm2d(channels_out), act=nn.PReLU(channels_out))
        )
        self.module_act = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,ceil(h/stride),ceil(w/stride))``."""
        reduced = self.proj_1x1(x)
        branches = [branch(reduced) for branch in self.spp_dw]
        for index in range(1, len(branches)):
            branches[index] = branches[index] + branches[index - 1]
        out: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, 1)))
        if self.strided:
            return out
        if out.shape == x.shape:
            out = out + x
        activated: Tensor = self.module_act(out)
        return activated


class DownSampler(nn.Module):
    """Halves the size: pooling beside a strided `EESP`, and the picture itself (figure 3)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.eesp = EESP(channels_in, channels_out - channels_in, DILATIONS, stride=2)
        self.inp_reinf = nn.Sequential(conv_bn(3, 3, 3, act=True), conv_bn(3, channels_out, 1))
        self.act = nn.PReLU(channels_out)

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """Returns ``(B,channels_out,ceil(h/2),ceil(w/2))``.

        Args:
            x: ``(B,channels_in,h,w)``.
            picture: ``(B,3,ceil(h/2),ceil(w/2))``.
        """
        y = torch.cat([F.avg_pool2d(x, 3, 2, 1), self.eesp(x)], 1)
        out: Tensor = self.act(y + self.inp_reinf(picture))
        return out


class EESPNet(nn.Module):
    """The encoder, without the classifier's last level.

    Args:
        widths: the channels of levels 1 to 4, at 1/2, 1/4, 1/8 and 1/16 of the size.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        one, two, three, four = widths
        self.level1 = conv_bn(3, one, 3, stride=2, act=True)
        self.level2_0 = DownSampler(one, two)
        self.level3_0 = DownSampler(two, three)
        self.level3 = _units(three, UNITS[3], DILATIONS)
        self.level4_0 = DownSampler(three, four)
        self.level4 = _units(four, UNITS[4], DEEP_DILATIONS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the features of levels 1 to 4 of normalised pictures ``(B,3,H,W)``."""
        picture_4 = F.avg_pool2d(F.avg_pool2d(image, 3, 2, 1), 3, 2, 1)
        picture_8 = F.avg_pool2d(picture_4, 3, 2, 1)
        picture_16 = F.avg_pool2d(picture_8, 3, 2, 1)
        one = self.level1(image)
        two = self.level2_0(one, picture_4)
        three = self.level3(self.level3_0(two, picture_8))
        four = self.level4(self.level4_0(three, picture_16))
        return one, two, three, four


def _units(channels: int, count: int, dilations: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(EESP(channels, channels, dilations) for _ in range(count)))


class PyramidPool(nn.Module):
    """Efficient pyramid pooling: a depth-wise convolution at each of `SCALES`, shuffled and merged.

    Args:
        channels_in: of the input.
        width: of each branch.
        channels_out: of the output.
        activate: normalise and activate it; False gives logits, with a bias.
    """

    def __init__(
        self, channels_in: int, width: int, channels_out: int, *, activate: bool = True
    ) -> None:
        super().__init__()
        self.projection_layer = _wrapped("cbr", *conv_bn(channels_in, width, 1, act=True))
        self.stages = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in SCALES
        )
        wide = width * len(SCALES)
        self.merge_layer = nn.Sequential(
            _wrapped("br", nn.BatchNorm2d(wide), nn.PReLU(wide)),
            nn.ChannelShuffle(len(SCALES)),
            _wrapped("cbr", *conv_bn(wide, width, 3, groups=width, act=True)),
            nn.Conv2d(width, channels_out, 1, bias=not activate),
        )
        self.br = (
            _wrapped("br", nn.BatchNorm2d(channels_out), nn.PReLU(channels_out))
            if activate
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,h,w)``."""
        x = self.projection_layer(x)
        size = (x.shape[-2], x.shape[-1])
        branches = []
        for scale, stage in zip(SCALES, self.stages, strict=True):
            scaled = (max(5, ceil(size[0] * scale)), max(5, ceil(size[1] * scale)))
            if scale > 1:
                branches.append(F.adaptive_avg_pool2d(stage(_resized(x, scaled)), size))
            elif scale < 1:
                branches.append(_resized(stage(F.adaptive_avg_pool2d(x, scaled)), size))
            else:
                branches.append(stage(x))
        out: Tensor = self.br(self.merge_layer(torch.cat(branches, 1)))
        return out


class Skip(nn.Module):
    """Takes features of the encoder to the decoder, weighted by what the whole picture holds."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.Sigmoid(),
        )
        groups = gcd(channels_in, channels_out)
        self.expansion_layer = _wrapped(
            "cbr", *conv_bn(channels_in, channels_out, 3, groups=groups, act=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,h,w)``."""
        out: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return out


def _wrapped(name: str, *layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class ESPNetv2(nn.Module):
    """Encoder and decoder; of width 2.0 with 21 classes 789,253 parameters.

    Args:
        classes: K.
        widths: of `EESPNet`; the paper's width 2.0 by default.
        planes: a quarter of the channels after the decoder's first pyramid.
    """

    def __init__(
        self, classes: int, widths: Sequence[int] = (32, 128, 256, 512), planes: int = 16
    ) -> None:
        super().__init__()
        one, two, three, four = widths
        width = min(classes // 2, planes)
        self.base_net = EESPNet(widths)
        self.bu_dec_l1 = PyramidPool(four, width, 4 * planes)
        self.bu_dec_l2 = PyramidPool(4 * planes, width, 3 * planes)
        self.bu_dec_l3 = PyramidPool(3 * planes, width, 2 * planes)
        self.bu_dec_l4 = PyramidPool(2 * planes, width, classes, activate=False)
        self.merge_enc_dec_l2 = Skip(three, 4 * planes)
        self.merge_enc_dec_l3 = Skip(two, 3 * planes)
        self.merge_enc_dec_l4 = Skip(one, 2 * planes)
        self.bu_br_l2 = nn.Sequential(nn.BatchNorm2d(4 * planes), nn.PReLU(4 * planes))
        self.bu_br_l3 = nn.Sequential(nn.BatchNorm2d(3 * planes), nn.PReLU(3 * planes))
        self.bu_br_l4 = nn.Sequential(nn.BatchNorm2d(2 * planes), nn.PReLU(2 * planes))

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits ``(B,K,H,W)``.

        Args:
            image: ``(B,3,H,W)`` RGB in [0,1], normalised by ImageNet's mean and deviation; H and W
                are multiples of 16.
        """
        one, two, three, four = self.base_net(image)
        x = self.bu_dec_l1(four)
        x = self.bu_br_l2(self.merge_enc_dec_l2(three) + _doubled(x))
        x = self.bu_br_l3(self.merge_enc_dec_l3(two) + _doubled(self.bu_dec_l2(x)))
        x = self.bu_br_l4(self.merge_enc_dec_l4(one) + _doubled(self.bu_dec_l3(x)))
        return _doubled(self.bu_dec_l4(x))


def _doubled(x: Tensor) -> Tensor:
    return _resized(x, (2 * x.shape[-2], 2 * x.shape[-1]))
