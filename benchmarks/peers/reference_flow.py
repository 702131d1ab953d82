"""The reference workload: what the paper's code does for a frame, without this framework.

TransformerNet on the whole frame, then DABNet on the whole frame, each once, eager float32, the
default memory format. Enlarging the logits and compositing are left out, which favours it.
"""

import torch
import torch.nn.functional as F
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.johnson import ConvLayer, TransformerNet
from torch import Tensor


class EnlargedConvLayer(ConvLayer):
    """A convolution of the picture enlarged twice by nearest neighbours, as it is written."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,2h,2w)``."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class PlainTransformerNet(TransformerNet):
    """TransformerNet with each layer computed as github.com/pytorch/examples does."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        self.deconv1 = EnlargedConvLayer(4 * width, 2 * width, 3)  # type: ignore[assignment]
        self.deconv2 = EnlargedConvLayer(2 * width, width, 3)  # type: ignore[assignment]
        self.deconv3 = ConvLayer(width, 3, 9)  # type: ignore[assignment]


class ReferenceFlow:
    """Runs the two nets one after the other on the CPU.

    Args:
        segmenter: the weights of DABNet, its 19 classes.
        styler: the weights of TransformerNet.
        width: of TransformerNet.
        mean: RGB, 0..255, subtracted before DABNet.
    """

    def __init__(
        self,
        segmenter: dict[str, Tensor],
        styler: dict[str, Tensor],
        *,
        width: int = 32,
        mean: tuple[float, float, float],
    ) -> None:
        self.dabnet = DABNet(19).eval()
        self.dabnet.load_state_dict(segmenter)
        self.transformer = PlainTransformerNet(width).eval()
        self.transformer.load_state_dict(styler)
        self.mean = torch.tensor(mean).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B,3,H,W)`` RGB in [0,1], sides multiples of 8 -> the styled picture and the logits."""
        styled = self.transformer(image * 255).clamp(0, 255) / 255
        logits = self.dabnet(image * 255 - self.mean)
        return styled, logits
