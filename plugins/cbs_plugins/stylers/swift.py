"""A feed-forward net for speed as a styler: one net a style (`cbs_plugins.nets.swift`)."""

from typing import TYPE_CHECKING

from cbs_core.choose.weights import find
from cbs_plugins.nets.feed_forward import FeedForward
from cbs_plugins.nets.swift import SwiftNet, read_net

if TYPE_CHECKING:
    from cbs_plugins.training.style import StyleTask

DEFAULT_STYLE = "starry_night"

WIDTH = 48
"""That is trained where none is said."""


BYTES_PER_PIXEL = 160
"""Peak resident memory on the CPU, measured; most of it is the picture and its copies."""


class SwiftStyler(FeedForward):
    """SwiftNet with its scaling: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    The width is the weights' own.

    Args:
        style: a name in the weight folders (``swift/NAME.*``, else the widest
            ``swift/NAME_widthN.*``); None is `DEFAULT_STYLE`.
        weights: a file, which goes before a style's name.
        halo: pixels around a window that are styled with it and cut off (`RegionStyler`), rounded
            up to multiples of 8; None is what the net sees, with which windows are exact.
        grid: whether the grid of eight pixels that the net makes is left as it is; None is no.

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
            weights or find("swift", style or DEFAULT_STYLE, flag="styler.weights")
        )
        super().__init__(net, checkpoint, halo, grid)

        self.bytes_per_pixel = BYTES_PER_PIXEL

    @classmethod
    def task(cls, **params: object) -> "StyleTask":
        """Returns the training of a style (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_core.training.recipe import bind
        from cbs_plugins.training.style import Form, StyleTask
        from cbs_plugins.training.style_recipe import Recipe

        recipe = bind(Recipe, params, owner="training of the styler 'swift'")
        return StyleTask(recipe, Form({"net": "SwiftNet"}, SwiftNet, WIDTH, read_net))
