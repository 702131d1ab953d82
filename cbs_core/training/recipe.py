"""Recipes: what a training is told, in small dataclasses, from the flat keys that people write.

@dataclass(frozen=True, kw_only=True)
class Views:
    crop: int = 256
    batch: int = 2

@dataclass(frozen=True)
class Recipe:
    views: Views
    losses: Losses

recipe = bind(Recipe, {"crop": 288}, owner="training of the styler 'pastel'")
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields
from inspect import Parameter, Signature, signature
from typing import Any, Generic, TypeVar, get_type_hints

from cbs_core.choose.registry import checked_parameters
from cbs_core.contract.errors import ConfigError

R = TypeVar("R")

MOST = 10**6
"""Of a count that has no bound of its own: more is a slip of the finger."""


def number(
    default: Any = MISSING, *, least: float = 0, most: float = MOST, above: bool = False
) -> Any:
    """Returns a dataclass's field whose value, where it is one or a list of them, has bounds.

    Args:
        default: where nothing is said.
        least: the smallest.
        most: the largest.
        above: whether ``least`` itself is none.
    """
    return field(default=default, metadata={"bounds": (least, most, above)})


def bind(
    recipe: type[R], params: Mapping[str, object], *, owner: str, beside: Iterable[str] = ()
) -> R:
    """Returns a recipe whose groups are filled by the names of their fields.

    Args:
        recipe: a dataclass whose fields are dataclasses; no two of these have a field of one name.
        params: by name, of all groups.
        owner: who takes them, for messages.
        beside: names of what is taken out of ``params`` before, which a slip may mean too.

    Raises:
        ConfigError: an unknown or missing key, with those accepted, or a value of another type or
            outside of its bounds (`number`).
        CbsError: as the dataclasses raise on what they are given.
    """
    flat = _Flat(recipe, beside)
    return flat(**checked_parameters(flat, params, owner=owner))


class _Flat(Generic[R]):
    """A recipe as a function of all its keys, with a signature that tells them."""

    def __init__(self, recipe: type[R], beside: Iterable[str]) -> None:
        hints = get_type_hints(recipe)
        self._recipe = recipe
        self._groups: dict[str, Any] = {f.name: hints[f.name] for f in fields(recipe)}  # type: ignore[arg-type]
        self.__signature__ = Signature(
            [
                parameter.replace(kind=Parameter.KEYWORD_ONLY)
                for group in self._groups.values()
                for parameter in signature(group).parameters.values()
            ]
            + [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in beside]
        )

    def __call__(self, **params: object) -> R:
        for group in self._groups.values():
            for one in fields(group):
                if one.name in params and "bounds" in one.metadata:
                    _check(one.name, params[one.name], *one.metadata["bounds"])
        return self._recipe(
            **{
                name: group(
                    **{key: params[key] for key in signature(group).parameters.keys() & params}
                )
                for name, group in self._groups.items()
            }
        )


def _check(key: str, value: object, least: float, most: float, above: bool) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [one for one in values if isinstance(one, int | float)]
    if value is None or isinstance(value, str):  # whose type was judged
        return
    within = [(one > least or (one == least and not above)) and one <= most for one in numbers]
    if len(numbers) < len(values) or not all(within):
        raise ConfigError(
            f"recipe.{key}={value} must be {'above' if above else 'at least'} {least:g} and at "
            f"most {most:g}"
        )
