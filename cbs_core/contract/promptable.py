"""Segmenters whose classes are words: an optional interface of the kind ``segmenter``."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cbs_core.contract.interfaces import Segmenter


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
