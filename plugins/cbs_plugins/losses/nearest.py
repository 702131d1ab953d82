"""How far a picture's features are from the nearest ones of another picture.

It is the NNFM loss of ARF (Zhang et al. 2022, 2206.06360, equation 3) as a map: the cosine distance
of the features at each place of one picture to whichever features of the other are most alike,
wherever they are. The net is VGG-19 (ARF's is VGG-16), in its third block, as there.

Letters: ``H W`` the pictures, ``h w`` a layer, ``C`` channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_plugins.nets.vgg import VGG19

LAYERS = ("relu3_1", "relu3_2", "relu3_3")

AT_ONCE = 2048
"""Places that are compared with all others together: what is held then has a bound."""


class NearestFeatures(nn.Module):
    """Cosine distance to the nearest features of the other picture.

    Raises:
        PluginLoadError: VGG-19's weights are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG19(LAYERS)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        """Returns ``(1,1,H,W)``, 0..2, with a gradient by the first picture.

        Args:
            one: ``(1,3,H,W)`` RGB in [0,1], each side at least 16 pixels.
            two: likewise, of any size.
        """
        with torch.no_grad():
            other = self._features(two)[0].flatten(1)
        own = self._features(one)
        flat = own[0].flatten(1)
        with torch.no_grad():
            parts = torch.split(flat, AT_ONCE, 1)
            nearest = torch.cat([(part.T @ other).argmax(1) for part in parts])
        apart = 1 - (flat * other[:, nearest]).sum(0)
        return F.interpolate(
            apart.view(1, 1, *own.shape[2:]), one.shape[2:], mode="bilinear", align_corners=False
        )

    def _features(self, picture: Tensor) -> Tensor:
        """Returns unit features ``(1,C,h,w)``."""
        features = self.vgg(picture * 255)
        return F.normalize(torch.cat([features[name] for name in LAYERS], 1), dim=1, eps=1e-10)
