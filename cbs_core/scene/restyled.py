"""What restyling a scene gives, whatever the scene is made of, and what it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cbs_core.contract.extensions import Distance
from cbs_core.frame.routes import Route
from cbs_core.scene.cameras import Ball, Camera
from cbs_core.scene.nets import Workshop
from cbs_core.scene.types import Floats, Ints, Mask
from cbs_core.words.vocabularies import Colour

PAPER = 0.93
"""Grey of what is behind a scene, in pictures for people."""

GREY: Colour = (150, 150, 150)
"""Of what has no class."""

Shot = Callable[[Camera], Floats]
"""Takes a picture ``(H,W,3)`` in [0,1]."""


class Progress(Protocol):
    """Tells how far a step is."""

    def __call__(self, what: str, total: int, /) -> AbstractContextManager[Callable[[], None]]:
        """Opens a step of so many parts; what it gives is called after each."""
        ...


def by_route(
    routes: Sequence[Route], route: Ints, figures: Callable[[Mask], Mapping[str, object]]
) -> list[dict[str, object]]:
    """Returns what the report tells of each route, and at last of what stays as it was.

    Args:
        routes: in the order of their numbers.
        route: ``(F,)`` or ``(N,)``, the number of each face's or splat's; below 0 it has none.
        figures: given which are a route's, tells of them.
    """
    kinds: list[tuple[tuple[str, ...], Mask, Route | None]] = [
        (one.classes, route == number, one) for number, one in enumerate(routes)
    ]
    kinds.append((("as it was",), route < 0, None))
    return [
        {
            "classes": list(names),
            "style": one.style if one else None,
            "strength": one.strength if one else None,
            **figures(own),
        }
        for names, own, one in kinds
    ]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a scene, read from the configuration."""

    workshop: Workshop
    segmenter: object
    """The configuration's section."""

    styler: object
    """Likewise."""

    routes: object
    labels: str
    select: object
    cameras: object
    views: int
    size: int
    """Pixels a side of a view."""

    harmonics: str
    """Of splats: ``flat`` or ``keep``."""

    iterations: int
    """Of the least squares of splats."""

    progress: Progress
    grain: float = 0.0
    """Of meshes: how much of `cbs_core.scene.grain` their surfaces get."""

    distance: Distance | None = None
    """Of views of the same points, measured beside RMSE."""

    refine: Distance | None = None
    """Of splats: by what their colours are refined."""

    steps: int = 0
    """Of that."""


@dataclass(frozen=True, slots=True)
class Restyled:
    """A scene restyled, not yet written."""

    before: Shot
    classes: Shot
    after: Shot
    depth: Shot
    """The depth ``(H,W)`` along the camera's axis, infinite where nothing is."""

    write: Callable[[Path], list[Path]]
    ball: Ball
    routes: tuple[Route, ...]
    legend: Sequence[tuple[str, Colour]]
    facts: Mapping[str, object]
    viewer: Callable[[], dict[str, Any]]
    """What the page that shows the scene is given."""

    left_out: tuple[str, ...] = field(default=())
