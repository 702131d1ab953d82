"""The feed-forward net of Johnson et al. 2016 (1603.08155) as a styler: one net a style."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.choose.weights import Checkpoint
from cbs_plugins.nets.feed_forward import FeedForward
from cbs_plugins.nets.johnson import SMOOTH, TransformerNet, read_net

if TYPE_CHECKING:
    from cbs_plugins.training.style import StyleTask

WIDTH = 16
"""That is trained where none is said: a third of the time of 32 in a frame."""


class JohnsonStyler(FeedForward):
    """TransformerNet with its scaling (`FeedForward`)."""

    room = "johnson"
    read = staticmethod(read_net)
    net: TransformerNet

    @property
    def bytes_per_pixel(self) -> int:
        """Peak resident memory on the CPU, measured.

        974 to 1130 at width 32, 493 to 574 at 16, 277 to 349 at 8; the part that does not grow with
        the width is the picture and its copies.
        """
        return 64 + 32 * self.net.width

    @classmethod
    def task(cls, **params: object) -> "StyleTask":
        """Returns the training of a style (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_core.training.recipe import bind
        from cbs_plugins.training.style import Form, StyleTask
        from cbs_plugins.training.style_recipe import Recipe

        recipe = bind(Recipe, params, owner="training of the styler 'johnson'")
        header = {"net": "TransformerNet", SMOOTH: "true"}
        return StyleTask(recipe, Form(header, partial(TransformerNet, smooth=True), WIDTH, _begun))


def _begun(path: str | Path) -> tuple[TransformerNet, Checkpoint]:
    """Returns a net to train on, a smooth one whatever the file's was."""
    net, checkpoint = read_net(path)
    smooth = TransformerNet(net.width, smooth=True)
    smooth.load_state_dict(net.state_dict())
    return smooth, checkpoint
