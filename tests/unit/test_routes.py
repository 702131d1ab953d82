"""What people write as ``routes=`` and what it means."""

import pytest

from cbs_core.contract.errors import ConfigError
from cbs_core.frame.routes import Route, parse

CLASSES = ("road", "car", "person", "traffic light", "sky")
PARAMS = {"style": "mosaic", "weights": None}


def read(spec, styler="johnson", params=PARAMS):
    return parse(spec, classes=CLASSES, styler=styler, params=params)


@pytest.mark.parametrize(
    ("spec", "classes"),
    [
        (["car"], ("car",)),
        (["car", "person"], ("car", "person")),
        (["car", "Car", "person"], ("car", "person")),
        ("car", ("car",)),
        (["Traffic_Light"], ("traffic light",)),
    ],
)
def test_a_list_is_one_route_of_the_styler_as_configured(spec, classes):
    assert read(spec) == (Route(classes, "johnson", PARAMS),)


def test_a_mapping_gives_each_class_its_style():
    car, person, road = read(
        {
            "car": "wave",
            "person": {"style": "udnie", "strength": 0.6, "keep_color": True},
            "sky": "none",
            "traffic-light": {"styler": "none"},
            "road": {"styler": "pastel", "levels": 3},
        }
    )
    assert car == Route(("car",), "johnson", {"style": "wave"})
    assert (person.params, person.strength, person.keep_color) == ({"style": "udnie"}, 0.6, True)
    assert (road.styler, road.params) == ("pastel", {"levels": 3})


def test_a_routes_own_style_wins_over_the_stylers_file():
    file = {"style": None, "weights": "a.pth"}
    assert read({"car": "wave"}, params=file)[0].params == {"style": "wave"}
    (route,) = read({"car": {"strength": 0.5}}, params=file)
    assert (route.params, route.strength) == (file, 0.5)


def test_without_routes_people_and_cars_are_styled_where_the_segmenter_knows_them():
    assert read(None)[0].classes == ("person", "car")
    with pytest.raises(ConfigError, match=r"names no class.*The segmenter knows: cat, dog"):
        parse(None, classes=("cat", "dog"), styler="johnson", params=PARAMS)


@pytest.mark.parametrize("spec", [None, ["car"], {"car": "none"}])
def test_the_styler_none_gives_no_route(spec):
    assert read(spec, styler="none", params={}) == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["kar"], r"^no class 'kar'; did you mean 'car'\? \(the segmenter knows: road, car, pers"),
        (["zzz"], r"^no class 'zzz' \(the segmenter knows: road, "),
        ({"kar": "wave"}, "no class 'kar'"),
        ([], r"routes=\[\] names no class: give a list"),
        ({}, r"routes=\{\} names no class: give a list"),
        (3, "routes=3 names no class"),
        ({"car": "a", "Car": "b"}, "routes name 'car' twice"),
        ({"car": True}, "'car: True' is neither a style's name nor a mapping"),
        ({"car": None}, "'car: None' is neither"),
        ({"car": {"strength": 1.5}}, r"strength 1\.5 of car is outside 0\.\.1"),
        ({"car": {"strength": -0.1}}, "outside"),
        ({"car": {"strength": float("nan")}}, "outside"),
        ({"car": {"strength": "much"}}, "strength 'much' of 'car' is no number"),
        ({"car": {"strength": True}}, "strength 'True' of 'car' is no number"),
        ({"car": {"keep_color": 1}}, "keep_color '1' of 'car' is not true or false"),
    ],
)
def test_what_makes_no_sense_is_told(spec, message):
    with pytest.raises(ConfigError, match=message):
        read(spec)


STREET = ("road", "car", "bus", "bicycle", "pedestrian", "tree", "sky")


def styles(spec, classes=STREET):
    """Class -> style, of every route."""
    routes = parse(spec, classes=classes, styler="johnson", params=PARAMS)
    return {route.classes: route.params["style"] for route in routes}


def test_aliases_and_groups_in_a_list():
    assert styles(["people", "auto"]) == {("pedestrian", "car"): "mosaic"}
    assert styles(["vehicles", "sky"]) == {("car", "bus", "bicycle", "sky"): "mosaic"}
    assert styles(["vehicles", "car"]) == {("car", "bus", "bicycle"): "mosaic"}
    assert styles("nature") == {("tree",): "mosaic"}


@pytest.mark.parametrize("turn", [dict, lambda spec: dict(reversed(spec.items()))])
def test_a_class_named_beside_its_group_has_its_own_route(turn):
    spec = turn({"vehicles": "wave", "auto": "udnie", "bus": "none"})
    assert styles(spec) == {("bicycle",): "wave", ("car",): "udnie"}
    spec = turn({"vehicles": "none", "car": "udnie"})
    assert styles(spec) == {("car",): "udnie"}


def test_a_group_of_which_every_class_is_named_has_no_route():
    assert styles({"vehicles": "wave", "car": "udnie"}, ("sky", "car")) == {("car",): "udnie"}


def test_the_default_routes_know_aliases():
    assert styles(None) == {("pedestrian", "car"): "mosaic"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["animals"], r"no class of the group 'animals' \(it knows: road, car, bus"),
        (["vehicels"], r"mean 'vehicles'.*groups: vehicles, nature, plants, ground\)$"),
        (["peopel"], "did you mean 'people'"),
        ({"pedestrian": "a", "people": "none"}, "routes name 'pedestrian' twice"),
        ({"nature": "a", "Nature": "b"}, "routes name 'tree' twice"),
        ({"vehicles": {"strength": 2}}, r"strength 2\.0 of car, bus, bicycle is outside"),
    ],
)
def test_groups_and_aliases_that_make_no_sense_are_told(spec, message):
    with pytest.raises(ConfigError, match=message):
        styles(spec)


def test_a_style_is_a_styler_with_its_parameters():
    one = Route(("car",), "johnson", {"style": "wave", "weights": None})
    other = Route(("sky",), "johnson", {"weights": None, "style": "wave"}, strength=0.5)
    assert one.style == other.style == "johnson(style=wave)"
    assert one.style != Route(("car",), "johnson", {"style": "udnie"}).style


@pytest.mark.parametrize(
    ("params", "label"),
    [
        ({"style": "wave"}, "wave"),
        ({"style": None, "weights": "nets/my wave.v2.pth"}, "my wave.v2"),
        ({"style": "v1.5"}, "v1.5"),
        ({"style": [__file__, "wave"]}, "test_routes + wave"),
        ({"levels": 3}, "johnson"),
    ],
)
def test_the_label_for_people(params, label):
    assert Route(("car",), "johnson", params).label == label


def test_a_style_may_be_named_by_a_number():
    (route,) = parse({"car": 7}, classes=("car",), styler="magenta", params={})
    assert route.params == {"style": "7"}
