"""The YAML that describes an ONNX file.

An ONNX file does not tell what its numbers mean. The YAML beside it does (``net.onnx.yaml`` or
``net.yaml`` beside ``net.onnx``), and is read as plain data: nothing in it is ever called.

    layout: NCHW                # or NHWC, of input and output
    color: RGB                  # or BGR, of input and of an output picture
    range: [0, 1]               # what black and white are in the input: [0, 255], [-1, 1], ...
    mean: [0.485, 0.456, 0.406] # subtracted after that, in the input's own colour order; optional
    std: [0.229, 0.224, 0.225]  # divides the difference; optional
    size: [512, 1024]           # height, width: the picture is resized to it; optional
    good_size: [384, 512]       # height, width of pictures that the net is good at; optional
    multiple: 32                # the picture is padded to such sides; optional
    min_side: 8                 # the picture is padded to at least this; optional
    classes: [road, car]        # of a segmenter: in channel order, or the name of a vocabulary
    output_range: [0, 1]        # of a styler: what black and white are in the output
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from cbs_core.choose import userfiles
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.words import vocabularies

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec:
    """What an ONNX file's numbers mean, by the keys of the YAML (see the module's docstring)."""

    layout: str
    color: str
    range: tuple[float, ...]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: tuple[int, ...] | None = None
    good_size: tuple[int, ...] | None = None
    multiple: int = 1
    min_side: int = 1
    classes: tuple[str, ...] = ()
    output_range: tuple[float, ...] = ()


def read_spec(path: str | Path | None, onnx: str | Path, *, needs: str) -> Spec:
    """Reads the YAML of an ONNX file.

    Args:
        path: the YAML; None is the one beside the ONNX file.
        onnx: the ONNX file.
        needs: the key that this kind of plugin needs, ``classes`` or ``output_range``.

    Raises:
        ConfigError: it is missing or no YAML, has an unknown key or lacks one, or a value is wrong.
    """
    path = _beside(Path(onnx)) if path is None else Path(path).expanduser()
    content = _read_yaml(path, example=f"layout, color, range and {needs}")
    known = {field.name: field.default is MISSING or field.name == needs for field in fields(Spec)}
    for key in content:
        if key not in known:
            raise ConfigError(
                f"'{path}': unknown key '{key}'{closest(str(key), known)} (there are: "
                f"{', '.join(known)})"
            )
    if absent := [key for key, required in known.items() if required and key not in content]:
        raise ConfigError(
            f"'{path}' does not tell {', '.join(absent)}: add a line such as {absent[0]}: VALUE, "
            f"which is {_CHECKS[absent[0]][1]}"
        )
    values = {}
    for key, value in content.items():
        check, due = _CHECKS[key]
        try:
            values[key] = check(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"'{path}': {key}: {str(value)[:80]} is wrong: give {due}") from error
    return Spec(**values)


def _beside(onnx: Path) -> Path:
    onnx = onnx.expanduser()
    full, short = onnx.with_name(f"{onnx.name}.yaml"), onnx.with_suffix(".yaml")
    return short if short.is_file() and not full.is_file() else full


def _read_yaml(path: Path, *, example: str) -> Mapping[Any, object]:
    try:
        content = userfiles.values(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no description '{path}' of the ONNX file: write it there, with {example}, or name "
            "another with spec=FILE"
        ) from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"'{path}' is no mapping of keys to values: write {example} into it")
    return content


def _one_of(*known: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError
        return str(value)

    return check


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError
    return value


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: Any) -> float:
    if _float(value) <= 0:
        raise ValueError
    return _float(value)


def _list_of(count: int, check: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def check_all(values: Any) -> tuple[T, ...]:
        if not isinstance(values, Sequence) or len(values) != count:
            raise ValueError
        return tuple(map(check, values))

    return check_all


def _interval(value: Any) -> tuple[float, ...]:
    low, high = _list_of(2, _float)(value)
    if low >= high:
        raise ValueError
    return low, high


def _classes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(vocabularies.get(value))
    names = tuple(map(str, value))
    if not names or len(set(names)) < len(names):
        raise ValueError
    return names


_CHECKS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "layout": (_one_of("NCHW", "NHWC"), "NCHW or NHWC"),
    "color": (_one_of("RGB", "BGR"), "RGB or BGR"),
    "range": (_interval, "black and white, such as [0, 255]"),
    "mean": (_list_of(3, _float), "three numbers"),
    "std": (_list_of(3, _positive), "three numbers above 0"),
    "size": (_list_of(2, _integer), "[HEIGHT, WIDTH] in pixels"),
    "good_size": (_list_of(2, _integer), "[HEIGHT, WIDTH] in pixels"),
    "multiple": (_integer, "a number of pixels"),
    "min_side": (_integer, "a number of pixels"),
    "classes": (_classes, "a list of names, each once, or the name of a vocabulary"),
    "output_range": (_interval, "black and white, such as [0, 1]"),
}
"""For each key of the YAML what reads its value (else TypeError or ValueError), and in words."""
