"""The losses of style transfer, over a whole picture or inside a matte.

Source: Gatys et al. 2015 (1508.06576), equations 1 to 7; the matte weighs the pixels of a layer as
the guidance channels of Gatys et al. 2017 (1611.07865, section 4.1) do.

Letters: ``B`` batch, ``H W`` the picture, ``C h w`` a layer. Pictures are RGB, 0..255.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from cbs_plugins.nets.vgg import VGG19

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)
"""What a `VGG19` for `GatysLoss` is asked for."""

PARTS = 16
"""Of the pixels, where a Gram matrix is summed from sixteen-bit features."""


def gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the mean of f fᵀ over the pixels: ``(B,C,h,w)`` -> ``(B,C,C)``.

    Args:
        features: of one layer.
        mask: ``(B,1,h,w)`` in [0,1], the pixels' weights in the mean; None for all alike.
    """
    f = features.flatten(2)
    if mask is None:
        product: Tensor = _Outer.apply(f)
        return product / f.shape[2]
    m = mask.flatten(2)
    return (f * m) @ f.mT / m.sum(2, keepdim=True)


class _Outer(torch.autograd.Function):
    """f fᵀ in float32 or wider; half the work of autograd's own gradient, which sees two factors.

    Sixteen-bit features are multiplied as they are, in `PARTS` whose products are added in
    float32: one product would be rounded to three digits.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, f: Tensor) -> Tensor:
        ctx.save_for_backward(f)
        if f.dtype.itemsize > 2:
            return f @ f.mT
        parts = PARTS if f.shape[2] % PARTS == 0 else 1
        split: Tensor = f.unflatten(2, (parts, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return (split @ split.mT).sum(1, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (f,) = ctx.saved_tensors
        (gradient,) = gradients
        symmetric = (gradient + gradient.mT).to(f.dtype)
        # The channels end up innermost, where convolutions of both devices want them.
        out: Tensor = (f.mT @ symmetric).mT
        return out


def content_loss(features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the mean square difference of ``(B,C,h,w)`` features, weighted as in `gram`."""
    if mask is None:
        return F.mse_loss(features, target)
    squares = (features - target).square().mean(1, keepdim=True)
    return (squares * mask).sum() / mask.sum()


def style_loss(features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns ``mean((G - A)²) / C²``, where G is the Gram matrix and A the style's.

    Args:
        features: ``(B,C,h,w)`` of one layer.
        target: A, ``(B,C,C)`` or ``(1,C,C)``.
        mask: as in `gram`.
    """
    return (gram(features, mask) - target).square().mean() / features.shape[1] ** 2


def total_variation(image: Tensor) -> Tensor:
    """Returns the mean square difference of neighbours in ``(B,3,H,W)``, across and down."""
    across, down = image.diff(dim=3), image.diff(dim=2)
    return across.square().mean() + down.square().mean()


def masks(matte: Tensor, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a matte ``(B,1,H,W)`` at each layer's size: the share of a cell that it covers."""
    return {n: F.adaptive_avg_pool2d(matte, (*f.shape[2:],)) for n, f in features.items()}


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a loss before they are weighted; tensors without dimensions."""

    content: Tensor
    """Of `CONTENT_LAYER`."""

    style: Tensor
    """The sum over `STYLE_LAYERS`."""

    variation: Tensor
    """`total_variation` of the picture."""


class GatysLoss:
    """Content and style loss of any picture against one content and one style picture.

    Args:
        vgg: with `LAYERS`, on the pictures' device.
        content: ``(1,3,H,W)``.
        style: ``(1,3,H',W')`` of any size; brushwork is taken at the scale that it has there.
        matte: ``(1,1,H,W)`` in [0,1], more than 0 somewhere: the losses see nothing outside it,
            other than through the net's receptive field. None for the whole picture.
        content_weight: of `Terms.content` in the sum.
        style_weight: of `Terms.style`.
        tv_weight: of `Terms.variation`.
    """

    def __init__(
        self,
        vgg: VGG19,
        content: Tensor,
        style: Tensor,
        matte: Tensor | None = None,
        *,
        content_weight: float = 1.0,
        style_weight: float = 1e3,
        tv_weight: float = 0.0,
    ) -> None:
        self.vgg = vgg
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.tv_weight = tv_weight
        with torch.no_grad():
            features = vgg(content)
            self.content = features[CONTENT_LAYER]
            self.masks = {} if matte is None else masks(matte, features)
            styled = vgg(style)
            self.grams = {name: gram(styled[name]) for name in STYLE_LAYERS}

    def terms(self, image: Tensor) -> Terms:
        """Returns the parts of the loss of a picture ``(1,3,H,W)`` of the content's size."""
        features: dict[str, Tensor] = self.vgg(image)
        mask = self.masks.get
        content = content_loss(features[CONTENT_LAYER], self.content, mask(CONTENT_LAYER))
        style = [style_loss(features[n], self.grams[n], mask(n)) for n in STYLE_LAYERS]
        return Terms(content, torch.stack(style).sum(), total_variation(image))

    def __call__(self, image: Tensor) -> Tensor:
        """Returns the weighted sum of `terms`, a tensor without dimensions."""
        terms = self.terms(image)
        total = self.content_weight * terms.content + self.style_weight * terms.style
        return total + self.tv_weight * terms.variation if self.tv_weight else total
