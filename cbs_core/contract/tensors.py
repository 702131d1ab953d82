"""Pictures as tensors, and scores at a picture's size: each done in one way everywhere.

Letters: ``B`` batch, ``C`` channels, ``H W`` the frame, ``h w`` a model's output.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def to_image(pixels: Tensor) -> Tensor:
    """Returns pixels, uint8 ``(H,W,3)``, as a picture: float32 ``(1,3,H,W)`` in [0,1].

    It is on the pixels' device, a new tensor, and lies in memory as they do (channels_last).
    """
    return pixels.permute(2, 0, 1)[None].float().div_(255)


def to_pixels(image: Tensor) -> Tensor:
    """Returns a picture ``(1,3,H,W)`` as pixels, uint8 ``(H,W,3)``, on its device.

    Values outside [0,1] are cut off. Of what `to_image` gave, every pixel comes back as it was:
    float32 holds n/255 so closely that rounding gives n.

    Example:
        >>> every = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(16, 16, 3)
        >>> torch.equal(to_pixels(to_image(every)), every)
        True
    """
    return to_levels(image[0]).permute(1, 2, 0).contiguous()


def to_levels(values: Tensor) -> Tensor:
    """Returns values in [0,1], of any shape, as uint8, on their device."""
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def to_size(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Returns scores ``(B,C,h,w)`` as float32 ``(B,C,*size)``: bilinear, align_corners=False.

    Args:
        scores: logits, probabilities or a matte, of any float dtype.
        size: height and width, as large as the frame's at most; nothing is averaged on the way to a
            smaller one.
    """
    return F.interpolate(scores.float(), tuple(size), mode="bilinear", align_corners=False)
