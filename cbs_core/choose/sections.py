"""A plugin's section of the configuration: its name, and what it is built with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cbs_core.contract.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Choice:
    """A plugin as it is chosen."""

    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    """Of its constructor."""

    @property
    def key(self) -> str:
        """The same for two choices that are built alike."""
        return f"{self.name}({', '.join(f'{k}={self.params[k]!r}' for k in sorted(self.params))})"


def split(section: object, kind: str) -> tuple[str, dict[str, object]]:
    """Returns the plugin's name and parameters of a section.

    Raises:
        ConfigError: the section is no mapping with a ``name``.
    """
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise ConfigError(f"{kind}: no plugin is chosen: say {kind}=NAME")
    params = {str(key): value for key, value in section.items() if key != "name"}
    return str(section["name"]), params


def choice(section: object, kind: str) -> Choice:
    """Returns a section as a `Choice`; raises as `split`."""
    return Choice(*split(section, kind))


def one_net(config: Mapping[str, object], done: str) -> Literal["segmenter", "styler"]:
    """Returns which of the two kinds a command that takes one net is given.

    Args:
        config: composed.
        done: what happens to it, for the message: ``trained``, ``exported``, ...

    Raises:
        ConfigError: there are none or two.
    """
    kinds: tuple[Literal["segmenter", "styler"], ...] = ("segmenter", "styler")
    found = [kind for kind in kinds if config.get(kind) is not None]
    if len(found) != 1:
        raise ConfigError(
            f"one plugin is {done} at a time: say segmenter=NAME or styler=NAME"
            + (", not both" if found else "")
        )
    return found[0]


def flag(config: Mapping[str, object], key: str, default: bool | None = None) -> bool:
    """Returns a value that is true or false.

    Args:
        config: holds it.
        key: its key.
        default: where there is no such key; None: there must be.

    Raises:
        ConfigError: it is neither.
    """
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value} is neither true nor false")
    return value


def like(key: str, value: object, usual: float) -> None:
    """Refuses what is not true or false, or no number, as what stands there usually is.

    Args:
        key: its key.
        value: None is no number, and may mean something.
        usual: what is there where nobody says anything.

    Raises:
        ConfigError: it is of another kind.
    """
    if isinstance(usual, bool):
        flag({key: value}, key)
    elif value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise ConfigError(f"{key}={value} is no number")
