"""How large the pictures are that plugins are given, by the configuration and by what they say."""

from cbs_core.choose.registry import guarded
from cbs_core.contract.errors import PluginContractError
from cbs_core.frame.enlarging import Enlarged
from cbs_core.frame.sizes import Auto, Fit, Scale
from cbs_core.frame.styling import Styling


def scale(spec: Scale | Auto, plugin: object, words: str) -> Scale:
    """Returns how large the picture is that a plugin is given.

    Args:
        spec: ``segment_size`` or ``style_size``.
        plugin: the segmenter or the styler.
        words: names it in errors.

    Raises:
        PluginContractError: what it is good at is no size.
    """
    if spec != "auto":
        return spec
    good = guarded(f"the {words}", getattr, plugin, "good_size", None)
    if good is None:
        return None
    try:
        height, width = map(int, good)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    if height < 1 or width < 1:
        raise PluginContractError(
            f"the {words} has good_size={good!r}, where a height and a width in pixels are due"
        )
    return Fit(height, width)


def sized(spec: Scale | Auto, plugin: object, painted: Styling) -> Styling:
    """Returns a styler's `Styling` that paints at the size that is wanted.

    Args:
        spec: ``style_size``.
        plugin: the styler itself.
        painted: it paints whatever picture it is given.
    """
    found = scale(spec, plugin, painted.what)
    return painted if found is None else Enlarged(painted, found)
