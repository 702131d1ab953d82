"""The segmenter: a net of three layers, whose weights are in this package.

Letters: ``B`` batch, ``H W`` the frame.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cbs_core.choose.weights import available, find, load, load_into
from cbs_meadow.scenes import CLASSES

if TYPE_CHECKING:
    from cbs_meadow.task import MeadowTask


def net() -> nn.Sequential:
    """Returns the net without weights: ``(B,3,H,W)`` in [0,1] -> logits at half the size."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(16, len(CLASSES), 1),
    )


class Meadow(nn.Module):
    """Tells sky and grass from all else, by colour and a little of what is around.

    Args:
        weights: a file; None takes ``meadow/scenes.*`` from the weight folders, of which this
            package's own is one.

    Raises:
        WeightsError: they are not there, or of another net.
    """

    classes = CLASSES
    bytes_per_pixel = 40

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        checkpoint = load(weights or find("meadow", "scenes", flag="segmenter.weights"))
        self.weights_files = (checkpoint.file,)
        self.net = net()
        load_into(self.net, checkpoint, net="Meadow")

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,3,ceil(H/2),ceil(W/2))``."""
        logits: Tensor = self.net(image)
        return logits

    @classmethod
    def task(cls, **params: int | float | str) -> "MeadowTask":
        """Returns its training, for ``cbs-train segmenter=meadow data=scenes``."""
        from cbs_meadow.task import MeadowTask

        return MeadowTask(**params)  # type: ignore[arg-type]


def check() -> Iterator[tuple[str, str, str]]:
    """Yields what ``cbs-doctor`` says of this package."""
    if "scenes" in available("meadow"):
        yield "ok", "meadow", "its weights are there"
    else:
        yield "PROBLEM", "meadow", "its weights are gone: pip install --force-reinstall cbs-meadow"
