"""What the segmenters made of libraries of nets share: building, reading metadata, any frame size.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame, ``h w`` a net's output.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load
from cbs_core.contract.errors import ConfigError, WeightsError, closest
from cbs_core.contract.types import WeightsFile
from cbs_core.words import vocabularies
from cbs_core.words.vocabularies import names_of_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PICTURES: dict[str, tuple[int, int]] = {
    "voc": (384, 512),
    "camvid": (360, 480),
    "cityscapes": (1024, 2048),
    "ade20k": (512, 683),
    "coco": (480, 640),
    "coco_panoptic": (480, 640),
    "coco_stuff": (480, 640),
}
"""Height and width of the pictures of each data set, most of them or on average: what nets that are
trained on it are good at (`cbs_core.contract.attributes.HasGoodSize`)."""

SIZE_OPTIONS: tuple[dict[str, bool], ...] = (
    {},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)
"""How a timm net is told to take any size: convolutions need nothing; a ViT's way; a Swin's."""

FACTORS = (1, 2, 4, 8)
"""Of the stride: windowed attention and pooled pyramids want sides of more than one stride."""


class PaddedSegmenter(nn.Module):
    """Normalises frames, pads them to what the net takes, and cuts the logits to the frame.

    Args:
        net: ``(B,3,H',W')`` -> logits ``(B,K,h,w)`` that cover the same area.
        multiple: H' and W' are multiples of this, in pixels.
        mean: RGB, subtracted from the frame in [0,1].
        std: RGB, divides the difference.

    Raises:
        ConfigError: ``mean`` or ``std`` are not three numbers, or a ``std`` is 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, *, multiple: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.net = net
        self.multiple = multiple
        for name, values in (("mean", mean), ("std", std)):
            values = list(values)
            if not _is_rgb(values) or (name == "std" and 0 in values):
                raise ConfigError(f"segmenter.{name}={values} must be three numbers, none of std 0")
            tensor = torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,H,W)``, or smaller where nothing is cut."""
        height, width = image.shape[-2:]
        x = (image - self.mean) / self.std
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        logits: Tensor = self.net(x)
        if x.shape == image.shape:
            return logits
        if logits.shape[-2:] != x.shape[-2:]:
            logits = F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def create_for_any_size(
    create: Callable[..., nn.Module], stride: Callable[[Any], int], *, what: str
) -> tuple[nn.Module, int]:
    """Builds a net so that it takes pictures of any multiple of some size.

    Args:
        create: builds it; takes each of `SIZE_OPTIONS` by keyword or refuses it.
        stride: tells the stride of a net's coarsest features, in pixels.
        what: the net's name, for the message.

    Returns:
        The net, and the multiple, in pixels.

    Raises:
        ConfigError: it cannot be built, or only takes pictures of its own size.
    """
    reason: Exception | None = None
    for options in SIZE_OPTIONS:
        try:
            net = create(**options).eval()
        except Exception as error:  # each net refuses what it cannot do in its own way
            if not options:
                raise ConfigError(f"cannot build {what}: {_first_line(error)}") from error
            continue
        for factor in FACTORS:
            try:
                _try(net, stride(net) * factor)
            except Exception as error:  # likewise
                reason = reason or error
            else:
                return net, stride(net) * factor
    raise ConfigError(
        f"{what} takes only pictures of its own size ({_first_line(reason)}): choose a net that "
        "takes any"
    ) from reason


@torch.inference_mode()
def _try(net: nn.Module, side: int) -> None:
    net(torch.zeros(1, 3, side, 3 * side))


def _first_line(error: Exception | None) -> str:
    return str(error).partition("\n")[0]


def check_known(library: str, what: str, name: str, known: Iterable[str]) -> None:
    """Raises a `ConfigError` with the closest name, unless a library knows the name."""
    known = list(known)
    if name not in known:
        listed = f" (there are: {', '.join(known)})" if len(known) < 50 else ""
        raise ConfigError(f"{library} has no {what} '{name}'{closest(name, known)}{listed}")


def class_names(
    checkpoint: Checkpoint, count: int, *, vocabulary: str | None, classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the class names of a checkpoint: what is given, else its metadata's, else by count.

    The metadata may hold ``classes``, a JSON list, or ``vocabulary``.

    Raises:
        ConfigError: nothing tells the names, or an unknown vocabulary.
        WeightsKeysError: they are not ``count``.
        WeightsError: metadata that cannot be read.
    """
    if classes is None and vocabulary is None:
        classes = _said(checkpoint, "classes", "a JSON list of names", _is_names)
        vocabulary = checkpoint.metadata.get("vocabulary")
    file = checkpoint.file.path
    return names_of_weights(file, count, vocabulary=vocabulary, classes=classes)


def with_rest(checkpoint: Checkpoint) -> tuple[Checkpoint, tuple[WeightsFile, ...]]:
    """Returns weights with those that a file in their folder holds for them, and all the files.

    What a net shares with another to the bit is in the package once: the metadata ``beside`` names
    the file that holds it, ``things`` its SHA-256.

    Raises:
        WeightsError: there is no such file, or it is another one.
    """
    said = checkpoint.metadata
    if "beside" not in said:
        return checkpoint, (checkpoint.file,)
    path = checkpoint.file.path.with_name(Path(said["beside"]).name)
    rest = load(path, sha256=said.get("things"))
    whole = replace(checkpoint, tensors={**rest.tensors, **checkpoint.tensors})
    return whole, (checkpoint.file, rest.file)


def said_rgb(checkpoint: Checkpoint, key: str) -> list[float] | None:
    """Returns ``mean`` or ``std`` of the metadata, a JSON list of three numbers, or None.

    Raises:
        WeightsError: it is something else.
    """
    rgb: list[float] | None = _said(checkpoint, key, "a JSON list of three numbers", _is_rgb)
    return rgb


def good_size(
    checkpoint: Checkpoint,
    classes: Sequence[str],
    pictures: Mapping[str, tuple[int, int]] = PICTURES,
) -> tuple[int, int] | None:
    """Returns the size of the pictures that a net is good at, or None where nothing tells it.

    Args:
        checkpoint: whose metadata may tell it, ``good_size``, a JSON list of height and width.
        classes: its names, which else tell the data set.
        pictures: the size of each data set's.

    Raises:
        WeightsError: the metadata say something else.
    """
    told = _said(checkpoint, "good_size", "a JSON list of height and width", _is_size)
    if told is not None:
        return told[0], told[1]
    # A net of one output has a background beside its class.
    known = vocabularies.of_classes(classes)
    return next((pictures[n] for n in pictures if vocabularies.get(n) is known), None)


def _said(checkpoint: Checkpoint, key: str, due: str, is_due: Callable[[Any], bool]) -> Any:
    text = checkpoint.metadata.get(key)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not is_due(value):
        raise WeightsError(
            f"'{checkpoint.file.path}' says {key} = {text[:80]} in its metadata, where {due} is "
            "due: mend the file"
        )
    return value


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and side > 0 for side in value)
    )


def _is_rgb(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 3
        and all(type(value) in (int, float) and isfinite(value) for value in values)
    )
