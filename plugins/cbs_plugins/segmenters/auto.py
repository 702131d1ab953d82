"""The net that knows the words of the routes, among those that packages of plugins bring."""

from collections.abc import Sequence

from cbs_core.choose import knowing, registry
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import Segmenter


class AutoSegmenter:
    """Chooses a segmenter by the words that it is asked for (`Promptable`)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Tells that there are none yet.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "segmenter=auto is chosen by the words of cbs-run's routes: name a segmenter here"
        )

    def prompted(self, words: Sequence[str], /) -> Segmenter:
        """Returns the best segmenter that knows all the words.

        Raises:
            ConfigError: none does.
        """
        net = knowing.best(words)
        return registry.segmenters.create(net.plugin, weights=str(net.path))
