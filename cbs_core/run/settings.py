"""The configuration of a run, read once into types, with all that is wrong with it told at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cbs_core.choose.sections import Choice, choice
from cbs_core.contract import places
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.places import Place
from cbs_core.frame.mattes import Scale, parse_size
from cbs_core.frame.mattes import parse_mode as parse_matte
from cbs_core.frame.routes import Route
from cbs_core.frame.styling import WHOLE, Extent
from cbs_core.frame.styling import parse as parse_extent
from cbs_core.temporal.carrying import parse as parse_every
from cbs_core.temporal.objects import Wanted
from cbs_core.temporal.objects import parse as parse_select

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is to look like: all that a `cbs_core.frame.plan.Plan` is built from."""

    segmenter: Choice
    styler: Choice
    compositor: Choice = field(default_factory=lambda: Choice("hard"))
    accelerator: Choice = field(default_factory=lambda: Choice("auto"))
    extent: Extent = WHOLE
    """Of all stylers."""

    routes: object = None
    """As `cbs_core.frame.routes.parse` takes it, which needs to know the segmenter's classes; or
    routes that were read already."""

    matte: str = "argmax"
    segment_size: Scale = None
    segment_every: int = 1
    select: Wanted | None = None

    def with_routes(self, routes: tuple[Route, ...]) -> "Look":
        """Returns it with other routes."""
        return replace(self, routes=routes)


@dataclass(frozen=True, slots=True)
class Settings:
    """A run."""

    look: Look
    source: Choice
    sink: Choice
    scheduler: Choice
    input: str | None = None
    output: str | None = None
    device: str = "auto"
    precision: str = "auto"
    preview: Place | None = None
    """The one frame to show instead of the run."""

    quiet: bool = False
    report: str | None = None
    """Its name, beside the output."""

    sheet: str | None = None
    sheet_frames: int = 0
    config: Mapping[str, object] = field(default_factory=dict, repr=False)
    """The configuration itself, for the report."""


class _Reader:
    """Reads values, and goes on after one that is wrong."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def __call__(self, read: Callable[..., T], *values: object, default: Any = None) -> T:
        try:
            return read(*values)
        except ConfigError as error:
            if str(error) not in self.wrong:
                self.wrong.append(str(error))
            fallback: T = default
            return fallback

    def check(self) -> None:
        """Raises where something was wrong.

        Raises:
            ConfigError: all of it, in one line.
        """
        if len(self.wrong) == 1:
            raise ConfigError(self.wrong[0])
        if self.wrong:
            told = "; ".join(f"({place}) {one}" for place, one in enumerate(self.wrong, 1))
            raise ConfigError(f"{len(self.wrong)} settings are wrong: {told}")


def look(config: Mapping[str, object]) -> Look:
    """Reads what a picture is to look like from a composed configuration (``conf/config.yaml``).

    The section ``styler`` has ``where`` and ``statistics`` beside the styler's own parameters.

    Raises:
        ConfigError: with all that is wrong.
    """
    read = _Reader()
    found = _look(config, read)
    read.check()
    return found


def _look(config: Mapping[str, object], read: _Reader) -> Look:
    nothing = Choice("")
    styler = read(choice, config.get("styler"), "styler", default=nothing)
    params = dict(styler.params)
    where, statistics = params.pop("where", None), params.pop("statistics", None)
    return Look(
        segmenter=read(choice, config.get("segmenter"), "segmenter", default=nothing),
        styler=Choice(styler.name, params),
        compositor=read(choice, config.get("compositor"), "compositor", default=nothing),
        accelerator=read(choice, config.get("accelerator"), "accelerator", default=nothing),
        extent=read(parse_extent, where, statistics, default=WHOLE),
        routes=config.get("routes"),
        matte=read(parse_matte, config.get("matte"), default="argmax"),
        segment_size=read(parse_size, config.get("segment_size")),
        segment_every=read(parse_every, config.get("segment_every", 1), default=1),
        select=read(parse_select, config.get("select")),
    )


def parse(config: Mapping[str, object]) -> Settings:
    """Reads a composed configuration (``conf/config.yaml``), resolved to plain values.

    Raises:
        ConfigError: with all that is wrong.
    """
    read = _Reader()
    nothing = Choice("")
    sheet = _name(config, "sheet")
    settings = Settings(
        look=_look(config, read),
        source=read(choice, config.get("source"), "source", default=nothing),
        # Hydra reads `sink=null` as "no sink", which is what the sink of that name is.
        sink=read(choice, config.get("sink") or {"name": "null"}, "sink", default=nothing),
        scheduler=read(choice, config.get("scheduler"), "scheduler", default=nothing),
        input=_name(config, "input"),
        output=_name(config, "output"),
        device=str(config.get("device")),
        precision=str(config.get("precision")),
        preview=read(_place, config, "preview"),
        quiet=read(_truth, config, "quiet", default=False),
        report=read(_file_name, config, "report"),
        sheet=read(_file_name, config, "sheet"),
        sheet_frames=read(_count, config, "sheet_frames", default=0) if sheet else 0,
        config=config,
    )
    read.check()
    return settings


def _truth(config: Mapping[str, object], key: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value} is neither true nor false")
    return value


def _count(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{key}={value} is no whole number of 0 or more")
    return value


def _name(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    return str(value) if value else None


def _place(config: Mapping[str, object], key: str) -> Place | None:
    value = config.get(key)
    return None if value is None else places.parse(key, value)


def _file_name(config: Mapping[str, object], key: str) -> str | None:
    name = _name(config, key)
    if name is not None and Path(name).name != name:
        raise ConfigError(f"{key}={name} is no plain file name: it lies beside the output")
    return name
