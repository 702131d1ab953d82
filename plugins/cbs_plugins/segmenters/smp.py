"""Any segmentation-models-pytorch architecture on any of its or timm's encoders, weights by file.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.knowing import find_weights
from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_core.contract.errors import (
    ConfigError,
    WeightsError,
    WeightsKeysError,
    WeightsMissingError,
)
from cbs_core.contract.types import WeightsFile
from cbs_plugins.nets.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PaddedSegmenter,
    check_known,
    class_names,
    create_for_any_size,
    good_size,
    said_rgb,
    with_rest,
)
from cbs_plugins.nets.smp import Summed, is_summed, trim
from cbs_plugins.nets.stuff import ThingsAndStuff

if TYPE_CHECKING:
    from cbs_plugins.training.segmentation import SegmentationTask

OURS = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation")
"""Parameters of a hub checkpoint that are not passed on: weights are its own, logits are wanted."""

ENCODER_OPTIONS = ("dynamic_img_size", "img_size", "decoder_use_batchnorm")
"""Keywords that smp's models take without naming them. Others could make timm open files."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Weights and what is said of the net they belong to."""

    checkpoint: Checkpoint
    files: tuple[WeightsFile, ...]
    arch: str | None
    encoder: str | None
    options: Mapping[str, Any]
    """Further parameters of the architecture's constructor."""

    trimmed: bool = False
    """See `cbs_plugins.nets.smp.trim`."""


class SMPSegmenter(PaddedSegmenter):
    """A model of github.com/qubvel-org/segmentation_models.pytorch.

    It takes ``(B,3,H,W)`` RGB in [0,1], any H and W, and returns logits ``(B,K,H,W)``.

    Whatever is None is taken from the metadata of a safetensors file: ``arch``, ``encoder`` and
    ``vocabulary`` as strings; ``classes``, ``mean`` and ``std`` as JSON lists. A model with one
    output (a sigmoid's) gets a class ``background`` beside it, whose logit is 0. Weights named
    ``stuff.*`` are those of `cbs_plugins.nets.stuff.ThingsAndStuff`; a file that holds nothing else
    names in ``beside`` the one in its folder that holds the rest, by its SHA-256 in ``things``.

    Args:
        arch: ``unet``, ``fpn``, ``deeplabv3plus``, ...; see ``smp.create_model``.
        encoder: of the library itself, else of timm, with or without the prefix ``tu-``.
        weights: a file with the model's state dict, or a folder that ``model.save_pretrained``
            wrote, whose ``config.json`` tells the architecture and all its parameters. None takes
            ``smp/VOCABULARY.*`` from the weight folders (`find_weights`).
        vocabulary: a name in `cbs_core.words.NAMES`; else the class count tells it.
        classes: the names in channel order, instead of a vocabulary.
        mean: RGB, subtracted from the picture in [0,1]; ImageNet's where nothing tells it.
        std: RGB, divides the difference; likewise.

    Raises:
        ConfigError: an unknown architecture, encoder or vocabulary, or one that nothing tells, or
            an encoder that only takes pictures of one size.
        WeightsMissingError: no weights; there are no random ones.
        WeightsKeysError: the weights of another net, or of another class count.
        WeightsError: a ``config.json`` or metadata that cannot be read.
    """

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
        source = _read(
            find_weights("smp", vocabulary) if weights is None else Path(weights).expanduser()
        )
        checkpoint = source.checkpoint
        count = _class_count(checkpoint)

        arch, encoder = arch or source.arch, encoder or source.encoder
        if arch is None or encoder is None:
            raise ConfigError(
                f"'{checkpoint.file.path}' does not tell its architecture: give "
                "segmenter.arch=NAME and segmenter.encoder=NAME"
            )
        net, multiple = _create(arch, encoder, count, source)
        load_into(net, checkpoint, net=f"smp's {arch} on {encoder}")
        # An auxiliary classifier of the whole picture; the net would return its output too.
        net.classification_head = None
        if not isinstance(net, Summed) and is_summed(net.decoder, net.segmentation_head):
            net = Summed(net)
        super().__init__(
            net,
            multiple=multiple,
            mean=mean or said_rgb(checkpoint, "mean") or IMAGENET_MEAN,
            std=std or said_rgb(checkpoint, "std") or IMAGENET_STD,
        )
        self.weights_files = source.files
        # Peak resident memory on the CPU at 21 classes, measured with resnet34: linknet 565, manet
        # 467, unet 408 to 637, deeplabv3plus 512, upernet 1194, unetplusplus 1174 to 1400; dpt on
        # vit_tiny 831, segformer on mit_b0 752; 4 more a class.
        heavy = arch.lower() in ("unetplusplus", "upernet")
        self.bytes_per_pixel = (1400 if heavy else 850) + 5 * count

        if isinstance(net, ThingsAndStuff):
            count += net.stuff.classes - 1
        names = class_names(checkpoint, count, vocabulary=vocabulary, classes=classes)
        self.classes = names if count > 1 else ("background", *names)
        self.good_size = good_size(checkpoint, names)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,H,W)``."""
        logits = super().forward(image)
        # softmax([0, z]) is sigmoid(z).
        return F.pad(logits, (0, 0, 0, 0, 1, 0)) if logits.shape[1] == 1 else logits

    @staticmethod
    def task(**params: object) -> "SegmentationTask":
        """Returns the training of a net (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_plugins.training.segmentation import segmentation_task
        from cbs_plugins.training.smp import create

        return segmentation_task(create, params, owner="training of the segmenter 'smp'")


def _read(path: Path) -> _Source:
    """Reads a file, or a folder as ``model.save_pretrained`` writes it."""
    if not path.is_dir():
        checkpoint, files = with_rest(load(path))
        said = checkpoint.metadata
        return _Source(
            checkpoint,
            files,
            said.get("arch"),
            said.get("encoder"),
            _json(checkpoint, "options", dict) or {},
            _json(checkpoint, "trimmed", bool) or False,
        )
    file = path / "config.json"
    if not file.is_file():
        raise WeightsMissingError(
            f"the folder '{path}' has no config.json: give one that model.save_pretrained(FOLDER) "
            "wrote, or a file"
        )
    try:
        data = file.read_bytes()
        config = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"'{file}' is no JSON that can be read ({error}): check it") from error
    for key in ("_model_class", "encoder_name"):
        if not isinstance(config, dict) or not isinstance(config.get(key), str):
            raise WeightsError(
                f"'{file}' tells no {key}: it is not of segmentation-models-pytorch's "
                "save_pretrained"
            )
    if config.get("in_channels", 3) != 3:
        raise WeightsError(
            f"'{file}' is of a net for pictures of {config['in_channels']} channels: only RGB is "
            "segmented"
        )
    checkpoint = load(path / "model.safetensors")
    digest = WeightsFile(file, hashlib.sha256(data).hexdigest())
    arch, encoder = config.pop("_model_class"), config["encoder_name"]
    options = {key: value for key, value in config.items() if key not in OURS}
    return _Source(checkpoint, (checkpoint.file, digest), arch, encoder, options)


