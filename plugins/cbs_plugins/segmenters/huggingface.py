"""Any semantic or universal segmentation checkpoint of transformers, by name or folder."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cbs_core.contract.errors import ConfigError, WeightsError, closest
from cbs_plugins.formats import hub
from cbs_plugins.nets.transformers import MapSegmenter, QuerySegmenter, UniversalSegmenter

FILMS = ("videomt",)
"""Families of nets that see films, not pictures."""

TASKS = ("semantic", "instance", "panoptic")


def create(
    model: str | None = None,
    revision: str | None = None,
    threshold: float = 0.5,
    task: str | None = None,
) -> MapSegmenter:
    """Returns a checkpoint of transformers as a segmenter.

    It takes ``(B,3,H,W)`` RGB in [0,1], any H and W, and returns logits ``(B,K,h,w)``. Frames are
    prepared as the checkpoint's own image processor prepares pictures, on their device, but never
    cut at the middle. Universal nets (MaskFormer, Mask2Former, OneFormer, EoMT, DETR) also tell
    objects apart, for ``select=``; their first class is ``background``.

    Args:
        model: a folder, or a name on the Hub, ``nvidia/segformer-b0-finetuned-ade-512-512``.
        revision: branch, tag or commit on the Hub.
        threshold: confidence from which a mask of a universal net is an object, in [0,1].
        task: of OneFormer: ``semantic``, ``instance`` or ``panoptic``; None is the last.

    Raises:
        ConfigError: no model, or a value out of range.
        PluginLoadError: transformers is not installed.
        WeightsMissingError: there is no such model, or no network.
        WeightsError: no safetensors, a net that needs code of its own, or no net for segmentation.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"segmenter.threshold={threshold} is outside 0..1")
    if task not in (None, *TASKS):
        near = closest(str(task), TASKS)
        raise ConfigError(f"segmenter.task={task} is none of {', '.join(TASKS)}{near}")
    found = hub.find(model, revision, key="segmenter.model", check=_check)
    name, is_universal = families()[found.config["model_type"]]
    kind = getattr(hub.library(), name)
    config = _config(found)
    net = hub.load(found, kind, config)
    names = class_names(config.id2label)
    if config.model_type == "oneformer":
        # Its processor would fetch names that config.id2label has as well.
        processor = hub.processor(found, class_info_file=None)
        inputs = {"task_inputs": _task(found, config, task or "panoptic")}
        return UniversalSegmenter(net, processor, names, found.files, inputs, threshold)
    processor = hub.processor(found)
    if not is_universal:
        return MapSegmenter(net, processor, names, found.files)
    if getattr(processor, "do_split_image", False):
        # A mask of one window knows nothing of the others': there are no objects.
        return QuerySegmenter(net, processor, names, found.files)
    return UniversalSegmenter(net, processor, names, found.files, threshold=threshold)


def families() -> Mapping[str, tuple[str, bool]]:
    """Returns the families of nets by transformers' names: the class, and whether universal."""
    from transformers.models.auto import modeling_auto

    semantic = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    universal = modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    found = {name: (net, False) for name, net in semantic.items()}
    found |= {name: (net, True) for name, net in universal.items() if name not in FILMS}
    return found


def _check(model: str, config: Mapping[str, Any]) -> None:
    """Refuses what was not trained to segment (`hub.Check`)."""
    kind = str(config.get("model_type"))
    known = families()
    trained = [str(one) for one in config.get("architectures") or ()]
    name, _ = known.get(kind, ("", False))
    if not name or (trained and name not in trained):
        raise WeightsError(
            f"'{model}' is {', '.join(trained) or kind}, which does not segment pictures into "
            f"classes: choose one of the families {', '.join(sorted(known))}"
        )


def _config(found: hub.Pretrained) -> Any:
    from transformers import AutoConfig

    try:
        with hub.quiet():
            config = AutoConfig.from_pretrained(found.folder, trust_remote_code=False)
    except Exception as error:  # each configuration refuses in its own way
        raise WeightsError(
            f"'{found.name}' has a config.json that transformers does not take "
            f"({' '.join(str(error).split())[:160]})"
        ) from error
    if hasattr(config, "use_pretrained_backbone"):
        config.use_pretrained_backbone = False
    return config


def class_names(labels: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the names of labels 0, 1, ..., each once: of several words for one, the first.

    Example:
        >>> class_names({0: "wall", 1: "person, individual", 2: "wall"})
        ('wall', 'person', 'wall 2')
    """
    full = [str(labels[index]).strip() for index in sorted(labels)]
    short = [_first(name) for name in full]
    names: list[str] = []
    for name in short if len({*short}) >= len({*full}) else full:
        name, copies = name or "unnamed", 2
        unique = name
        while unique in names:
            unique, copies = f"{name} {copies}", copies + 1
        names.append(unique)
    return tuple(names)


def _first(name: str) -> str:
    for mark in ";,":
        name = name.partition(mark)[0]
    return name.strip()


def _task(found: hub.Pretrained, config: Any, task: str) -> Tensor:
    """Returns OneFormer's task as tokens ``(1, L)``."""
    tokens = hub.tokenizer(found)(
        [f"the task is {task}"],
        padding="max_length",
        max_length=config.task_seq_len,
        truncation=True,
        return_tensors="pt",
    )
    ids: Tensor = tokens["input_ids"] * tokens["attention_mask"]
    return ids
