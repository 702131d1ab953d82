"""The suite of plugins with a state from frame to frame."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cbs_core.contract.interfaces import Stateful
from cbs_core.machine import snapshot
from cbs_core.testing.helpers import picture


class StatefulSuite:
    """Conformance of `Stateful`: a stream can be cut anywhere, and gone on with elsewhere."""

    frames = 6
    """Of the clip that is cut."""

    def create(self) -> Any:
        """Returns a new plugin."""
        raise NotImplementedError("override create() to return your plugin")

    def step(self, plugin: Any, index: int) -> Tensor:
        """Gives the plugin frame ``index`` of a clip; returns what it makes of it."""
        out: Tensor = plugin(picture(48, 64, seed=index))
        return out

    def run(self, plugin: Any, numbers: range) -> list[Tensor]:
        """Gives the plugin some frames in order."""
        with torch.inference_mode():
            return [self.step(plugin, index).clone() for index in numbers]

    def test_fills_the_protocol(self) -> None:
        """It has ``reset``, ``state`` and ``restore``."""
        assert isinstance(self.create(), Stateful)

    @pytest.mark.parametrize("cut", [1, 3, 5])
    def test_another_goes_on_from_its_saved_state(self, cut: int) -> None:
        """Frames after the cut come out as if there had been none."""
        want = self.run(self.create(), range(self.frames))
        one, other = self.create(), self.create()
        self.run(one, range(cut))
        saved = snapshot.dumps(one.state())
        self.run(other, range(2))  # another past
        other.restore(snapshot.loads(saved))
        for have, due in zip(self.run(other, range(cut, self.frames)), want[cut:], strict=True):
            assert torch.equal(have, due)

    def test_a_state_is_a_value(self) -> None:
        """What was told after a frame is not written to by the next ones."""
        plugin = self.create()
        self.run(plugin, range(2))
        state = plugin.state()
        before = snapshot.dumps(state)
        self.run(plugin, range(2, 4))
        assert snapshot.dumps(state) == before

    def test_reset_begins_another_stream(self) -> None:
        """The first frame after it comes out as a new plugin's."""
        want = self.run(self.create(), range(1))
        plugin = self.create()
        self.run(plugin, range(1, 4))
        plugin.reset()
        assert torch.equal(self.run(plugin, range(1))[0], want[0])
