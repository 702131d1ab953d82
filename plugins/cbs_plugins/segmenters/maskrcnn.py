"""Mask R-CNN (He et al. 2017, 1703.06870), torchvision's: a mask for every single object.

Letters: ``B`` batch, ``K`` classes, ``N`` objects, ``H W`` the frame.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, available, load, load_into, search_folders
from cbs_core.contract.errors import (
    ConfigError,
    WeightsHashError,
    WeightsKeysError,
    WeightsMissingError,
    closest,
)
from cbs_core.contract.types import Instances
from cbs_core.temporal import objects
from cbs_core.words import vocabularies

log = logging.getLogger("cbs")

COCO = "coco"
"""The name of torchvision's own weights."""

BACKGROUND = "background"

UNUSED = "N/A"
"""torchvision's name of the COCO categories that have no pictures."""

MIN_SIZE = 800
"""Pixels; torchvision's size of the shortest side, where `max_size` allows it."""


class DetectionSegmenter(nn.Module):
    """A torchvision detection net with masks as an `InstanceSegmenter`.

    It waits for the device: torchvision's choice of boxes depends on the picture.

    Args:
        net: a list of ``(3,H,W)`` RGB in [0,1] -> a list of dicts with ``labels``, ``scores`` and
            ``masks``, such as `torchvision.models.detection.MaskRCNN`.
        names: of its labels, from 0, the background; `UNUSED` ones are left out.
    """

    index: Tensor

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        used = [label for label, name in enumerate(names) if name != UNUSED]
        self.classes = tuple(names[label] for label in used)
        index = torch.full((len(names),), -1)
        index[used] = torch.arange(len(used))
        self.register_buffer("index", index, persistent=False)

    def instances(self, image: Tensor) -> list[Instances]:
        """Returns the objects of each frame of ``(B,3,H,W)`` RGB in [0,1], surest first."""
        found = []
        for result in self.net(list(image)):
            classes = self.index[result["labels"]]
            used = classes > 0
            found.append(Instances(result["masks"][used, 0], classes[used], result["scores"][used]))
        return found

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,H,W)``."""
        return objects.logits(self.instances(image), len(self.classes))


class MaskRCNNSegmenter(DetectionSegmenter):
    """Mask R-CNN on a ResNet with a feature pyramid, weights by file or torchvision's own.

    Args:
        weights: a file with torchvision's names, or ``coco``: torchvision's own, from
            ``maskrcnn/`` in the weight folders, else from torch.hub's cache, else downloaded into
            it; the file's name holds the start of its SHA-256, which is checked. A safetensors
            file may tell its ``classes`` (a JSON list) in its metadata.
        arch: ``v1`` or ``v2`` (Li et al. 2021, 2111.11429).
        backbone: a ResNet of torchvision; v2 is only made on ``resnet50``.
        vocabulary: ``voc``, ``coco`` or another of `cbs_core.words.vocabularies`, of a file; None
            is told by the count, where 91 is torchvision's COCO.
        classes: names of the labels from 1 on, of a file that has no vocabulary's.
        score_threshold: objects of less confidence are left out, in [0, 1].
        max_size: longest side that the net sees, in pixels.

    Raises:
        ConfigError: an unknown architecture, backbone or vocabulary, or a value out of range.
        WeightsMissingError: no such file, and none can be downloaded.
        WeightsHashError: torchvision's file is damaged.
        WeightsKeysError: the weights of another net, or of another class count.
    """

    # Peak resident memory on the CPU with 100 objects, measured: 870 to 930 at 1920x1080. Smaller
    # frames cost more a pixel, because the net's own half GiB does not shrink with them.
    bytes_per_pixel = 1000

    def __init__(
        self,
        weights: str = COCO,
        arch: str = "v1",
        backbone: str = "resnet50",
        vocabulary: str | None = None,
        classes: Sequence[str] | None = None,
        score_threshold: float = 0.5,
        max_size: int = 1333,
    ) -> None:
        if not 0 <= score_threshold <= 1:
            raise ConfigError(f"segmenter.score_threshold={score_threshold} is outside 0..1")
        if max_size < 1:
            raise ConfigError(f"segmenter.max_size={max_size} must be at least 1")
        official = _official(arch, backbone)
        checkpoint = _load_coco(official) if weights == COCO else load(weights)
        scores = checkpoint.tensors.get("roi_heads.box_predictor.cls_score.weight")
        if scores is None:
            raise WeightsKeysError(
                f"'{checkpoint.file.path}' holds the weights of another net than Mask R-CNN: it "
                "has no tensor roi_heads.box_predictor.cls_score.weight"
            )
        names = _names(checkpoint, len(scores), vocabulary, classes, official.meta["categories"])
        net = create(
            arch,
            backbone,
            num_classes=len(scores),
            min_size=min(MIN_SIZE, max_size),
            max_size=max_size,
            box_score_thresh=score_threshold,
        )
        if arch == "v1" and _is(checkpoint, official):
            _without_eps(net)
        what = f"torchvision's Mask R-CNN {arch} on {backbone}"
        load_into(net, _modern(checkpoint, net), net=what)
        super().__init__(net, names)
        self.weights_files = (checkpoint.file,)


def _official(arch: str, backbone: str) -> Any:
    """Returns torchvision's own weights of an architecture: their URL, and COCO's categories."""
    from torchvision.models import detection, resnet

    official = {
        "v1": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        "v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    }
    _check("arch", arch, official)
    resnets = [name for name in resnet.__all__ if name.islower()]
    _check("backbone", backbone, resnets if arch == "v1" else ["resnet50"])
    return official[arch]


def _check(key: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise ConfigError(
            f"maskrcnn has no {key} '{name}'{closest(name, known)} (there are: {', '.join(known)})"
        )


def create(arch: str, backbone: str, **options: Any) -> nn.Module:
    """Returns torchvision's net, untrained.

    Args:
        arch: ``v1`` or ``v2``.
        backbone: a ResNet of torchvision; v2 ignores it.
        options: of `torchvision.models.detection.MaskRCNN`, such as ``num_classes``.
    """
    """Returns torchvision's net, untrained; its tensors are named as torchvision's.

    Args:
        arch: ``v1`` or ``v2``.
        backbone: a ResNet of torchvision; v2 ignores it.
        options: of `torchvision.models.detection.MaskRCNN`, such as ``num_classes``.
    """
    from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    if arch == "v2":
        net: nn.Module = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **options)
        return net
    pyramid = resnet_fpn_backbone(
        backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    net = MaskRCNN(pyramid, **options)
    return net


def _without_eps(net: nn.Module) -> None:
    """Sets the normalisation as torchvision's v1 weights were trained (its pull request 2933)."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0


