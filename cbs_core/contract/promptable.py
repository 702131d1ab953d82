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
        """Returns a segmenter of these words and of what is none of them.

        Its ``classes`` are ``background`` and then the words, spelt and ordered as they are given.
        What an earlier call returned stays as it is.

        Args:
            words: at least one, each once.

        Raises:
            ConfigError: it does not take one of them.
        """
        ...
