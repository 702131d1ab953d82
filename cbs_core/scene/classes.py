"""Which classes routes may name, and what is told of them."""

from collections.abc import Mapping, Sequence

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.frame import routes
from cbs_core.frame.routes import Route
from cbs_core.scene.nets import Segmenting, section
from cbs_core.scene.restyled import GREY, Request
from cbs_core.scene.vote import LABELS
from cbs_core.words.shares import is_left, negation
from cbs_core.words.vocabularies import Colour, colours, generated_colour


def named(spec: object) -> list[str]:
    """Returns the words that routes are given for."""
    if isinstance(spec, Mapping | list | tuple):
        return [str(word) for word in spec]
    return [] if spec is None else [str(spec)]


def with_kind(spec: object, labels: str) -> object:
    """Returns routes whose classes say what they are: ``paint`` as ``material/paint``.

    Raises:
        ConfigError: ``labels`` is no kind of names.
    """
    if labels not in LABELS:
        raise ConfigError(
            f"labels={labels} is none of {', '.join(LABELS)}{closest(labels, LABELS)}"
        )

    def full(word: object) -> str:
        name = str(word)
        if is_left(name):
            return name
        if (negated := negation(name)) is not None:
            return f"not {full(negated)}"
        for kind in LABELS[1:]:
            if name.startswith((f"{kind}:", f"{kind}/")):
                return f"{kind}/{name[len(kind) + 1 :].strip()}"
        return name if labels == "segmenter" else f"{labels}/{name}"

    if isinstance(spec, Mapping):
        return {full(word): value for word, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [full(word) for word in spec]
    return spec if spec is None else [full(spec)]


def parsed(request: Request, own: Sequence[str]) -> tuple[tuple[Route, ...], Segmenting | None]:
    """Returns the routes, and the segmenter where one of them needs it.

    Args:
        request: with ``routes`` and ``labels``.
        own: what the scene itself calls its parts.

    Raises:
        CbsError: a class is unknown, or a plugin cannot be had.
    """
    spec = with_kind(request.routes, request.labels)
    names = named(spec)
    plain = [name for name in names if "/" not in name]
    # Beside names of the scene's own `rest` asks for no segmenter.
    own_names = len(plain) < len(names) or request.labels != "segmenter"
    needed = not names or not (own_names and all(map(is_left, plain)))
    segmenter = request.workshop.segmenter(request.segmenter, spec) if needed else None
    classes = [*(segmenter.classes if segmenter else ()), *own]
    if not classes:
        raise ConfigError("this scene has no names of its own: say labels=segmenter")
    styler, params = section(request.styler, "styler")
    return routes.parse(spec, classes=classes, styler=styler, params=params), segmenter


def palette(names: Sequence[str]) -> list[Colour]:
    """Returns a colour a name: a data set's own, or generated."""
    return colours(names) if names else []


def of_routes(count: int) -> list[Colour]:
    """Returns a colour a route, and `GREY` last for none."""
    return [*(generated_colour(i + 1) for i in range(count)), GREY]