def _json(checkpoint: Checkpoint, key: str, kind: type) -> Any:
    """Returns a value of the metadata, or None where there is none."""
    text = checkpoint.metadata.get(key)
    try:
        value = None if text is None else json.loads(text)
    except ValueError:
        value = text
    if value is not None and not isinstance(value, kind):
        raise WeightsError(
            f"'{checkpoint.file.path}' says {key} = {str(text)[:80]} in its metadata, where a JSON "
            f"{kind.__name__} is due: mend the file"
        )
    return value


def _class_count(checkpoint: Checkpoint) -> int:
    kernels = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("segmentation_head.") and tensor.ndim == 4
    }
    if not kernels:
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds the weights of another net than one of smp: it has no "
            f"tensors named segmentation_head.*: {checkpoint.remedy}"
        )
    # The head is numbered in its own order, which a safetensors file does not keep.
    last = max(kernels, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    return len(kernels[last])


def _create(arch: str, encoder: str, count: int, source: _Source) -> tuple[Any, int]:
    """Returns the net, and the multiple in pixels that the sides of its pictures must be."""
    # Imported late: the two take seconds, which only a run that needs them should pay.
    import segmentation_models_pytorch as smp
    import timm

    check_known("smp", "architecture", arch.lower(), smp.MODEL_ARCHITECTURES_MAPPING)
    own = smp.encoders.get_encoder_names()
    if encoder not in own:
        encoder = encoder.removeprefix("tu-")
        if not timm.is_model(encoder):
            check_known("smp", "encoder", encoder, [*own, *timm.list_models()])
        encoder = f"tu-{encoder}"
    model = smp.MODEL_ARCHITECTURES_MAPPING[arch.lower()]
    known = {*inspect.signature(model).parameters, *ENCODER_OPTIONS}
    if unknown := sorted(source.options.keys() - known):
        raise WeightsError(
            f"'{source.files[-1].path}' has parameters that smp's {arch} does not take: "
            f"{', '.join(unknown)}"
        )
    given = {**source.options, "encoder_weights": None, "classes": count}

    def create(**options: bool) -> nn.Module:
        net: nn.Module = model(encoder, **options | given)
        return net

    net, multiple = create_for_any_size(
        create, lambda net: net.encoder.output_stride, what=f"smp's {arch} on {encoder}"
    )
    if source.trimmed:
        trim(net)
    weights = source.checkpoint.tensors
    if "stuff.head.weight" in weights and "stuff.whole.weight" in weights:
        stuff, width = len(weights["stuff.head.weight"]), len(weights["stuff.whole.weight"])
        net = ThingsAndStuff(net, stuff, width)
    return net, multiple
