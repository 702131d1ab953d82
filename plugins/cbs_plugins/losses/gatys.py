"""The objective of Gatys et al. 2015 (1508.06576), by which stylers are compared.

Letters: ``H W`` the photograph.
"""

import torch
from torch import Tensor, nn

from cbs_plugins.nets.losses import LAYERS, GatysLoss
from cbs_plugins.nets.vgg import VGG19


class GatysObjective(nn.Module):
    """Content and style loss of VGG-19, with their usual weights (1 and 1000).

    Raises:
        PluginLoadError: VGG-19's weights are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG19(LAYERS)

    def forward(self, styled: Tensor, photo: Tensor, painting: Tensor) -> dict[str, Tensor]:
        """Returns ``content``, ``style`` and their weighted sum ``total``.

        Args:
            styled: ``(1,3,H,W)`` RGB in [0,1], each side at least 16 pixels.
            photo: likewise.
            painting: ``(1,3,H',W')``.
        """
        with torch.inference_mode():
            loss = GatysLoss(self.vgg, photo * 255, painting * 255)
            terms = loss.terms(styled.float() * 255)
            total = loss.content_weight * terms.content + loss.style_weight * terms.style
        return {"content": terms.content, "style": terms.style, "total": total}
