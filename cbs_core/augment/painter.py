"""Paints what was drawn: classes of a picture restyled, by labels or by a segmenter.

Letters: ``B`` batch, ``K`` classes, ``R`` routes, ``H W`` the picture.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.augment.rules import Drawn, Rule
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import WeightsFile
from cbs_core.frame import pipeline, scoring
from cbs_core.frame.mattes import Regions
from cbs_core.frame.pipeline import Located
from cbs_core.frame.plan import Plan
from cbs_core.frame.styling import Shown as Painting
from cbs_core.frame.windows import INVISIBLE, Presence, occupancy
from cbs_core.machine.device import fetch
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import State

UNLABELLED = "unlabelled"
"""The name of pixels of no class, which ``rest`` and ``everything`` take too."""


def with_unlabelled(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns a set's names and one for pixels of none of them, the last."""
    return (*classes, UNLABELLED if UNLABELLED not in classes else f"{UNLABELLED} pixels")


@dataclass(frozen=True, slots=True)
class Shown:
    """What one draw made of one picture."""

    image: Tensor
    """``(1,3,H,W)`` in [0,1]."""

    shares: tuple[float, ...]
    """Of each `Drawn`, the share of the picture that its matte covers."""

    weights: tuple[WeightsFile, ...] = ()
    """Of what was drawn."""


class Painter:
    """Restyles classes of pictures; its nets are built once, when they are first due.

    Args:
        look: the styler's accelerator, and, where mattes are a segmenter's, that one.
        classes: names of the labels' ids, with one more for pixels of none of them; None: mattes
            are the segmenter's, whose names they are then.
        workshop: builds the nets.
        words: the keys of all rules, for segmenters that are told what to look for.
    """

    def __init__(
        self,
        look: Look,
        classes: tuple[str, ...] | None,
        workshop: Workshop,
        words: Sequence[str] = (),
    ) -> None:
        self._look = look
        self._workshop = workshop
        self._scorer: Plan | None = None
        if classes is None:
            # Segmenters of any word are told which; no style is built for it.
            asked = replace(look, routes=[*words] or None, styler=Choice("none"))
            self._scorer = workshop.plan(asked)
            classes = self._scorer.classes
        self.classes = classes
        """By which `Drawn` name them."""

    @property
    def by_labels(self) -> bool:
        """Whether labels tell where classes are."""
        return self._scorer is None

    def prepare(self, rules: Sequence[Rule]) -> None:
        """Builds every style that the rules may draw, so that what is wrong is told at once.

        Raises:
            CbsError: one cannot be had.
        """
        for rule in rules:
            for route in rule.pool:
                self._plan(rule.edges, [Drawn(route, rule.edges)])

    def __call__(
        self, images: Tensor, draws: Sequence[Sequence[Drawn]], labels: Tensor | None = None
    ) -> list[Shown]:
        """Restyles pictures of one size; those that drew one style run it together.

        Args:
            images: ``(B,3,H,W)`` float32 in [0,1].
            draws: what becomes of which classes, of each picture.
            labels: ``(B,H,W)``, ids; those that are no class are pixels of none. Needed unless
                mattes are a segmenter's.

        Returns:
            What became of each; a picture without draws is as it was.

        Raises:
            CbsError: a style cannot be built, or a plugin failed.
        """
        with torch.inference_mode():
            images = images.to(self._workshop.device)
            found = self._labels(images, labels) if any(draws) else None
            parts = [
                _Part(at, tuple(group), plan, _located(found[at : at + 1], plan.regions))
                for at, drawn in enumerate(draws)
                for edges, group in _by_edges(drawn)
                if (plan := self._plan(edges, group)) and found is not None
            ]
            styled = _painted(images, parts)
            out = [Shown(image[None], ()) for image in images]
            for number, part in enumerate(parts):
                image = images[part.at : part.at + 1]
                mine = {key: styled[number, key] for key in part.shown}
                made, _ = pipeline.composite(image, part.located, mine, part.plan, State().styling)
                before = out[part.at]
                # Mattes do not overlap, so the changes of rules with other edges add up.
                whole = made if not before.shares else before.image + (made - image)
                covered = part.located.mattes.mean((0, 2, 3)).tolist()
                used = dict.fromkeys((*before.weights, *part.plan.facts.weights))
                shares = (*before.shares, *covered)
                out[part.at] = Shown(whole.clamp(0, 1), shares, tuple(used))
            return out

    def _plan(self, edges: Choice, drawn: Sequence[Drawn]) -> Plan:
        look = replace(self._look, routes=tuple(one.route for one in drawn), compositor=edges)
        return self._workshop.plan(look, self.classes)

    def _labels(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Returns ids of `classes`, int64 ``(B,H,W)``."""
        if self._scorer is not None:
            size = (images.shape[2], images.shape[3])
            return self._scorer.regions.labels(scoring.segment(images, self._scorer), size)
        if labels is None:
            raise ConfigError("where classes are is told by labels: give a mask with each picture")
        ids, last = labels.to(images.device).long(), len(self.classes) - 1
        return torch.where((ids < 0) | (ids > last), last, ids)


@dataclass(frozen=True, slots=True)
class _Part:
    """What becomes of one picture with one kind of edges."""

    at: int
    """The picture's place in the batch."""

    drawn: tuple[Drawn, ...]
    plan: Plan
    located: Located

    @property
    def shown(self) -> list[str]:
        """Names the styles that show, each once."""
        pairs = zip(self.plan.routes, self.located.shown, strict=True)
        return list(dict.fromkeys(route.style for route, shown in pairs if shown))


def _by_edges(drawn: Sequence[Drawn]) -> Iterator[tuple[Choice, list[Drawn]]]:
    for edges, group in groupby(drawn, key=lambda one: one.edges):
        yield edges, list(group)


def _painted(images: Tensor, parts: Sequence[_Part]) -> dict[tuple[int, str], Tensor]:
    """Runs each style once, on all pictures that show it; by a part's number and the style."""
    due: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        for style in part.shown:
            due.setdefault(style, []).append(number)
    painted: dict[tuple[int, str], Tensor] = {}
    for style, numbers in due.items():
        styling = parts[numbers[0]].plan.stylings[style]
        group = [parts[number] for number in numbers]
        mattes = torch.cat([_matte(part, style) for part in group])
        cells = np.concatenate([_cells(part, style) for part in group])
        seen = images[[part.at for part in group]]
        out, _ = styling(seen, Painting(mattes, [0], cells, 0), None)
        painted |= {(n, style): out[i : i + 1] for i, n in enumerate(numbers)}
    return painted


def _matte(part: _Part, style: str) -> Tensor:
    """Returns where a part's style shows, ``(1,1,H,W)``."""
    return part.located.mattes[:, part.plan.routes_of(style)].sum(1, keepdim=True)


def _cells(part: _Part, style: str) -> NDArray[np.bool_]:
    """Returns that by cells, ``(1,h,w)``."""
    return np.asarray(part.located.presence.cells[:, part.plan.routes_of(style)].any(1))


def _located(labels: Tensor, regions: Regions) -> Located:
    """Returns mattes of ids ``(B,H,W)``, as `pipeline.locate` does of a segmenter's scores."""
    mattes = torch.stack([row[labels] for row in regions.weights.unbind()], dim=1)
    return Located(mattes, Presence(fetch(occupancy(mattes) > INVISIBLE).numpy(), 0))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Has torch compute by so many threads: with others the last bits are others."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
