"""What is trained, and on what: told without torch."""

from collections.abc import Mapping
from pathlib import Path

from cbs_core.choose import weights
from cbs_core.choose.sections import split
from cbs_core.contract.errors import ConfigError
from cbs_core.datasets import photos
from cbs_core.machine.inputs import input_file


def check(config: Mapping[str, object]) -> None:
    """Refuses data, a painting or weights to start from that are not there.

    Raises:
        CbsError: with what is wrong.
    """
    kind, name = chosen(config)
    if kind == "styler":
        photos.place(str(config["data"]))
    else:
        from cbs_core.datasets import labelled  # numpy, which takes a while

        labelled.place(str(config["data"]))
    if config.get("style") is not None:
        input_file(str(config["style"]))
    if config.get("init") is not None:
        weights.there(init_file(str(config["init"]), name))


def chosen(config: Mapping[str, object]) -> tuple[str, str]:
    """Returns the kind and the name of the one plugin that is trained.

    Raises:
        ConfigError: there are none or two.
    """
    found = [kind for kind in ("segmenter", "styler") if config.get(kind) is not None]
    if len(found) != 1:
        raise ConfigError(
            "one plugin is trained at a time: say segmenter=NAME or styler=NAME"
            + (", not both" if found else "")
        )
    return found[0], split(config[found[0]], found[0])[0]


def init_file(init: str, plugin: str) -> Path:
    """Returns the file to start from: ``init`` is one, or names weights of the plugin.

    Raises:
        WeightsMissingError: there is neither.
    """
    file = Path(init).expanduser()
    if file.exists() or file.suffix in weights.SUFFIXES or len(file.parts) > 1:
        return file
    return weights.find(plugin, init, flag="init")
