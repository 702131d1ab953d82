"""Weights that a training begins with, also those of a net for other classes.

Letters: ``K`` classes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load_into
from cbs_core.contract.errors import CbsError
from cbs_core.datasets.labelled import class_map
from cbs_core.datasets.samples import log
from cbs_core.words.shares import BACKGROUND
from cbs_plugins.nets.backbones import class_names


def start_from(
    module: nn.Module, checkpoint: Checkpoint, classes: Sequence[str], *, net: str
) -> None:
    """Copies weights into a net, also those of the same net for other classes.

    A layer of one output a class then keeps what a class of the same name learnt. What the weights
    do not know begins as an equal part of their ``background``, where they have one, so that a net
    that learns more classes begins with all that it knew; else as the net's own initialisation.

    Args:
        module: the net.
        checkpoint: the weights.
        classes: the net's names, in channel order.
        net: its name, for messages.

    Raises:
        WeightsKeysError: the weights of another net.
    """
    own, theirs = module.state_dict(), checkpoint.tensors
    layers = [
        name
        for name, tensor in own.items()
        if tensor.ndim and len(tensor) == len(classes)
        if name in theirs and theirs[name].shape[1:] == tensor.shape[1:]
        if len(theirs[name]) != len(classes)
    ]
    anew = {}
    if layers:
        rows, known = _rows(checkpoint, len(theirs[layers[0]]), classes)
        anew = {name: _grown(own[name], theirs[name], rows) for name in layers}
        log.warning(
            "'%s' is of other classes: learnt anew are %s%s",
            *(checkpoint.file.path, ", ".join(layers)),
            f", but for the classes {', '.join(known)}" if known else "",
        )
    load_into(module, replace(checkpoint, tensors={**theirs, **anew}), net=net)


def _rows(
    checkpoint: Checkpoint, count: int, classes: Sequence[str]
) -> tuple[list[int | None], list[str]]:
    """Returns which output of theirs each class begins with, and which classes are theirs too."""
    try:
        names = class_names(checkpoint, count, vocabulary=None, classes=None)
    except CbsError:  # nothing tells their names
        return [None] * len(classes), []
    rest = names.index(BACKGROUND) if BACKGROUND in names else None
    found = class_map(classes, names).tolist()
    rows = [rest if index == len(names) else index for index in found]
    known = [name for name, row in zip(classes, rows, strict=True) if row not in (None, rest)]
    return rows, known


def _grown(own: Tensor, theirs: Tensor, rows: list[int | None]) -> Tensor:
    """Returns a layer's weights, or its biases, with a row a class."""
    grown = own.clone()
    for index, row in enumerate(rows):
        sharing = 0 if row is None else rows.count(row)
        if sharing == 1:
            grown[index] = theirs[row]
        elif sharing and own.ndim == 1:
            grown[index] = theirs[row] - math.log(sharing)
        elif sharing:
            # Rows that are alike would never learn to differ by their own gradients.
            grown[index] += theirs[row].to(own.dtype)
    return grown
