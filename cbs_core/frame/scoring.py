"""From a frame to its scores, the first step of `cbs_core.frame.pipeline`.

Where mattes are held, or segmented in some frames alone, that goes by the frames before; and with
a ``lookahead`` by those after, which are segmented ahead, each once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.errors import PluginContractError
from cbs_core.contract.types import Instances, Scores
from cbs_core.frame.enlarging import resized
from cbs_core.frame.plan import Plan
from cbs_core.frame.stage import kind, shape
from cbs_core.machine.device import fetch
from cbs_core.machine.memory import check_memory
from cbs_core.machine.meter import Meter
from cbs_core.temporal import carrying, leaps, lookahead, objects, steady, strokes
from cbs_core.temporal.carrying import Key, Seen
from cbs_core.temporal.lookahead import Coming
from cbs_core.temporal.scenes import thumbnail
from cbs_core.temporal.state import Scoring


def score(
    image: Tensor,
    plan: Plan,
    state: Scoring,
    *,
    meter: Meter | None = None,
    ahead: Sequence[Callable[[], Tensor]] = (),
) -> tuple[Scores, Scoring]:
    """Segments ``(B,3,H,W)``, the first step.

    Waits for the device where something goes along with the motion from frame to frame.

    Args:
        image: the frame.
        plan: what it is segmented by.
        state: after the frame before.
        meter: times it.
        ahead: each gives one of the frames after this one, in order, as many as
            `Plan.lookahead`, or as there still are; called for those alone that are not known yet.
    """
    with torch.inference_mode(), timed("segment", plan, meter):
        plan.segmenter.at(state.segmenter)
        if plan.segment_every == 1 and plan.steady == "off":
            scores = _scores(image, plan)
            return scores, Scoring(state.scene, segmenter=plan.segmenter.memory())
        if ahead or state.coming:
            coming = _looked(image, ahead, plan, state)
            scene, now = coming[0].scene, coming[0].seen
        else:
            coming = ()
            scene = state.scene.after(fetch(thumbnail(image)))
            now = Seen.of(image, scene.number)
        scores, state = _carried(image, now, coming, plan, state)
        scores = replace(scores, scene=scene.number)
        memory = plan.segmenter.memory()
        return scores, replace(state, scene=scene, segmenter=memory, coming=coming[1:])


def _looked(
    image: Tensor, ahead: Sequence[Callable[[], Tensor]], plan: Plan, state: Scoring
) -> tuple[Coming, ...]:
    """Returns a frame and those after it, of which those are segmented that were not yet."""
    out = [one for one in state.coming if one.of == plan.scored_by]
    for picture in (lambda: image, *ahead)[len(out) :]:
        one = picture()
        scene = (out[-1].scene if out else state.scene).after(fetch(thumbnail(one)))
        found = Coming(plan.scored_by, scene, Seen.of(one, scene.number), _scores(one, plan).logits)
        if out:
            out[-1] = out[-1].before(found)
        out.append(found)
    return tuple(one.to(image.device) for one in out)


def _carried(
    image: Tensor, now: Seen, coming: Sequence[Coming], plan: Plan, state: Scoring
) -> tuple[Scores, Scoring]:
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
        scores = Scores(coming[0].logits, None) if coming else _scores(image, plan)
        key = None if plan.segment_every == 1 else Key(plan.scored_by, scores)
    belief = None
    if plan.steady != "off" and plan.routes and scores.instances is None:
        member, of = plan.regions.weights > 0, plan.believed_by
        scores, belief = steady.hold(
            scores,
            member,
            now.size,
            state.belief,
            followed,
            of=of,
            segmented=not lasts,
            later=lookahead.believed(coming, member),
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


def segment(image: Tensor, plan: Plan) -> Tensor:
    """Returns the logits ``(B,K,h,w)``.

    Raises:
        PluginContractError: the segmenter broke its interface.
    """

    def logits(seen: Tensor) -> Tensor:
        out, classes = plan.segmenter(seen), plan.regions.weights.shape[1]
        if out.ndim != 4 or out.shape[:2] != (seen.shape[0], classes) or not out.numel():
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

    return plan.tiles(logits, plan.segmenter.what, to_segment(image, plan))


def to_segment(image: Tensor, plan: Plan) -> Tensor:
    """Returns the picture that the segmenter is given, of ``(B,3,H,W)``.

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
    seen = to_segment(image, plan)
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
    last = plan.regions.weights.shape[1] - 1
    for one in found:
        plan.detector.masks(one.masks)
        if not bool(fetch(((one.classes > 0) & (one.classes <= last)).all())):
            raise PluginContractError(
                f"the {plan.detector.what} returned objects of classes {one.classes.tolist()} "
                f"where 1..{last} are due"
            )
    if seen is image:
        return found
    return [_enlarged(one, image.shape[2:]) for one in found]


def _enlarged(found: Instances, size: Sequence[int]) -> Instances:
    if not len(found.masks):
        return Instances(found.masks.new_zeros(0, *size), found.classes, found.scores)
    masks = F.interpolate(found.masks[None], tuple(size), mode="bilinear")[0]
    return Instances(masks, found.classes, found.scores)


def timed(name: str, plan: Plan, meter: Meter | None) -> AbstractContextManager[None]:
    """Returns a context that times a stage, where there is a meter."""
    return nullcontext() if meter is None else meter.stage(name, device=plan.device)
