"""What a package may add beside plugins: checks for ``cbs-doctor`` and losses for ``cbs-eval``.

Like plugins they need not import `cbs_core`: a check yields anything that has the three fields of a
`Finding`, and a plain tuple of three texts is one as well.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
"""Levels of a finding. A note is something that could be better; a problem makes ``cbs-doctor``
exit with 1."""

LEVELS = (OK, NOTE, PROBLEM)


class Finding(NamedTuple):
    """One line of ``cbs-doctor``; a callable of the group ``cbs.checks`` yields them."""

    level: str
    """``ok``, ``note`` or ``PROBLEM``."""

    subject: str
    """A word or two: ``encoder``."""

    text: str
    """What was found; of a note or a problem, also the command that mends it."""


@runtime_checkable
class Losses(Protocol):
    """By what ``cbs-eval`` scores a styler; the group ``cbs.losses``, chosen by ``losses=NAME``.

    The entry point names a class or a function that is called without parameters. What it returns
    is moved to the device where it is a `torch.nn.Module`.
    """

    def __call__(
        self, styled: "Tensor", photo: "Tensor", painting: "Tensor", /
    ) -> Mapping[str, "Tensor"]:
        """Returns losses without dimensions, ``total`` among them, by which stylers are compared.

        Args:
            styled: ``(1,3,H,W)`` RGB in [0,1].
            photo: likewise, of the same size.
            painting: ``(1,3,H',W')``, the style at the scale whose brushwork is to be met.
        """
        ...


class Distance(Protocol):
    """How different two pictures look; the group ``cbs.distances``, by ``cbs-scene distance=NAME``.

    The entry point names a class or a function that is called without parameters. By ``refine=``
    colours are made better, which takes one that can be differentiated by its first picture, and
    which is moved to the device where it is a `torch.nn.Module`.
    """

    def __call__(self, one: "Tensor", two: "Tensor", /) -> "Tensor":
        """Returns ``(1,1,H,W)``, a distance at each pixel, 0 where the two look the same.

        Args:
            one: ``(1,3,H,W)`` RGB in [0,1]; on the CPU, or the device that it was moved to.
            two: likewise, of the same size.
        """
        ...
