"""ESPNetv2 as a segmenter: its authors' checkpoints and their preprocessing.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_core.contract.errors import WeightsKeysError, WeightsMissingError
from cbs_core.words import vocabularies
from cbs_plugins.nets.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PICTURES,
    class_names,
    good_size,
    said_rgb,
)
from cbs_plugins.nets.espnetv2 import ESPNetv2

STRIDE = 32
"""Pixels: the sides of a picture are multiples of it, as in training."""


SEEN = {"voc": (384, 384), "cityscapes": (512, 1024)}
"""Height and width of the pictures that the release's nets were trained on, by their names."""


class ESPNetv2Segmenter(nn.Module):
    """ESPNetv2 with its preprocessing: ``(B,3,H,W)`` RGB in [0,1], any H and W -> logits.

    Frames are resized to the nearest multiple of `STRIDE`: on the masked validation photos of this
    project that gave 0.549 mIoU with the VOC weights, padding them 0.540.

    Width and class count are read from the tensors. The release's Cityscapes checkpoint has 20
    outputs: the 20th stands for what that data set leaves unlabelled, so it is no class of the
    vocabulary, and its channel is dropped.

    Args:
        weights: a file of the release (``espnetv2_s_2.0_pascal_384x384.pth``), or a safetensors
            file that may tell ``vocabulary``, ``classes``, ``mean`` and ``std`` in its metadata.
        vocabulary: ``voc`` (21 classes), ``cityscapes`` (19 or 20 outputs), ...; None takes what
            the weights say.

    Raises:
        ConfigError: an unknown vocabulary, or a class count that tells none.
        WeightsMissingError: no weights; there are no random ones.
        WeightsKeysError: the weights of another net, or of another class count.
    """

    # Peak resident memory on the CPU, measured: 416 to 455.
    bytes_per_pixel = 480

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | None = None, vocabulary: str | None = None) -> None:
        super().__init__()
        if weights is None:
            raise WeightsMissingError(
                "espnetv2 has no weights of its own: give segmenter.weights=FILE"
            )
        checkpoint = load(weights)
        widths, planes, outputs = _shape(checkpoint)
        self.net = ESPNetv2(outputs, widths, planes)
        load_into(self.net, checkpoint, net="ESPNetv2")
        for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            rgb = torch.tensor(said_rgb(checkpoint, name) or default).view(3, 1, 1)
            self.register_buffer(name, rgb, persistent=False)
        self.weights_files = (checkpoint.file,)
        cityscapes = len(vocabularies.get("cityscapes"))
        unlabelled = outputs == cityscapes + 1 and vocabulary in (None, "cityscapes")
        count = cityscapes if unlabelled else outputs
        self.classes = class_names(checkpoint, count, vocabulary=vocabulary, classes=None)
        self.good_size = good_size(checkpoint, self.classes, PICTURES | SEEN)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,h,w)``: H and W to multiples of `STRIDE`."""
        size = [max(1, round(side / STRIDE)) * STRIDE for side in image.shape[-2:]]
        x = F.interpolate((image - self.mean) / self.std, size, mode="bilinear")
        logits: Tensor = self.net(x)
        return logits[:, : len(self.classes)]


def _shape(checkpoint: Checkpoint) -> tuple[tuple[int, ...], int, int]:
    """Returns the encoder's widths, the decoder's planes and the number of outputs."""
    names = (
        "base_net.level1.act.weight",
        *(f"base_net.level{level}_0.act.weight" for level in (2, 3, 4)),
        "bu_br_l2.1.weight",
        "bu_dec_l4.merge_layer.3.bias",
    )
    try:
        *widths, planes, outputs = (len(checkpoint.tensors[name]) for name in names)
    except KeyError as error:
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds the weights of another net than ESPNetv2: it has no "
            f"tensor {error}"
        ) from error
    return tuple(widths), planes // 4, outputs
