"""Pictures as people have them: Pillow's, numpy's or torch's; the same kind comes back.

Letters: ``B`` batch, ``H W`` the picture.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cbs_core.contract.errors import ConfigError

Back: TypeAlias = Callable[[Tensor], Any]
"""Takes float ``(B,3,H,W)`` in [0,1] and returns the kind that came in."""

KINDS = (
    "a Pillow image, a numpy array (H,W,3) or (H,W,4), a torch tensor (3,H,W) or (B,3,H,W), each "
    "uint8 or float in [0,1], or a path"
)


def taken(picture: object) -> tuple[Tensor, Back]:
    """Returns a picture as float32 ``(B,3,H,W)`` in [0,1], and the way back to its kind.

    Transparency, dtype, device and layout are kept.

    Raises:
        ConfigError: it is none of `KINDS`.
    """
    if isinstance(picture, Image.Image):
        return _of_pillow(picture)
    if isinstance(picture, np.ndarray):
        return _of_array(picture)
    if isinstance(picture, Tensor):
        return _of_tensor(picture)
    raise ConfigError(f"{type(picture).__name__} is no picture: give {KINDS}")


def _of_pillow(picture: Image.Image) -> tuple[Tensor, Back]:
    clear = picture.has_transparency_data
    image, back = _of_array(np.array(picture.convert("RGBA" if clear else "RGB")))
    return image, lambda out: Image.fromarray(back(out))


def _of_array(array: np.ndarray) -> tuple[Tensor, Back]:
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise ConfigError(f"an array of shape {array.shape} is no picture: give {KINDS}")
    colours, rest = array[..., :3], array[..., 3:]
    image, back = _of_tensor(torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1))

    def restored(out: Tensor) -> np.ndarray:
        made = back(out).permute(1, 2, 0).contiguous().numpy()
        return np.concatenate([made, rest], axis=2) if rest.shape[2] else made

    return image, restored


def _of_tensor(tensor: Tensor) -> tuple[Tensor, Back]:
    one = tensor.ndim == 3
    images = tensor[None] if one else tensor
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ConfigError(f"a tensor of shape {tuple(tensor.shape)} is no picture: give {KINDS}")
    whole = tensor.dtype == torch.uint8
    if not whole and not tensor.is_floating_point():
        raise ConfigError(f"a picture of {tensor.dtype} cannot be read: give {KINDS}")
    image = images.float().div_(255) if whole else images.float()

    def restored(out: Tensor) -> Tensor:
        made = out.mul(255).round_().clamp_(0, 255) if whole else out
        made = made.to(tensor.device, tensor.dtype)
        return made[0] if one else made

    return image, restored
