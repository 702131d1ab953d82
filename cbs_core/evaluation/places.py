"""What is measured, and where the figures go: told without torch."""

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.choose.sections import flag, one_net
from cbs_core.contract.errors import ConfigError
from cbs_core.datasets import photos
from cbs_core.machine.inputs import input_file
from cbs_core.run.destinations import refuse, refuse_part, writable

if TYPE_CHECKING:
    from cbs_core.contract.accelerated import Kind


def chosen(config: Mapping[str, object]) -> "Kind":
    """Returns the kind of the one plugin that is measured.

    Raises:
        ConfigError: there are none or two, or its pictures are not there.
    """
    kind: Kind = one_net(config, "evaluated")
    data = str(config["data"])
    if kind == "styler":
        photos.place(data)
        painting(config)
    else:
        from cbs_core.datasets import labelled  # numpy, which takes a while

        labelled.place(data)
    return kind


def painting(config: Mapping[str, object]) -> Path:
    """Returns the picture whose style a styler's pictures are compared with.

    Raises:
        ConfigError: none is named.
        SourceError: it is no file.
    """
    given = config.get("painting")
    if given is None:
        raise ConfigError("a styler is compared with its style: say painting=FILE")
    return input_file(str(given))


def places(config: Mapping[str, object]) -> tuple[Path, Path]:
    """Returns where the figures and the chart go, where nothing of anybody's is.

    Raises:
        ConfigError: something is, or the output has another suffix.
    """
    if config["output"] is None:
        for number in count(1):
            output = Path(f"eval{'' if number == 1 else f'.{number}'}.json")
            if not (os.path.lexists(output) or os.path.lexists(output.with_suffix(".png"))):
                return output, output.with_suffix(".png")
    output = Path(str(config["output"])).expanduser()
    if output.suffix != ".json":
        raise ConfigError(f"output={output} does not end in .json: say output={output}.json")
    chart = output.with_suffix(".png")
    overwrite = flag(config, "overwrite", default=False)
    refuse([output], overwrite)
    refuse_part(chart, overwrite=overwrite)
    writable(output)
    return output, chart
