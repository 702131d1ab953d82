"""Streams of plans that a test puts together by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import Whole
from cbs_core.run.stream import Stream


def plan_of(
    *,
    stylers: Mapping[str, Stage],
    routes: Sequence[Route],
    device: torch.device | str = "cpu",
    **kind: Any,
) -> Plan:
    """Returns a plan whose stylers restyle whole pictures."""
    stylings = {style: Whole(stage) for style, stage in stylers.items()}
    return Plan(stylings=stylings, routes=tuple(routes), device=torch.device(device), **kind)


def stream_of(*, ahead: bool = False, **kind: Any) -> Stream:
    """Returns the stream of such a plan."""
    return Stream(plan_of(**kind), ahead=ahead)
