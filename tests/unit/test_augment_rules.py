"""What may become of each class, and what chance makes of it."""

import numpy as np
import pytest

from cbs_core.augment.rules import chance, draw, parse
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, PluginNotFoundError

CLASSES = ("sky", "road", "car", "bus", "unlabelled")


def rules(spec: object) -> tuple:
    return parse(spec, classes=CLASSES, styler=Choice("johnson"), edges=Choice("hard"))


def test_a_rule_is_a_style_a_list_or_a_mapping() -> None:
    road, car, rest = rules(
        {
            "road": "wave",
            "vehicles": ["wave", {"styler": "magenta", "style": "painting.jpg"}],
            "rest": {
                "styles": ["udnie"],
                "probability": 0.25,
                "strength": [0.2, 0.6],
                "keep_color": True,
                "edges": "feather",
            },
        }
    )
    assert [one.params["style"] for one in road.pool] == ["wave"]
    assert (road.probability, road.strength, road.keep_color) == (1, (1, 1), 0)
    assert [(one.styler, one.classes) for one in car.pool] == [
        ("johnson", ("car", "bus")),
        ("magenta", ("car", "bus")),
    ]
    assert rest.pool[0].classes == ("sky", "unlabelled")
    assert (rest.probability, rest.strength, rest.keep_color) == (0.25, (0.2, 0.6), 1)
    assert rest.edges == Choice("feather", {"radius": 4})


def test_without_styles_all_of_the_styler_may_be_drawn() -> None:
    (everything,) = rules(None)
    assert everything.pool[0].classes == CLASSES
    assert {"wave", "udnie"} <= {one.params["style"] for one in everything.pool}


def test_what_is_drawn_is_of_the_seed_the_picture_and_the_variant_alone() -> None:
    made = rules({"road": {"strength": [0, 1]}, "rest": {"probability": 0.5}})
    drawn = {
        (seed, name, variant): draw(made, chance(seed, name, variant))
        for seed in (0, 1)
        for name in ("a.png", "b.png")
        for variant in (1, 2)
    }
    for key, value in drawn.items():
        assert draw(made, chance(*key)) == value
    assert len({one[0].route.strength for one in drawn.values()}) == len(drawn)


def test_another_rule_leaves_the_draws_of_those_before_it() -> None:
    alone = draw(rules({"road": {}}), chance(3, "a", 1))
    both = draw(rules({"road": {}, "sky": {}}), chance(3, "a", 1))
    assert both[0].route == alone[0].route


def test_shares_of_what_is_drawn_are_as_the_rule_says() -> None:
    (rule,) = rules(
        {"car": {"styles": ["wave", "udnie"], "probability": 0.5, "strength": [0.2, 0.6]}}
    )
    by = np.random.default_rng(0)
    drawn = [draw([rule], by) for _ in range(2000)]
    shown = [one[0].route for one in drawn if one]
    assert len(shown) == pytest.approx(1000, abs=80)
    assert sum(one.params["style"] == "wave" for one in shown) == pytest.approx(
        len(shown) / 2, abs=80
    )
    strengths = np.array([one.strength for one in shown])
    assert (strengths.min() >= 0.2, strengths.max() <= 0.6) == (True, True)
    assert strengths.mean() == pytest.approx(0.4, abs=0.02)
    assert not any(one.keep_color for one in shown)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "names no class"),
        ({"raod": "wave"}, "road"),
        ({"road": {"style": "wave"}}, "has 'style'; did you mean 'styles'"),
        ({"road": {"probability": 1.5}}, r"probability '1.5' of 'road' is no number in 0..1"),
        ({"road": {"strength": [0.6, 0.2]}}, "the least comes first"),
        ({"road": {"styles": ["none"]}}, "say how often there is none by probability"),
        ({"car": "wave", "auto": "udnie"}, "name 'car' twice"),
    ],
)
def test_what_is_wrong_is_told(spec, message) -> None:
    with pytest.raises(ConfigError, match=message):
        rules(spec)


def test_edges_are_a_compositor() -> None:
    with pytest.raises(PluginNotFoundError, match="fether"):
        rules({"road": {"edges": "fether"}})
