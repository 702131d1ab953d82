"""DABNet (Li et al. 2019) as a segmenter: official checkpoints and this project's own.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cbs_core.choose.knowing import find_weights
from cbs_core.choose.weights import load, load_into
from cbs_core.words import vocabularies
from cbs_plugins.nets.backbones import PICTURES, class_names, good_size, said_rgb
from cbs_plugins.nets.dabnet import IMAGENET_MEAN, MEANS, DABNet

if TYPE_CHECKING:
    from cbs_plugins.training.segmentation import SegmentationTask


SEEN = {"cityscapes": (512, 1024)}
"""Height and width of the pictures that the authors' net was trained on."""


class DABNetSegmenter(nn.Module):
    """DABNet with its preprocessing: ``(B,3,H,W)`` RGB in [0,1] -> logits at an eighth.

    A safetensors file may tell its ``vocabulary`` (a name) or ``classes`` (names, as JSON) and
    ``mean`` (RGB, 0..255, as JSON) in its metadata; of any other file the class count tells the
    vocabulary, and that the mean.

    Args:
        weights: a file. None takes ``dabnet/VOCABULARY.*`` or ``dabnet/dabnet_VOCABULARY.*`` from
            the weight folders (`cbs_core.choose.knowing.find_weights`).
        vocabulary: ``cityscapes`` (19 classes), ``camvid`` (11) or ``voc`` (21). None takes what
            the weights say.

    Raises:
        ConfigError: an unknown vocabulary.
        WeightsMissingError: no weights; there are no random ones.
        WeightsKeysError: the weights of another net, or of another class count.
    """

    # Peak resident memory on the CPU: 144 to 207 measured, by size and memory format.
    bytes_per_pixel = 208

    mean: Tensor

    def __init__(self, weights: str | None = None, vocabulary: str | None = None) -> None:
        super().__init__()
        checkpoint = load(weights if weights is not None else find_weights("dabnet", vocabulary))
        self.weights_files = (checkpoint.file,)

        classifier = checkpoint.tensors.get("classifier.0.conv.weight")
        count = 19 if classifier is None else len(classifier)
        self.net = DABNet(count)
        load_into(self.net, checkpoint, net="DABNet")

        said = checkpoint.metadata
        if vocabulary is None and "classes" in said:
            name = ""
            self.classes = class_names(checkpoint, count, vocabulary=None, classes=None)
        else:
            vocabulary = vocabulary or said.get("vocabulary")
            name = vocabularies.of_weights(checkpoint.file.path, count, vocabulary)
            self.classes = tuple(vocabularies.VOCABULARIES[name])
        self.good_size = good_size(checkpoint, self.classes, PICTURES | SEEN)
        mean = said_rgb(checkpoint, "mean") or MEANS.get(name, IMAGENET_MEAN)
        tensor = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
        self.register_buffer("mean", tensor, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,ceil(H/8),ceil(W/8))``."""
        logits: Tensor = self.net(image * 255 - self.mean)
        return logits

    @staticmethod
    def task(**params: object) -> "SegmentationTask":
        """Returns the training of a net (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_plugins.training.dabnet import create
        from cbs_plugins.training.segmentation import segmentation_task

        return segmentation_task(create, params, owner="training of the segmenter 'dabnet'")
