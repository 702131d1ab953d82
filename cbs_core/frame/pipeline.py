"""Segment, style, composite: a pure function of a frame, a plan and a state.

    U = (1 - Σ A_r) · I + Σ A_r · T_r          one matte A_r and one style T_r a route

is computed as ``U = I + Σ (C_r - I)``, C_r being what the compositor makes of route r alone. The
two are equal for every compositor that is linear in its matte, and one route is the compositor's
own output to the bit.

`pipeline` is the whole of it. Schedulers call its steps, `score` and `restyle`, or the steps of
`restyle`, each with its half of the state; a stream's frames must pass each step in order.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import kornia.color
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.errors import PluginContractError
from cbs_core.contract.tensors import to_image
from cbs_core.contract.types import Instances, Scores
from cbs_core.frame.covers import covered
from cbs_core.frame.enlarging import resized
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import kind, shape
from cbs_core.frame.styling import Shown
from cbs_core.frame.windows import INVISIBLE, Presence, occupancy, painted
from cbs_core.machine.device import fetch
from cbs_core.machine.memory import check_memory
from cbs_core.machine.meter import Meter
from cbs_core.temporal import carrying, leaps, objects, steady, strokes
from cbs_core.temporal.carrying import Key, Seen
from cbs_core.temporal.flow import Step, moved
from cbs_core.temporal.scenes import thumbnail
from cbs_core.temporal.state import Scoring, State, Styling


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


def score(
    image: Tensor, plan: Plan, state: Scoring, *, meter: Meter | None = None
) -> tuple[Scores, Scoring]:
    """Segments ``(B,3,H,W)``, the first step.

    Waits for the device where something goes along with the motion from frame to frame.
    """
    with torch.inference_mode(), _timed("segment", plan, meter):
        plan.segmenter.at(state.segmenter)
        if plan.segment_every == 1 and plan.steady == "off":
            scores = _scores(image, plan)
            return scores, Scoring(state.scene, segmenter=plan.segmenter.memory())
        scene = state.scene.after(fetch(thumbnail(image)))
        scores, state = _carried(image, Seen.of(image, scene.number), plan, state)
        scores = replace(scores, scene=scene.number)
        return scores, replace(state, scene=scene, segmenter=plan.segmenter.memory())


def _carried(image: Tensor, now: Seen, plan: Plan, state: Scoring) -> tuple[Scores, Scoring]:
    """Scores a frame by itself or by the last one, by the one motion between the two."""
    before = state.seen if now.follows(state.seen) else None
    key = state.key if before is not None else None
    lasts = carrying.lasts(key, every=plan.segment_every, of=plan.scored_by)
    step = followed = None
    if before is not None and (lasts or plan.steady != "off"):
        before = before.to(image.device)
        step = now.since(before)
        if state.belief is not None:
            shares = state.belief.to(image.device).shares
            followed = leaps.follow(step, now.colour, before.colour, shares)
            step = followed.step
    if key is not None and step is not None and lasts:
        key = key.to(image.device).moved(step.motion)
        scores = key.carried()
    else:
        scores = _scores(image, plan)
        key = None if plan.segment_every == 1 else Key(plan.scored_by, scores)
    belief = None
    if plan.steady != "off" and plan.routes and scores.instances is None:
        member, of = plan.regions.weights > 0, plan.believed_by
        scores, belief = steady.hold(
            scores, member, now.size, state.belief, followed, of=of, segmented=not lasts
        )
    if plan.steady == "full" and step is not None and before is not None:
        step = strokes.settled(step, now.colour, before.colour)
        scores = replace(scores, motion=step.motion, trust=step.trust)
    return scores, replace(state, seen=now, key=key, belief=belief)


def _scores(image: Tensor, plan: Plan) -> Scores:
    if plan.detector is None:
        return Scores(segment(image, plan), None)
    found = instances(image, plan)
    return Scores(objects.logits(found, plan.regions.weights.shape[1]), found)


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


def segment(image: Tensor, plan: Plan) -> Tensor:
    """Returns the logits ``(B,K,h,w)``.

    Raises:
        PluginContractError: the segmenter broke its interface.
    """

    def logits(seen: Tensor) -> Tensor:
        out, classes = plan.segmenter(seen), plan.regions.weights.shape[1]
        if out.ndim != 4 or out.shape[:2] != (seen.shape[0], classes):
            raise PluginContractError(
                f"the {plan.segmenter.what} returned {shape(out)} where "
                f"({seen.shape[0]}, {classes}, h, w) is due: a channel for each of its classes"
            )
        if not out.is_floating_point() or out.device != seen.device:
            raise PluginContractError(
                f"the {plan.segmenter.what} returned {kind(out)} where logits, floats on "
                f"{seen.device}, are due"
            )
        return plan.regions.sure(plan.segmenter.scores(out))

    return plan.tiles(logits, plan.segmenter.what, _to_segment(image, plan))


def _to_segment(image: Tensor, plan: Plan) -> Tensor:
    """Returns the picture that the segmenter is given.

    Raises:
        MemoryLimitError: it is larger than the frame, and too large.
    """
    size = plan.segment_size
    if isinstance(size, tuple) and size[0] * size[1] > image.shape[2] * image.shape[3]:
        tiled = plan.device.type == "cuda"
        cost = 2 * 3 * 4 + (0 if tiled else plan.segmenter.bytes_per_pixel)
        check_memory(
            *size, cost, plan.device, what=f"segment_size=[{size[0]},{size[1]}], a picture"
        )
    return resized(image, size)


def instances(image: Tensor, plan: Plan) -> list[Instances]:
    """Returns the objects of each frame, by the plan's detector.

    Raises:
        PluginContractError: the segmenter broke its interface.
    """
    assert plan.detector is not None
    seen = _to_segment(image, plan)
    found = plan.detector.run(seen, *plan.told(image.shape[2], image.shape[3]))
    if (
        not isinstance(found, list)
        or len(found) != len(image)
        or not all(isinstance(one, Instances) for one in found)
        or not all(one.masks.shape[1:] == seen.shape[2:] for one in found)
    ):
        raise PluginContractError(
            f"the {plan.detector.what} returned {found!r} where a list of {len(image)} "
            f"Instances with masks of {shape(seen[0, 0])} is due"
        )
    for one in found:
        plan.detector.scores(one.masks)
    if seen is image:
        return found
    return [_enlarged(one, image.shape[2:]) for one in found]


def locate(
    image: Tensor, scores: Scores, plan: Plan, state: Styling, *, meter: Meter | None = None
) -> tuple[Located, Styling]:
    """Finds where to restyle. Waits for the device.

    Raises:
        ConfigError: the selected point is outside the frame.
    """
    with torch.inference_mode():
        with _timed("matte", plan, meter):
            mattes = plan.regions(scores.logits, (image.shape[2], image.shape[3]))
            if plan.selection is None:
                return _present(image, mattes, scores, plan, state)
        with _timed("select", plan, meter):
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
    with torch.inference_mode(), _timed("style", plan, meter):
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
    with torch.inference_mode(), _timed("composite", plan, meter):
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
        seen = _to_segment(image, plan)
        if isinstance(net, Accelerated) and tuple(seen.shape) not in net.built:
            segment(image, plan)
        for styling in plan.stylings.values():
            styling.prepare(image)


def upload(pixels: Tensor, device: torch.device) -> Tensor:
    """Moves a picture to the device: uint8 ``(H,W,3)`` -> float32 ``(1,3,H,W)`` in [0,1]."""
    return to_image(pixels.to(device, non_blocking=True))


def _timed(name: str, plan: Plan, meter: Meter | None) -> AbstractContextManager[None]:
    return nullcontext() if meter is None else meter.stage(name, device=plan.device)


def keep_color(styled: Tensor, image: Tensor) -> Tensor:
    """Returns the lightness of ``styled`` with the colours of ``image``, both ``(B,3,H,W)``.

    Source: Gatys et al. 2016 (1606.05897), luminance-only transfer, in YCbCr.
    """
    light = kornia.color.rgb_to_ycbcr(styled)[:, :1]
    chroma = kornia.color.rgb_to_ycbcr(image)[:, 1:]
    return kornia.color.ycbcr_to_rgb(torch.cat([light, chroma], dim=1)).clamp_(0, 1)


def _enlarged(found: Instances, size: Sequence[int]) -> Instances:
    if not len(found.masks):
        return Instances(found.masks.new_zeros(0, *size), found.classes, found.scores)
    masks = F.interpolate(found.masks[None], tuple(size), mode="bilinear")[0]
    return Instances(masks, found.classes, found.scores)