def _modern(checkpoint: Checkpoint, net: nn.Module) -> Checkpoint:
    """Returns the tensors by today's names, with the counters that frozen normalisation lacks."""
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items()}
    counters = {
        name: tensor
        for name, tensor in net.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    return replace(checkpoint, tensors=counters | tensors)


def _renamed(name: str) -> str:
    """Returns today's name of a tensor; torchvision's v1 file has those until version 0.12."""
    name = re.sub(r"(\.fpn\.\w+_blocks\.\d)\.(weight|bias)$", r"\1.0.\2", name)
    name = re.sub(r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2", name)
    return re.sub(r"mask_fcn(\d)\.", lambda found: f"{int(found[1]) - 1}.0.", name)


def _names(
    checkpoint: Checkpoint,
    count: int,
    vocabulary: str | None,
    classes: Sequence[str] | None,
    coco: Sequence[str],
) -> tuple[str, ...]:
    """Returns the names of labels 0 to count - 1."""
    if classes is None and vocabulary is None and "classes" in checkpoint.metadata:
        classes = json.loads(checkpoint.metadata["classes"])
    if classes is None and vocabulary in (None, COCO) and count == len(coco):
        classes = coco[1:]
    if classes is None:
        # The background is a label of every detection net, and of few vocabularies.
        known = {name: _objects(words) for name, words in vocabularies.VOCABULARIES.items()}
        if vocabulary is None:
            vocabulary = next((n for n, words in known.items() if len(words) == count - 1), None)
        if vocabulary is None:
            raise ConfigError(
                f"'{checkpoint.file.path}' has {count - 1} classes without names: give "
                "segmenter.classes=[NAME,...]"
            )
        vocabularies.get(vocabulary)
        classes = known[vocabulary]
    if len(classes) != count - 1:
        raise WeightsKeysError(
            f"wrong class count: '{checkpoint.file.path}' was trained for {count - 1} classes "
            f"beside the background, but {len(classes)} are named: give "
            "segmenter.classes=[NAME,...]"
        )
    return (BACKGROUND, *classes)


def _objects(words: Iterable[str]) -> list[str]:
    return [word for word in words if word != BACKGROUND]


def _load_coco(official: Any) -> Checkpoint:
    """Finds or downloads torchvision's own weights, and checks them against their name."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / official.url.rpartition("/")[2]
    file = available("maskrcnn").get(cached.stem, cached)
    if not file.is_file():
        _download(official.url, file)
    checkpoint = load(file)
    if not _is(checkpoint, official):
        raise WeightsHashError(
            f"'{file}' is damaged: its SHA-256 does not start as its name says. Remove it, and it "
            "is downloaded again"
        )
    return checkpoint


def _is(checkpoint: Checkpoint, official: Any) -> bool:
    return checkpoint.file.sha256.startswith(_digest(official.url))


def _digest(url: str) -> str:
    """Returns the start of the SHA-256, which torchvision puts into a file's name."""
    return url.removesuffix(".pth").rpartition("-")[2]


def _download(url: str, file: Path) -> None:
    log.warning("downloading %s to %s", url, file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), _digest(url), sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise WeightsMissingError(
            f"{url} cannot be downloaded ({error}): get it elsewhere and put it as "
            f"maskrcnn/{file.name} into one of: {', '.join(map(str, search_folders()))}; or give "
            "other weights with segmenter.weights=FILE"
        ) from error
