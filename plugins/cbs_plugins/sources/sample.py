"""Real photographs that are already installed: scikit-image carries them."""

from importlib.util import find_spec
from pathlib import Path

from cbs_core.contract.errors import SourceError, closest
from cbs_plugins.sources.image import ImageSource

SAMPLES = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
"""Name -> file in scikit-image's ``data`` folder."""


def sample_file(name: str | None) -> Path:
    """Returns the file of a sample, named ``cat`` or ``sample:cat``; ``astronaut`` by default.

    Raises:
        SourceError: with the closest name and the list, or how to install the photographs.
    """
    name = (name or "").removeprefix("sample:") or "astronaut"
    if name not in SAMPLES:
        raise SourceError(
            f"no sample named '{name}'{closest(name, SAMPLES)} (there are: {', '.join(SAMPLES)})"
        )
    # find_spec does not import scikit-image, which takes a while.
    package = find_spec("skimage")
    folders = package.submodule_search_locations if package else None
    file = Path(folders[0]) / "data" / SAMPLES[name] if folders else None
    if file is None or not file.is_file():
        raise SourceError(f"sample '{name}' is not installed: run 'pip install -U scikit-image'")
    return file


class SampleSource(ImageSource):
    """Gives one of `SAMPLES` as a stream of one frame.

    Args:
        path: the sample's name, with or without ``sample:``; none means ``astronaut``.

    Raises:
        SourceError: where there is no such sample.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(str(sample_file(path)))
