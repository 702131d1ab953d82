"""A timm backbone with a linear head: the usual probe of features trained without labels.

Letters: ``B`` batch, ``C`` channels, ``K`` classes, ``H W`` the frame, ``h w`` the finest features.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_core.contract.errors import ConfigError, WeightsKeysError, WeightsMissingError
from cbs_plugins.nets.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PaddedSegmenter,
    check_known,
    class_names,
    create_for_any_size,
    good_size,
    said_rgb,
)

ALL = "all"
"""The level that is every level: their features are upsampled to the finest and concatenated."""


class LinearHeadNet(nn.Module):
    """A backbone and a 1x1 convolution of its features: ``(B,3,H,W)`` -> logits ``(B,K,h,w)``.

    Args:
        backbone: of timm, made with ``features_only=True``.
        classes: K.
    """

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        info: Any = backbone.feature_info
        self.channels: list[int] = info.channels()
        self.stride = max(info.reduction())
        self.channels_last = getattr(backbone, "output_fmt", None) == "NHWC"
        self.head = nn.Conv2d(sum(self.channels), classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits of normalised pictures."""
        features: list[Tensor] = self.backbone(image)
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        # Each level by itself and then upsampled is the same sum, in less time and memory.
        kernels = torch.split(self.head.weight, self.channels, 1)
        logits = F.conv2d(features[0], kernels[0], self.head.bias)
        for feature, kernel in zip(features[1:], kernels[1:], strict=True):
            coarse = F.conv2d(feature, kernel)
            logits = logits + F.interpolate(
                coarse, logits.shape[-2:], mode="bilinear", align_corners=False
            )
        return logits


class TimmSegmenter(PaddedSegmenter):
    """A backbone of timm with a linear head, ``(B,3,H,W)`` RGB in [0,1] -> logits.

    Whatever is None is taken from the metadata of the safetensors file ``weights``: ``arch``,
    ``level`` and ``vocabulary`` as strings; ``classes``, ``mean`` and ``std`` as JSON lists.

    Args:
        arch: any of timm's models that gives features: ``resnet18``, ``convnext_tiny``, ...
        weights: a file with ``head.weight`` ``(K,C)`` or ``(K,C,1,1)``, ``head.bias`` and
            ``backbone.*``, the backbone's tensors as timm names them.
        backbone_weights: a file of the backbone alone, with or without timm's own classifier;
            replaces those in ``weights``.
        level: which of the backbone's features, from 0, the finest; -1 is the coarsest; ``all``
            upsamples them to the finest and concatenates them. Where nothing tells it, the
            coarsest with the head's C channels, else all.
        vocabulary: a name in `cbs_core.words.NAMES`; else the class count tells it.
        classes: the names in channel order, instead of a vocabulary.
        mean: RGB, subtracted from the picture in [0,1]; timm's for this model where nothing tells.
        std: RGB, divides the difference; likewise.

    Raises:
        ConfigError: an unknown model, level or vocabulary, a model without features or for
            pictures of one size only.
        WeightsMissingError: no weights; there are no random ones.
        WeightsKeysError: the weights of another net, or of another class count.
        WeightsError: metadata that cannot be read.
    """

    def __init__(
        self,
        arch: str | None = None,
        weights: str | None = None,
        backbone_weights: str | None = None,
        level: int | str | None = None,
        vocabulary: str | None = None,
        classes: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if weights is None:
            raise WeightsMissingError("timm has no heads of its own: give segmenter.weights=FILE")
        checkpoint = load(weights)
        said, file = checkpoint.metadata, checkpoint.file.path
        arch = arch or said.get("arch")
        if arch is None:
            raise ConfigError(f"'{file}' does not tell its backbone: give segmenter.arch=NAME")
        import timm

        if not timm.is_model(arch):
            check_known("timm", "model", arch, timm.list_models())

        head = _head(checkpoint)
        wanted = level if level is not None else said.get("level")
        index = _index(timm, arch, None if wanted is None else str(wanted), head.shape[1])

        def create(**options: bool) -> nn.Module:
            where = options if index is None else options | {"out_indices": (index,)}
            return LinearHeadNet(timm.create_model(arch, features_only=True, **where), len(head))

        what = f"timm's {arch} with a linear head"
        net, multiple = create_for_any_size(create, lambda net: net.stride, what=what)
        backbone = load(backbone_weights) if backbone_weights else _backbone(checkpoint)
        tensors = {
            "head.weight": head,
            "head.bias": checkpoint.tensors["head.bias"],
            **_named_as(net, backbone.tensors),
        }
        load_into(net, replace(backbone, tensors=tensors), net=what)

        cfg = timm.get_pretrained_cfg(arch)
        super().__init__(
            net,
            multiple=multiple,
            mean=mean or said_rgb(checkpoint, "mean") or (cfg.mean if cfg else IMAGENET_MEAN),
            std=std or said_rgb(checkpoint, "std") or (cfg.std if cfg else IMAGENET_STD),
        )
        self.weights_files = tuple(dict.fromkeys((checkpoint.file, backbone.file)))
        self.classes = class_names(checkpoint, len(head), vocabulary=vocabulary, classes=classes)
        self.good_size = good_size(checkpoint, self.classes)
        # Peak resident memory on the CPU at 21 classes, measured: resnet18 189, resnet50 491,
        # convnext_tiny 324, swin_tiny 399, vit_tiny 74, vgg11 806; 3.5 to 4.4 more a class.
        self.bytes_per_pixel = 750 + 5 * len(head)


def _head(checkpoint: Checkpoint) -> Tensor:
    """Returns the head's kernel, ``(K,C,1,1)``."""
    weight = checkpoint.tensors.get("head.weight")
    if weight is None or "head.bias" not in checkpoint.tensors:
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds no linear head: head.weight and head.bias are due"
        )
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    if weight.ndim != 4 or weight.shape[2:] != (1, 1):
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' has a head.weight of shape {tuple(weight.shape)}, where "
            "(K, C) or (K, C, 1, 1) is due"
        )
    return weight


