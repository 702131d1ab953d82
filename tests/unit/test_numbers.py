"""Every number of every configuration: what is none, or none that anybody means, is one line."""

import inspect
import math
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, get_args

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cbs_core.choose.presets import conf_dir, install
from cbs_core.choose.registry import REGISTRIES, checked_parameters
from cbs_core.contract.errors import ConfigError
from cbs_core.evaluation.session import evaluate_session
from cbs_core.live.session import live_session
from cbs_core.run.settings import parse
from cbs_core.scene import session as scene
from cbs_core.training import session as training

NO_NUMBERS = (math.nan, math.inf, -math.inf, "abc", "", "nan", [1], [10**9, 10**9], {"a": 1}, True)

Configuration = dict[str, Any]


def parameters() -> Iterator[tuple[str, str, str]]:
    """Every parameter of our plugins that is a number."""
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            if not registry.origin(name).startswith("class-based-styling "):
                continue
            for one in inspect.signature(registry.load(name)).parameters.values():
                union = isinstance(one.annotation, UnionType)
                types = {*get_args(one.annotation)} if union else {one.annotation}
                if types & {int, float} and types <= {int, float, type(None)}:
                    yield kind, name, one.name


def test_numbers_of_plugins() -> None:
    found = list(parameters())
    assert len(found) > 30
    for kind, name, key in found:
        for value in NO_NUMBERS:
            with pytest.raises(ConfigError) as refused:
                checked_parameters(
                    REGISTRIES[kind].load(name), {key: value}, owner=f"{kind} '{name}'"
                )
            assert key in str(refused.value), (name, key, value)


@pytest.fixture(scope="module")
def composed() -> Callable[..., Configuration]:
    install()

    def call(name: str, *overrides: str) -> Configuration:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            found = OmegaConf.to_container(compose(name, list(overrides)), resolve=True)
        assert isinstance(found, dict)
        return {str(key): value for key, value in found.items()}

    return call


def _train(config: Configuration) -> object:
    return training._settings(config, torch.device("cpu"))


def _scene(config: Configuration) -> object:
    return scene._request(config, None, None)  # type: ignore[arg-type]


def _live(config: Configuration) -> object:
    return live_session(config, run_folder=None, say=print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "read", "keys", "chosen", "worse"),
    [
        (
            *("config", parse, "segment_every target_fps timeout_s max_age_ms sheet_frames"),
            *((), (-1, -0.5)),
        ),
        ("eval", evaluate_session, "limit size calls", ["segmenter=dabnet", "data=x"], (0, 10**30)),
        (
            *("train", _train, "steps minutes seed workers clip divergence checkpoint_every"),
            *(["styler=johnson", "data=x"], (-1, 10**30)),
        ),
        (
            *("train", _train, "checkpoint_minutes validate_every preview_every"),
            *(["styler=johnson", "data=x"], (-1, 10**30)),
        ),
        ("scene", _scene, "views size iterations", ["input=x.glb"], (-1, 10**30)),
        ("live", _live, "size port cameras watchers", [], (-1, 10**30)),
    ],
)
def test_numbers_of_commands(
    name: str,
    read: Callable[[Configuration], object],
    keys: str,
    chosen: list[str],
    worse: tuple[object, ...],
    composed: Callable[..., Configuration],
) -> None:
    config = composed(name, *chosen)
    for key in keys.split():
        assert key in config
        for value in (*NO_NUMBERS, *worse):
            with pytest.raises(ConfigError) as refused:
                read({**config, key: value})
            assert str(refused.value).startswith(f"{key}="), (key, value, str(refused.value))


@pytest.mark.parametrize("key", ["segment_size", "style_size"])
def test_a_size_is_no_other_thing(composed: Callable[..., Configuration], key: str) -> None:
    config = composed("config")
    for value in (*NO_NUMBERS[:6], [1], {"a": 1}, True, 0, -1, 1.5, 10**30, [0, 5], [1, math.nan]):
        with pytest.raises(ConfigError, match=f"{key}="):
            parse({**config, key: value})
