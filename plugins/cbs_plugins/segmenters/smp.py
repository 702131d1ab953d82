"""Any segmentation-models-pytorch architecture on any of its or timm's encoders, weights by file.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core import vocabularies
from cbs_core.errors import (
    ConfigError,
    PluginLoadError,
    WeightsKeysError,
    WeightsMissingError,
    closest,
)
from cbs_core.weights import Checkpoint, load, load_into

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MULTIPLE = 32
"""Encoders halve the size five times, and decoders join the halves without cropping."""


class SMPSegmenter(nn.Module):
    """A model of github.com/qubvel-org/segmentation_models.pytorch.

    It takes ``(B,3,H,W)`` RGB in [0,1], any H and W, and returns logits ``(B,K,H,W)``.

    Whatever is None is taken from the metadata of a safetensors file: ``arch``, ``encoder`` and
    ``vocabulary`` as strings; ``classes``, ``mean`` and ``std`` as JSON lists. A model with one
    output (a sigmoid's) gets a class ``background`` beside it, whose logit is 0.

    Args:
        arch: ``unet``, ``fpn``, ``deeplabv3plus``, ...; see ``smp.create_model``.
        encoder: of the library itself, else of timm, with or without the prefix ``tu-``.
        weights: a file with the model's state dict.
        vocabulary: ``cityscapes``, ``camvid`` or ``voc``; else the class count tells it.
        classes: the names in channel order, instead of a vocabulary.
        mean: RGB, subtracted from the picture in [0,1]; ImageNet's where nothing tells it.
        std: RGB, divides the difference; likewise.

    Raises:
        ConfigError: an unknown architecture, encoder or vocabulary, or one that nothing tells.
        PluginLoadError: segmentation-models-pytorch is not installed.
        WeightsMissingError: no weights; there are no random ones.
        WeightsKeysError: the weights of another net, or of another class count.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str | None = None,
        encoder: str | None = None,
        weights: str | None = None,
        vocabulary: str | None = None,
        classes: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if weights is None:
            raise WeightsMissingError("smp has no weights of its own: give segmenter.weights=FILE")
        checkpoint = load(weights)
        self.weights_files = (checkpoint.file,)
        said = checkpoint.metadata
        count = _class_count(checkpoint)

        arch, encoder = arch or said.get("arch"), encoder or said.get("encoder")
        if arch is None or encoder is None:
            raise ConfigError(
                f"'{checkpoint.file.path}' does not tell its architecture: give "
                "segmenter.arch=NAME and segmenter.encoder=NAME"
            )
        self.net = _create(arch, encoder, count)
        # Peak resident memory on the CPU with resnet34, measured: unet 537 to 637, deeplabv3plus
        # 512, unetplusplus, which keeps every scale at once, 1400.
        self.bytes_per_pixel = 1400 if arch.lower() == "unetplusplus" else 700
        load_into(self.net, checkpoint, net=f"smp's {arch} on {encoder}")

        if classes is None and vocabulary is None and "classes" in said:
            classes = json.loads(said["classes"])
        vocabulary = vocabulary or said.get("vocabulary")
        self.classes = _names(checkpoint, count, vocabulary, classes)

        for name, given, default in (("mean", mean, IMAGENET_MEAN), ("std", std, IMAGENET_STD)):
            value = given or (json.loads(said[name]) if name in said else default)
            tensor = torch.tensor(list(value), dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,H,W)``."""
        height, width = image.shape[-2:]
        x = (image - self.mean) / self.std
        x = F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        logits: Tensor = self.net(x)[..., :height, :width]
        # softmax([0, z]) is sigmoid(z).
        return F.pad(logits, (0, 0, 0, 0, 1, 0)) if logits.shape[1] == 1 else logits


def _class_count(checkpoint: Checkpoint) -> int:
    kernels = [
        tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("segmentation_head.") and tensor.ndim == 4
    ]
    if not kernels:
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds the weights of another net than one of smp: it has no "
            "tensors named segmentation_head.*"
        )
    return len(kernels[-1])


def _names(
    checkpoint: Checkpoint, count: int, vocabulary: str | None, classes: Iterable[str] | None
) -> tuple[str, ...]:
    file = checkpoint.file.path
    if classes is None and count == 1:
        raise ConfigError(f"'{file}' has one class without a name: give segmenter.classes=[NAME]")
    if classes is None:
        return tuple(vocabularies.get(vocabularies.of_weights(file, count, vocabulary)))
    names = tuple(classes)
    if len(names) != count:
        raise WeightsKeysError(
            f"wrong class count: '{file}' was trained for {count} classes, segmenter.classes has "
            f"{len(names)}"
        )
    return names if count > 1 else ("background", *names)


def _create(arch: str, encoder: str, count: int) -> nn.Module:
    try:
        import segmentation_models_pytorch as smp
        import timm
    except ImportError as error:
        raise PluginLoadError(
            f"smp needs {error.name}: pip install 'class-based-styling[smp]'"
        ) from error
    _check("architecture", arch.lower(), smp.MODEL_ARCHITECTURES_MAPPING)
    own = smp.encoders.get_encoder_names()
    if encoder not in own:
        encoder = encoder.removeprefix("tu-")
        if not timm.is_model(encoder):
            _check("encoder", encoder, [*own, *timm.list_models()])
        encoder = f"tu-{encoder}"
    options: dict[str, Any] = {"encoder_weights": None, "classes": count}
    try:
        model: nn.Module = smp.create_model(arch, encoder, **options)
    except Exception as error:  # each encoder refuses an architecture in its own way
        raise ConfigError(f"smp cannot build {arch} on {encoder}: {error}") from error
    return model


def _check(what: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        listed = f" (there are: {', '.join(known)})" if len(known) < 50 else ""
        raise ConfigError(f"smp has no {what} '{name}'{closest(name, known)}{listed}")
