"""The feed-forward net of Johnson et al. 2016 (1603.08155) as a styler: one net a style."""

from functools import partial
from typing import TYPE_CHECKING

from cbs_core.choose.weights import Checkpoint, find
from cbs_plugins.nets.feed_forward import FeedForward
from cbs_plugins.nets.johnson import SMOOTH, TransformerNet, read_net

if TYPE_CHECKING:
    from cbs_plugins.training.style import StyleTask

DEFAULT_STYLE = "starry_night"

WIDTH = 16
"""That is trained where none is said: a third of the time of 32 in a frame."""


class JohnsonStyler(FeedForward):
    """TransformerNet with its scaling: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    The width is the weights' own.

    Args:
        style: a name in the weight folders (``johnson/NAME.*``, else the widest
            ``johnson/NAME_widthN.*``); None is `DEFAULT_STYLE`.
        weights: a file, which goes before a style's name.
        halo: pixels around a window that are styled with it and cut off (`RegionStyler`), rounded
            up to multiples of 4; None is what the net sees, with which windows are exact.
        grid: whether the grid of four pixels that the net makes is left as it is; None is no.

    Raises:
        ConfigError: a negative halo.
        WeightsMissingError: no such style or file.
        WeightsKeysError: the weights of another net.
    """

    def __init__(
        self,
        style: str | None = None,
        weights: str | None = None,
        halo: int | None = None,
        grid: bool | None = None,
    ) -> None:
        net, checkpoint = read_net(
            weights or find("johnson", style or DEFAULT_STYLE, flag="styler.weights")
        )
        super().__init__(net, checkpoint, halo, grid)

        # Peak resident memory on the CPU, measured: 974 to 1130 at width 32, 493 to 574 at 16, 277
        # to 349 at 8; the part that does not grow with the width is the picture and its copies.
        self.bytes_per_pixel = 64 + 32 * net.width

    @classmethod
    def task(cls, **params: object) -> "StyleTask":
        """Returns the training of a style (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_core.training.recipe import bind
        from cbs_plugins.training.style import Form, StyleTask
        from cbs_plugins.training.style_recipe import Recipe

        recipe = bind(Recipe, params, owner="training of the styler 'johnson'")
        header = {"net": "TransformerNet", SMOOTH: "true"}
        return StyleTask(recipe, Form(header, partial(TransformerNet, smooth=True), WIDTH, _begun))


def _begun(path: str) -> tuple[TransformerNet, Checkpoint]:
    """Returns a net to train on, a smooth one whatever the file's was."""
    net, checkpoint = read_net(path)
    smooth = TransformerNet(net.width, smooth=True)
    smooth.load_state_dict(net.state_dict())
    return smooth, checkpoint
