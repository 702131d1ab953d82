"""A feed-forward net for speed as a styler: one net a style (`cbs_plugins.nets.swift`)."""

from typing import TYPE_CHECKING

from cbs_plugins.nets.feed_forward import FeedForward
from cbs_plugins.nets.swift import SwiftNet, read_net

if TYPE_CHECKING:
    from cbs_plugins.training.style import StyleTask

WIDTH = 48
"""That is trained where none is said."""


class SwiftStyler(FeedForward):
    """SwiftNet with its scaling (`FeedForward`)."""

    room = "swift"
    read = staticmethod(read_net)
    net: SwiftNet

    # Eagerly 97 at 1024x2048, measured, where Johnson's net of width 16 has 237; that one takes up
    # to 574 in the ways it is run, and this one was not measured in all of them.
    bytes_per_pixel = 240

    @classmethod
    def task(cls, **params: object) -> "StyleTask":
        """Returns the training of a style (`cbs_core.contract.interfaces.Trainable`)."""
        from cbs_core.training.recipe import bind
        from cbs_plugins.training.style import Form, StyleTask
        from cbs_plugins.training.style_recipe import Recipe

        recipe = bind(Recipe, params, owner="training of the styler 'swift'")
        return StyleTask(recipe, Form({"net": "SwiftNet"}, SwiftNet, WIDTH, read_net))
