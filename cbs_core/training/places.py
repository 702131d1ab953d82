"""What is trained, and on what: told without torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cbs_core.choose import named, weights
from cbs_core.choose.sections import one_net, split
from cbs_core.datasets import photos
from cbs_core.machine.inputs import input_file


def check(config: Mapping[str, object]) -> None:
    """Refuses data, a painting or weights to start from that are not there.

    What they are to a plugin, its package declares (`cbs_core.choose.named`); of another's plugin,
    which may draw its data itself, nothing is known.

    Raises:
        CbsError: with what is wrong.
    """
    _, name = chosen(config)
    for key, what in named.declared("train", name):
        value = config.get(key)
        if value is not None and what in CHECKS:
            CHECKS[what](str(value), name)


def _labelled(data: str, _name: str) -> None:
    from cbs_core.datasets import labelled  # numpy, which takes a while

    labelled.place(data)


CHECKS: Mapping[str, Callable[[str, str], object]] = {
    "photographs": lambda data, _: photos.place(data),
    "labelled": _labelled,
    "picture": lambda path, _: input_file(path),
    "start": lambda init, name: weights.there(init_file(init, name)),
}
"""What a key may be declared to name -> what refuses another value, for a plugin."""


def chosen(config: Mapping[str, object]) -> tuple[str, str]:
    """Returns the kind and the name of the one plugin that is trained.

    Raises:
        ConfigError: there are none or two.
    """
    kind = one_net(config, "trained")
    return kind, split(config[kind], kind)[0]


def init_file(init: str, plugin: str) -> Path:
    """Returns the file to start from: ``init`` is one, or names weights of the plugin.

    Raises:
        WeightsMissingError: there is neither.
    """
    file = Path(init).expanduser()
    if file.exists() or file.suffix in weights.SUFFIXES or len(file.parts) > 1:
        return file
    return weights.find(plugin, init, flag="init")