def _backbone(checkpoint: Checkpoint) -> Checkpoint:
    """Returns the tensors ``backbone.*`` without that prefix."""
    tensors = {
        name.removeprefix("backbone."): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("backbone.")
    }
    if not tensors:
        raise WeightsMissingError(
            f"'{checkpoint.file.path}' holds a head and no backbone: give "
            "segmenter.backbone_weights=FILE"
        )
    return replace(checkpoint, tensors=tensors)


def _index(timm: Any, arch: str, level: str | None, channels: int) -> int | None:
    """Returns timm's index of the level that is wanted; None is all of them.

    Args:
        timm: the library.
        arch: the model.
        level: a number, ``all``, or None, which the channels tell.
        channels: C of the head.
    """
    try:
        info = timm.create_model(arch, features_only=True).feature_info
    except Exception as error:  # each model refuses in its own way
        raise ConfigError(f"timm's {arch} gives no features: {error}") from error
    have: list[int] = info.channels()
    if level is None:
        fitting = [number for number, of_level in enumerate(have) if of_level == channels]
        level = str(fitting[-1]) if fitting else ALL
    if level == ALL:
        return None
    if not re.fullmatch(r"-?\d+", level) or not -len(have) <= int(level) < len(have):
        raise ConfigError(
            f"segmenter.level={level} is no level of timm's {arch}: give 0..{len(have) - 1}, "
            f"-1 for the coarsest, or {ALL}"
        )
    index: int = info.out_indices[int(level)]
    return index


def _named_as(net: LinearHeadNet | nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a backbone's tensors as the net has them; others, such as a classifier, are left out.

    With ``features_only=True`` timm renames ``stages.0`` to ``stages_0``, or puts ``model.`` before
    everything.
    """
    wanted = {_plain(name): name for name in net.state_dict() if name.startswith("backbone.")}
    plain = {_plain(f"backbone.{name}"): tensor for name, tensor in tensors.items()}
    return {wanted[name]: tensor for name, tensor in plain.items() if name in wanted}


def _plain(name: str) -> str:
    return name.replace("_", ".").replace("backbone.model.", "backbone.")
