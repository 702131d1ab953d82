"""Which object of the routed classes is selected, and what finds it."""

from collections.abc import Callable, Sequence

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import InstanceSegmenter
from cbs_core.contract.promptable import PointSegmenter
from cbs_core.frame.routes import Route
from cbs_core.run.settings import Look
from cbs_core.temporal.objects import Selection
from cbs_core.words.shares import REST


def detection(segmenter: object, what: str, look: Look) -> Callable[..., object] | None:
    """Returns how a segmenter finds objects; None where it does not, or none is selected.

    Args:
        segmenter: the plugin.
        what: names it in errors.
        look: what is wanted.

    Raises:
        ConfigError: it finds what lies at a point, and none is given; or ``lookahead`` is asked of
            it.
    """
    finds = isinstance(segmenter, PointSegmenter | InstanceSegmenter) and look.select is not None
    if finds and look.lookahead:
        raise ConfigError(
            f"lookahead={look.lookahead} is for mattes that are held, and what the {what} finds by "
            "select= is not: leave it out"
        )
    if isinstance(segmenter, PointSegmenter):
        if isinstance(look.select, tuple):
            return segmenter.instances_at
        raise ConfigError(
            f"the {what} finds whatever lies at a point: say select=x,y, a pixel of it in the "
            "first frame, as in select=320,200"
        )
    if look.select is None or not isinstance(segmenter, InstanceSegmenter):
        return None
    return segmenter.instances


def selection(
    look: Look, chosen: Sequence[Route], classes: Sequence[str], segmenter: object
) -> Selection | None:
    """Returns how one object is selected, if one is: of routes that were named, where there are.

    Args:
        look: what is wanted.
        chosen: the routes.
        classes: the segmenter's.
        segmenter: the plugin.
    """
    if look.select is None:
        return None
    alone = isinstance(segmenter, PointSegmenter)
    named = [index for index, route in enumerate(chosen) if not route.left]
    # `rest` alone is what is chosen among, but for a segmenter that finds one thing.
    left = [index for index, route in enumerate(chosen) if route.left]
    whole = left if named or alone else []
    route_of = {
        name: index
        for index, route in reversed([*enumerate(chosen)])
        if index not in whole
        for name in route.classes
    }
    heirs = [index for index in whole if chosen[index].left == REST]
    return Selection(
        look.select,
        tuple(route_of.get(name, -1) for name in classes),
        soft=look.matte == "soft",
        whole=tuple(whole),
        heir=heirs[0] if heirs else -1,
        alone=alone,
    )
