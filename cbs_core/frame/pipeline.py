"""Segment, style, composite: a pure function of a frame, a plan and a state.

    U = (1 - Σ A_r) · I + Σ A_r · T_r          one matte A_r and one style T_r a route

is computed as ``U = I + Σ (C_r - I)``, C_r being what the compositor makes of route r alone. The
two are equal for every compositor that is linear in its matte, and one route is the compositor's
own output to the bit.

`pipeline` is the whole of it. Schedulers call its steps, `score` (`cbs_core.frame.scoring`) and
`restyle`, or the steps of `restyle`, each with its half of the state; a stream's frames must pass
each step in order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import kornia.color
import numpy as np
import torch
from torch import Tensor

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.tensors import to_image
from cbs_core.contract.types import Scores
from cbs_core.frame.covers import covered
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.scoring import score, segment, timed, to_segment
from cbs_core.frame.styling import Shown
from cbs_core.frame.windows import INVISIBLE, Presence, occupancy, painted
from cbs_core.machine.device import fetch
from cbs_core.machine.meter import Meter
from cbs_core.temporal import objects, strokes
from cbs_core.temporal.flow import Step, moved
from cbs_core.temporal.scenes import thumbnail
from cbs_core.temporal.state import State, Styling


@dataclass(frozen=True, slots=True)
class Located:
    """Where a frame is to be restyled."""

    mattes: Tensor
    """``(B,R,H,W)`` in [0,1], strength not applied, of the selected object alone."""

    presence: Presence
    """Where each route's matte shows, known to the host."""

    step: Step | None = None
    """The motion since the last frame, where strokes go along with it."""

    @property
    def shown(self) -> tuple[bool, ...]:
        """Whether each route's matte shows anywhere."""
        return self.presence.shown


@dataclass(frozen=True, slots=True)
class Result:
    """What the pipeline made of a frame; letters as in `cbs_core.frame.mattes`."""

    image: Tensor
    """``(B,3,H,W)`` in [0,1], the composite U."""

    logits: Tensor = field(repr=False)
    """``(B,K,h,w)``, the segmenter's, or carried from a frame before."""

    mattes: Tensor = field(repr=False)
    """``(B,R,H,W)`` in [0,1], strength not applied."""

    styled: Mapping[str, Tensor] = field(repr=False)
    """``(B,3,H,W)`` by `Route.style`; a style whose classes are absent was not run. One that was
    run on windows only is the original outside of them."""

    shown: tuple[bool, ...]
    """Whether each route's matte shows anywhere."""

    plan: Plan = field(repr=False)
    """By which it was made."""

    covers: Tensor | None = field(default=None, repr=False)
    """``(B,R,H,W)`` in [0,1], how much of each route's style was blended in, strength not applied:
    the mattes as the compositor made them. None where nobody asked."""


def pipeline(
    image: Tensor, plan: Plan, state: State, *, meter: Meter | None = None
) -> tuple[Result, State]:
    """Restyles ``(B,3,H,W)``, one stage after the other; ``meter`` times the stages.

    Raises:
        PluginContractError: a plugin broke its interface.
    """
    scores, scoring = score(image, plan, state.scoring, meter=meter)
    result, styling = restyle(image, scores, plan, state.styling, meter=meter)
    return result, State(scoring, styling)


def restyle(
    image: Tensor,
    scores: Scores,
    plan: Plan,
    state: Styling,
    *,
    meter: Meter | None = None,
    covers: bool = False,
) -> tuple[Result, Styling]:
    """Runs all that comes after `score`, the second step; ``covers`` asks for `Result.covers`."""
    located, state = locate(image, scores, plan, state, meter=meter)
    styled, state = paint(image, located, plan, state, meter=meter)
    found = covered(image, located.mattes, located.shown, plan, state) if covers else None
    out, state = composite(image, located, styled, plan, state, meter=meter)
    return Result(out, scores.logits, located.mattes, styled, located.shown, plan, found), state


def locate(
    image: Tensor, scores: Scores, plan: Plan, state: Styling, *, meter: Meter | None = None
) -> tuple[Located, Styling]:
    """Finds where to restyle. Waits for the device.

    Raises:
        ConfigError: the selected point is outside the frame.
    """
    with torch.inference_mode():
        with timed("matte", plan, meter):
            mattes = plan.regions(scores.logits, (image.shape[2], image.shape[3]))
            if plan.selection is None:
                return _present(image, mattes, scores, plan, state)
        with timed("select", plan, meter):
            found = _objects(mattes, scores, plan)
            mattes, followed = objects.follow(plan.selection, state.followed, mattes, found)
            return _present(image, mattes, scores, plan, replace(state, followed=followed))


def _objects(mattes: Tensor, scores: Scores, plan: Plan) -> list[objects.Objects]:
    """Returns each frame's objects: a detector's, else the connected components."""
    assert plan.selection is not None
    route_of = plan.selection.route_of
    if scores.instances is not None:
        return [objects.instances(one, route_of) for one in scores.instances]
    labels = plan.regions.labels(scores.logits, (mattes.shape[2], mattes.shape[3]))
    return [objects.components(one, route_of) for one in labels]


