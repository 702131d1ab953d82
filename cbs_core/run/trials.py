"""How long a stream may try what runs its nets fastest."""

from dataclasses import replace

from cbs_core.choose.sections import Choice
from cbs_core.contract.types import StreamInfo
from cbs_core.run.settings import Look

WORTH_TRIALS = 10
"""Frames of a size from which on ``accelerator=auto`` tries what is fastest; where all are of one
size all nets are built at first, those too whose classes may come later or never."""


def worth_trials(info: StreamInfo) -> bool:
    """Tells whether a stream has enough frames of each size that trying what is fastest pays."""
    return info.frames is None or info.frames / info.sizes >= WORTH_TRIALS


def unhurried(look: Look) -> Look:
    """Returns it without trials of accelerators.

    A trial takes longer than some frames do by plain torch; what an earlier run found is used.
    """
    return _trying(look, budget=0)


def counted(look: Look, info: StreamInfo) -> Look:
    """Returns it with trials of accelerators bounded by the stream's frames, where it tells them.

    A number that the user gave stays.
    """
    if info.frames is None or look.accelerator.params.get("frames") is not None:
        return look
    return _trying(look, frames=info.frames // (info.sizes or 1))


def _trying(look: Look, **params: object) -> Look:
    if look.accelerator.name != "auto":
        return look
    return replace(look, accelerator=Choice("auto", {**look.accelerator.params, **params}))
