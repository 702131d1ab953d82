"""Colours of splats refined: what is drawn of them is brought nearer to the styled views' features.

Least squares give a splat the mean of what the strokes of several views say of it, and a mean of
strokes is paler than a stroke. Which stroke lies where is no matter to a distance that looks for
like features anywhere, as ARF's nearest neighbours (Zhang et al. 2022, 2206.06360). Colours alone
are refined, as StyleSplat does (Jain et al. 2024, 2407.09473): shapes stay.

Letters: ``n`` splats that are refined, ``P`` pixels of a view.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from cbs_core.choose.registry import guarded
from cbs_core.contract.errors import PluginContractError
from cbs_core.contract.extensions import Distance
from cbs_core.scene.restyled import Progress
from cbs_core.scene.solving import Asked
from cbs_core.scene.splatting import Weights
from cbs_core.scene.types import Floats

RATE = 0.02
"""Of Adam: colours move by so much a step."""

NEAR = 1.0
"""Weight of the squared distance to the views' colours, beside the net's."""


LEAST_MATTE = 0.02
BESIDE = 16
"""Pixels around what is refined that a net sees too; more than its least picture."""


class _Drawn(torch.autograd.Function):
    """A view of colours; its gradient is the transpose of the linear map."""

    @staticmethod
    def forward(ctx: FunctionCtx, colours: Tensor, weights: Weights) -> Tensor:
        ctx.weights = weights  # type: ignore[attr-defined]
        drawn = np.asarray(weights @ colours.detach().cpu().numpy(), np.float32)
        return torch.from_numpy(drawn).to(colours.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        back = np.asarray(ctx.weights.T @ gradient.cpu().numpy(), np.float32)
        return torch.from_numpy(back).to(gradient.device), None


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The part of a view in which the splats are."""

    weights: Weights
    box: tuple[slice, slice]
    """Rows and columns."""

    free: Tensor
    """``(H,W,3)`` of the whole view."""

    target: Tensor
    """``(1,3,h,w)`` of the part."""

    matte: Tensor
    """``(1,1,h,w)``, how much of each pixel is these splats'; it adds up to 1."""

    @classmethod
    def of(cls, asked: Asked, device: torch.device) -> "_Seen | None":
        """Returns it, or None where none of them is seen."""
        one = np.ones((asked.weights.shape[1], 1), np.float32)
        matte = np.asarray(asked.weights @ one).reshape(asked.size)
        if not (matte > LEAST_MATTE).any():
            return None
        box = tuple(
            slice(max(0, int(at.min()) - BESIDE), int(at.max()) + 1 + BESIDE)
            for at in np.nonzero(matte > LEAST_MATTE)
        )

        def moved(values: Floats) -> Tensor:
            array = np.asarray(values, np.float32).reshape(*asked.size, -1)
            return torch.from_numpy(array).to(device)

        part = moved(matte)[box].permute(2, 0, 1)[None]
        target = moved(asked.target)[box].permute(2, 0, 1)[None]
        rows, columns = box
        return cls(asked.weights, (rows, columns), moved(asked.free), target, part / part.sum())

    def loss(self, colours: Tensor, distance: Distance) -> Tensor:
        """Returns how far the view of colours ``(n,3)`` is from what it should be."""
        drawn: Tensor = _Drawn.apply(colours, self.weights).view_as(self.free) + self.free
        picture = drawn[self.box].permute(2, 0, 1)[None]
        felt = guarded("the distance", distance, picture, self.target)
        if not isinstance(felt, Tensor) or felt.shape != self.matte.shape:
            raise PluginContractError("the distance gave no map (1,1,H,W)")
        near = (picture - self.target).square().mean(1, keepdim=True)
        loss: Tensor = (self.matte * (felt + NEAR * near)).sum()
        if not felt.requires_grad or not bool(loss.isfinite()):
            raise PluginContractError("the distance cannot be refined by: it has no gradient")
        return loss


def refined(
    asked: list[Asked],
    colours: Floats,
    distance: Distance,
    steps: int,
    device: torch.device,
    progress: Progress,
) -> tuple[Floats, list[float]]:
    """Returns colours ``(n,3)`` in [0,1] after so many steps of Adam, a view a step, in turn.

    Args:
        asked: by the views.
        colours: ``(n,3)`` to begin with.
        distance: differentiable; it is moved to the device where it is a `torch.nn.Module`.
        steps: how many.
        device: of the nets.
        progress: told of the steps.

    Returns:
        The colours, and the loss of each step.

    Raises:
        PluginContractError: the distance gives no map, or NaN, or one without a gradient.
    """
    views = [view for view in (_Seen.of(one, device) for one in asked) if view is not None]
    if isinstance(distance, nn.Module):
        distance.to(device)
    x = torch.tensor(colours, dtype=torch.float32, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([x], RATE)
    losses = []
    with progress("refining colours", steps) as step, torch.enable_grad():
        for i in range(steps if views else 0):
            loss = views[i % len(views)].loss(x, distance)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                x.clamp_(0, 1)
            losses.append(float(loss.detach()))
            step()
    return np.asarray(x.detach().cpu().numpy(), np.float64), losses
