"""Flat keys become small dataclasses; what does not fit is one line."""

import math
import re
from dataclasses import dataclass, field, fields
from typing import get_type_hints

import pytest
from cbs_plugins.training import segmentation_recipe, style_recipe
from omegaconf import OmegaConf

from cbs_core.choose.presets import conf_dir
from cbs_core.contract.errors import ConfigError
from cbs_core.training.recipe import bind


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    data: str
    crop: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError("recipe.weight is negative")


@dataclass(frozen=True, slots=True)
class Recipe:
    views: Views
    losses: Losses = field(default_factory=Losses)


@dataclass(frozen=True, slots=True)
class Twice:
    views: Views
    again: Views


def test_keys_go_where_they_belong():
    assert bind(Recipe, {"data": "d", "weight": 2}, owner="task") == Recipe(
        Views(data="d"), Losses(weight=2)
    )
    assert bind(Recipe, {"data": 1984, "crop": 8}, owner="task").views == Views(data="1984", crop=8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"data": "d", "crpo": 8},
            r"^the task has no parameter 'crpo'; did you mean 'crop'\? "
            r"\(it takes: data, crop, weight\)$",
        ),
        ({"crop": 8}, r"missing a required argument: 'data' \(it takes: data, crop, weight\)"),
        ({"data": "d", "crop": "wide"}, "a whole number as crop, not 'wide'"),
        ({"data": "d", "weight": None}, "a number as weight"),
        ({"data": "d", "weight": -1.0}, "recipe.weight is negative"),
    ],
)
def test_what_does_not_fit_is_one_line(params, message):
    with pytest.raises(ConfigError, match=message):
        bind(Recipe, params, owner="task")


def test_no_key_is_in_two_groups():
    with pytest.raises(ValueError, match="duplicate parameter name: 'data'"):
        bind(Twice, {"data": "d"}, owner="task")


RECIPES = {"johnson": (style_recipe, {"style": "p.png"}), "dabnet": (segmentation_recipe, {})}

ELSEWHERE = {"steps", "seed", "vgg"}
"""Numbers that `cbs_core.training.session` judges, and one that is a name."""


def numbers():
    for name, (module, _) in RECIPES.items():
        for group in get_type_hints(module.Recipe).values():
            for one in fields(group):
                if re.search(r"\b(int|float)\b", str(get_type_hints(group)[one.name])):
                    yield name, one


@pytest.mark.parametrize(
    ("name", "one"), numbers(), ids=lambda one: one if isinstance(one, str) else one.name
)
def test_every_number_of_a_recipe_has_bounds_and_is_refused_by_its_name(name, one):
    module, rest = RECIPES[name]
    if one.name in ELSEWHERE:
        return
    least, most, above = one.metadata["bounds"]
    inside = one.default if one.default is not None else most
    several = isinstance(inside, tuple)
    wrong = [-1, 1e30, math.nan, math.inf, -math.inf, "many", most + 1, least - 1]
    for value in [*wrong, *([0] if least > 0 or above else [])]:
        said = [value] * len(inside) if several else value
        params = {"data": "d", "steps": 2, **rest, one.name: said}
        with pytest.raises(ConfigError, match=rf"\b{one.name}\b") as told:
            bind(module.Recipe, params, owner="training")
        assert "\n" not in str(told.value)


AT_THE_TOP = {"data", "init", "seed", "steps", "style", "teacher"}
"""Keys of conf/train.yaml that go before a recipe's."""

UNFIT = {"dabnet": {"adjust"}}
"""Its last layer has no bias to adjust."""


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("dabnet", segmentation_recipe),
        ("smp", segmentation_recipe),
        ("johnson", style_recipe),
    ],
)
def test_every_key_of_a_recipe_is_in_its_yaml(name, module):
    kind = "styler" if module is style_recipe else "segmenter"
    told = OmegaConf.load(conf_dir() / "recipe" / kind / f"{name}.yaml").keys()
    groups = get_type_hints(module.Recipe).values()
    keys = {one.name for group in groups for one in fields(group)}
    assert keys - AT_THE_TOP - UNFIT.get(name, set()) <= told
