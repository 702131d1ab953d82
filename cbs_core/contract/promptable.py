"""Segmenters that are told what to look for, by words or by a point: optional interfaces."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from cbs_core.contract.interfaces import Segmenter
from cbs_core.contract.types import Instances


@runtime_checkable
class Promptable(Protocol):
    """A plugin that makes a segmenter of whatever words it is given.

    It need not be a `Segmenter` itself: the core reads the words of the routes and runs what
    `prompted` returns. The plugin is built once; other routes are other calls.
    """

    def prompted(self, words: Sequence[str], /) -> Segmenter:
        """Returns a segmenter that knows these words, and what is none of them.

        Each word is one of its ``classes``, or another name of some of them
        (`cbs_core.words.shares`). What an earlier call returned stays as it is.

        Args:
            words: at least one, each once.

        Raises:
            ConfigError: it does not take one of them.
        """
        ...


@runtime_checkable
class PointSegmenter(Protocol):
    """A plugin that finds the thing at a point, whatever it is: what ``select=x,y`` names.

    It knows no classes, so that it is no `Segmenter`. In the later frames of a stream the thing is
    found wherever it is by then, which makes such a plugin `Stateful`; another point, or a frame of
    another shape, begins anew.
    """

    classes: tuple[str, ...]
    """Two: the background, and what the thing is called in routes: ``object``."""

    def instances_at(self, image: Tensor, point: tuple[float, float], /) -> list[Instances]:
        """Returns the thing in each of the B frames, which follow each other; none where it is not.

        It may wait for the device, and is run as `InstanceSegmenter.instances` is.

        Args:
            image: ``(B,3,H,W)`` RGB in [0,1].
            point: x and y in the first frame, as shares of its width and height, in (0,1).
        """
        ...
