"""What a plugin is given is checked against its signature before it is called."""

from collections.abc import Callable

import pytest

from cbs_core.choose.registry import Registry, checked_parameters
from cbs_core.contract.errors import ConfigError


def plugin(
    style: str | None = None,
    radius: int = 4,
    rate: float | str = 25,
    eps: float = 0.1,
    audio: bool = True,
    path: object = None,
    sloppy: int = None,  # type: ignore[assignment]  # noqa: RUF013
) -> None: ...


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("style", "wave"),
        ("style", None),
        ("radius", 3),
        ("rate", "30000/1001"),
        ("rate", 25),
        ("eps", 1),
        ("eps", 1e-3),
        ("audio", False),
        ("path", ["anything"]),
        ("sloppy", None),
    ],
)
def test_what_fits_is_passed_on(key: str, value: object) -> None:
    assert checked_parameters(plugin, {key: value}, owner="plugin") == {key: value}


def test_a_number_may_be_a_name() -> None:
    assert checked_parameters(plugin, {"style": 1984}, owner="plugin") == {"style": "1984"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("style", True, "a text as style, not 'True'"),
        ("radius", "wide", "a whole number as radius, not 'wide'"),
        ("radius", 1.5, "a whole number as radius, not '1.5'"),
        ("radius", True, "a whole number as radius"),
        ("radius", None, "a whole number as radius"),
        ("eps", "small", "a number as eps"),
        ("audio", 1, "true or false as audio"),
        ("glow", 1, "no parameter 'glow'"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checked_parameters(plugin, {key: value}, owner="plugin")


@pytest.mark.parametrize(
    ("target", "takes"), [(plugin, True), (lambda **_: None, True), (lambda rate: None, False)]
)
def test_whether_a_parameter_is_taken(target: Callable[..., None], takes: bool) -> None:
    registry: Registry[None] = Registry("thing", "cbs.things")
    registry.register("mine", target)
    assert registry.takes("mine", "path") is takes