def _present(
    image: Tensor, mattes: Tensor, scores: Scores, plan: Plan, state: Styling
) -> tuple[Located, Styling]:
    """Tells where each matte shows, and in which scene. Waits for the device, once a frame."""
    pooled = occupancy(mattes)
    if scores.scene is not None or not any(s.tells_scenes_apart for s in plan.stylings.values()):
        cells = fetch(pooled > INVISIBLE).numpy()
        return Located(mattes, Presence(cells, scores.scene or 0), moved(scores)), state
    sent = fetch(torch.cat([pooled.flatten(), thumbnail(image).flatten()]))
    cells = sent[: pooled.numel()].view(pooled.shape).numpy() > INVISIBLE
    scene = state.scene.after(sent[pooled.numel() :].clone())
    return Located(mattes, Presence(cells, scene.number)), replace(state, scene=scene)


def paint(
    image: Tensor, located: Located, plan: Plan, state: Styling, *, meter: Meter | None = None
) -> tuple[dict[str, Tensor], Styling]:
    """Runs the styles that show, each once; returns the pictures by `Route.style`.

    Raises:
        PluginContractError: a styler broke its interface.
    """
    with torch.inference_mode(), timed("style", plan, meter):
        pairs = zip(plan.routes, located.shown, strict=True)
        due = dict.fromkeys(route.style for route, shown in pairs if shown)
        styled = {}
        memories = {name: state.styles[name] for name in state.styles if name in plan.stylings}
        held = {}
        for style in due:
            own = plan.routes_of(style)
            presence = located.presence
            cells = np.asarray(presence.cells[:, own].any(1))
            shown = Shown(located.mattes, own, cells, presence.scene)
            styling = plan.stylings[style]
            styled[style], memories[style] = styling(image, shown, memories.get(style))
            if plan.steady == "full":
                where, last = painted(located.mattes[:, own]), state.strokes.get(style)
                out, held[style] = strokes.hold(styled[style], where, last, located.step)
                styled[style] = out
        return styled, replace(state, styles=memories, strokes=held)


def composite(
    image: Tensor,
    located: Located,
    styled: Mapping[str, Tensor],
    plan: Plan,
    state: Styling,
    *,
    meter: Meter | None = None,
) -> tuple[Tensor, Styling]:
    """Returns the picture ``(B,3,H,W)`` with each route's style in its matte.

    Args:
        image: ``(B,3,H,W)``.
        located: its mattes.
        styled: by `Route.style`, ``(B,3,H,W)``; a style that is missing does not show.
        plan: the routes and the compositor.
        state: what the compositor goes on from, if it has a state.
        meter: times it.

    Raises:
        PluginContractError: the compositor broke its interface.
    """
    with torch.inference_mode(), timed("composite", plan, meter):
        parts = []
        plan.compositor.at(state.compositor)
        for index, route in enumerate(plan.routes):
            if route.style not in styled:
                continue
            picture = routed(image, styled[route.style], route)
            alpha = located.mattes[:, index : index + 1] * route.strength
            parts.append(plan.compositor.like(plan.compositor(image, picture, alpha), image))
        state = replace(state, compositor=plan.compositor.memory())
        return _superposed(image, parts), state


def routed(image: Tensor, picture: Tensor, route: Route) -> Tensor:
    """Returns a style's picture, ``(B,3,H,W)``, as a route of it wants it."""
    return keep_color(picture, image) if route.keep_color else picture


def _superposed(image: Tensor, parts: Sequence[Tensor]) -> Tensor:
    if len(parts) < 2:
        return parts[0] if parts else image
    change = sum((part - image for part in parts[1:]), start=parts[0] - image)
    return (image + change).clamp_(0, 1)


def prepare(image: Tensor, plan: Plan) -> None:
    """Builds the nets for frames like this ``(B,3,H,W)``, those of absent classes too.

    Raises:
        CbsError: one cannot be built.
    """
    with torch.inference_mode():
        net = plan.segmenter.call
        seen = to_segment(image, plan)
        if isinstance(net, Accelerated) and tuple(seen.shape) not in net.built:
            segment(image, plan)
        for styling in plan.stylings.values():
            styling.prepare(image)


def upload(pixels: Tensor, device: torch.device) -> Tensor:
    """Moves a picture to the device: uint8 ``(H,W,3)`` -> float32 ``(1,3,H,W)`` in [0,1]."""
    return to_image(pixels.to(device, non_blocking=True))


def keep_color(styled: Tensor, image: Tensor) -> Tensor:
    """Returns the lightness of ``styled`` with the colours of ``image``, both ``(B,3,H,W)``.

    Source: Gatys et al. 2016 (1606.05897), luminance-only transfer, in YCbCr.
    """
    light = kornia.color.rgb_to_ycbcr(styled)[:, :1]
    chroma = kornia.color.rgb_to_ycbcr(image)[:, 1:]
    return kornia.color.ycbcr_to_rgb(torch.cat([light, chroma], dim=1)).clamp_(0, 1)
