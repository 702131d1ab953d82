"""Which object of the routed classes is selected."""

from collections.abc import Sequence

from cbs_core.frame.routes import Route
from cbs_core.run.settings import Look
from cbs_core.temporal.objects import Selection
from cbs_core.words.shares import REST


def selection(look: Look, chosen: Sequence[Route], classes: Sequence[str]) -> Selection:
    """Returns how one object is selected: of routes that were named, where there are any."""
    assert look.select is not None
    named = [index for index, route in enumerate(chosen) if not route.left]
    whole = [index for index, route in enumerate(chosen) if route.left] if named else []
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
    )
