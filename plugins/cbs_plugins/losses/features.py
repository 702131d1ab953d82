"""How different two pictures look by a net's features, as Zhang et al. 2018 (1801.03924) compare.

It is LPIPS without its learned weights of channels (``lpips=False`` in the authors' package, their
baseline): those belong to nets whose weights cannot be had without the internet. The net is VGG-19,
at the last ReLU of each block. Its figures are larger than LPIPS', and only to be set beside others
of this distance.

Letters: ``H W`` the pictures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_plugins.nets.vgg import BLOCKS, VGG19

LAYERS = tuple(f"relu{block}_{count}" for block, (count, _) in enumerate(BLOCKS, 1))


class FeatureDistance(nn.Module):
    """Squared distance of unit features, summed over channels and layers.

    Raises:
        PluginLoadError: VGG-19's weights are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG19(LAYERS)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        """Returns ``(1,1,H,W)``, 0..20.

        Args:
            one: ``(1,3,H,W)`` RGB in [0,1], each side at least 16 pixels.
            two: likewise, of the same size.
        """
        features = self.vgg(torch.cat([one, two]) * 255)
        total = one.new_zeros(1, 1, *one.shape[2:])
        for layer in LAYERS:
            a, b = F.normalize(features[layer], dim=1, eps=1e-10).chunk(2)
            apart = (a - b).square().sum(1, keepdim=True)
            total += F.interpolate(apart, one.shape[2:], mode="bilinear", align_corners=False)
        return total
