"""Pictures at another size, for losses that see them at a scale.

Letters: ``H W`` the picture.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from cbs_plugins.nets.vgg import STRIDE


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns ``(1,3,H,W)`` at another size (H, W), the same tensor where it has it."""
    if image.shape[2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def resize_to_area(image: Tensor, area: float) -> Tensor:
    """Returns uint8 ``(1,3,H,W)`` as float32 with about so many pixels and its aspect ratio.

    Bicubic, as `cbs-eval` makes the painting that it judges by: of a softer one, a net learns
    softer brushwork than it is asked for.
    """
    height, width = image.shape[2:]
    factor = math.sqrt(area / (height * width))
    size = max(STRIDE, round(height * factor)), max(STRIDE, round(width * factor))
    if (height, width) == size:
        return image.float()
    resized = F.interpolate(image.float(), size, mode="bicubic", antialias=True)
    return resized.clamp(0, 255)
