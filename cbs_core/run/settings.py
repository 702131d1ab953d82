"""The configuration of a run, read once into types, with all that is wrong with it told at once.

Nothing here imports torch, so that a slip is told before that.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cbs_core.choose import presets, registry, streams
from cbs_core.choose.sections import Choice, choice, flag, like
from cbs_core.contract import places
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.interfaces import Source
from cbs_core.contract.places import Place
from cbs_core.frame.routes import Route
from cbs_core.frame.sizes import Auto, Scale, parse_size
from cbs_core.frame.wanted import WHOLE, Extent, parse_confidence, parse_extent, parse_matte
from cbs_core.machine import asked
from cbs_core.machine.stores import stored
from cbs_core.temporal.wanted import (
    Wanted,
    parse_every,
    parse_lookahead,
    parse_select,
    parse_steady,
)

T = TypeVar("T")

POLICIES = ("every_frame", "freshest")
"""What becomes of frames that come faster than they are done (`cbs_core.run.runner.Runner`)."""

MOST_ROWS = 100
"""Of a sheet: each is a megabyte of memory until it is drawn."""


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
    segment_size: Scale | Auto = "auto"
    style_size: Scale | Auto = "auto"
    segment_every: int = 1
    select: Wanted | None = None
    confidence: float = 0.5
    """See `cbs_core.frame.mattes.Regions`."""

    steady: str | None = None
    """One of `cbs_core.temporal.wanted.STEADY`; None is ``matte`` in a run whose frames follow each
    other, and else ``off``."""

    lookahead: int = 0
    """Frames after each one that its mattes go by too."""

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
    outputs: tuple[Choice, ...] = ()
    """The sinks, each with its ``path``, where `output` names several; it is None then."""

    policy: str = "auto"
    """One of the runner's, or ``auto``: by whether the source is live."""

    timeout_s: float | None = None
    """Seconds that the source may take for a frame."""

    max_age_ms: float | None = None
    """A live frame that is older when it is due is dropped."""

    target_fps: float | None = None
    """Frames a second that are to be held, by lower quality where needed."""

    device: str = "auto"
    precision: str = "auto"
    output_matte: str | None = None
    """Where each route's matte goes, beside the output."""

    cutout: bool = False
    """Whether the restyled classes alone are written, the rest transparent."""

    resume: bool = False
    """Whether the run can be ended and gone on with."""

    preview: Place | None = None
    """The one frame to show instead of the run."""

    quiet: bool = False
    overwrite: bool = False
    """Whether an output of that name is replaced."""

    report: str | None = None
    """Its name, beside the output; ``auto`` is one after the output's."""

    sheet: str | None = None
    """Likewise."""

    sheet_frames: int = 0
    config: Mapping[str, object] = field(default_factory=dict, repr=False)
    """The configuration itself, for the report."""

    @property
    def input_file(self) -> Path | None:
        """The file that the input names, where it may be one."""
        path = self.source.params.get("path", self.input)
        if not isinstance(path, str) or not path or stored(path) is not None:
            return None
        return Path(path.removeprefix(f"{self.source.name}:")).expanduser()


_SHARED: Mapping[str, Callable[[object], object]] = {
    "matte": parse_matte,
    "confidence": parse_confidence,
    "segment_size": parse_size,
    "style_size": partial(parse_size, key="style_size"),
    "segment_every": parse_every,
    "steady": parse_steady,
    "lookahead": parse_lookahead,
    "device": asked.device,
    "precision": asked.precision,
}


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
    every, steady = config.get("segment_every", 1), config.get("steady")
    return Look(
        segmenter=read(choice, config.get("segmenter"), "segmenter", default=nothing),
        styler=Choice(styler.name, params),
        compositor=read(choice, config.get("compositor"), "compositor", default=nothing),
        accelerator=read(accelerator, config, default=nothing),
        extent=read(parse_extent, where, statistics, default=WHOLE),
        routes=config.get("routes"),
        matte=read(parse_matte, config.get("matte"), default="argmax"),
        segment_size=read(parse_size, config.get("segment_size", "auto")),
        style_size=read(parse_size, config.get("style_size", "auto"), "style_size"),
        segment_every=read(parse_every, every, default=1),
        select=read(parse_select, config.get("select")),
        confidence=read(parse_confidence, config.get("confidence", 0.5), default=0.5),
        steady=read(parse_steady, steady),
        lookahead=read(parse_lookahead, config.get("lookahead", 0), every, steady, default=0),
    )


def accelerator(config: Mapping[str, object]) -> Choice:
    """Reads the accelerator: one that is told that it may go down to int8 has a word for it.

    Raises:
        ConfigError: it is no choice.
    """
    found = choice(config.get("accelerator"), "accelerator")
    if config.get("precision") != asked.INT8:
        return found
    return Choice(found.name, {**found.params, "int8": True})


def check(config: Mapping[str, object], *, usual: Mapping[str, object] | None = None) -> None:
    """Refuses a wrong word for what all commands mean alike, as far as a configuration has it.

    Args:
        config: composed.
        usual: what the keys of a command are where nobody says anything: what is true or false, or
            a number, there is one here too.

    Raises:
        ConfigError: with all that is wrong.
    """
    read = _Reader()
    for key, reader in _SHARED.items():
        if key in config:
            read(reader, config[key])
    for key, value in (usual or {}).items():
        if key in config and isinstance(value, bool | int | float):
            read(like, key, config[key], value)
    read.check()


def parse(config: Mapping[str, object]) -> Settings:
    """Reads a composed configuration (``conf/config.yaml``), resolved to plain values.

    Raises:
        ConfigError: with all that is wrong.
    """
    read = _Reader()
    nothing = Choice("")
    sheet = _name(config, "sheet")
    # Hydra reads `sink=null` as "no sink", which is what the sink of that name is.
    sink = read(choice, config.get("sink") or {"name": "null"}, "sink", default=nothing)
    several = isinstance(config.get("output"), list)
    settings = Settings(
        look=_look(config, read),
        source=read(choice, config.get("source"), "source", default=nothing),
        sink=sink,
        scheduler=read(choice, config.get("scheduler"), "scheduler", default=nothing),
        input=_name(config, "input"),
        output=None if several else _name(config, "output"),
        outputs=read(_outputs, config, sink, default=()) if several else (),
        policy=read(_policy, config, default="auto"),
        timeout_s=read(_positive, config, "timeout_s"),
        max_age_ms=read(_positive, config, "max_age_ms"),
        target_fps=read(_positive, config, "target_fps"),
        device=read(asked.device, config.get("device", "auto"), default="auto"),
        precision=read(asked.precision, config.get("precision", "auto"), default="auto"),
        output_matte=_name(config, "output_matte"),
        cutout=read(flag, config, "cutout", False, default=False),
        resume=read(flag, config, "resume", False, default=False),
        preview=read(_place, config, "preview"),
        quiet=read(flag, config, "quiet", default=False),
        overwrite=read(flag, config, "overwrite", False, default=False),
        report=read(_file_name, config, "report"),
        sheet=read(_file_name, config, "sheet"),
        sheet_frames=read(_count, config, "sheet_frames", default=0) if sheet else 0,
        config=config,
    )
    read.check()
    return settings


def outputs(config: Mapping[str, object]) -> tuple[Choice, ...]:
    """Reads ``output``, one or a list, where no ``sink`` is configured; null is none.

    Raises:
        ConfigError: an entry that is no output.
    """
    given = config.get("output")
    if given is None:
        return ()
    listed = given if isinstance(given, list) else [given]
    return _outputs({"output": listed}, Choice(""))


def _outputs(config: Mapping[str, object], sink: Choice) -> tuple[Choice, ...]:
    """Reads a list of outputs: each chooses its sink as a single one does.

    What ``sink`` says is for those of the list that it takes.
    """
    listed = config["output"]
    assert isinstance(listed, list)
    if not listed:
        raise ConfigError("output=[] names nothing: name a file, or leave it out")
    found = tuple(_output(entry, sink) for entry in listed)
    paths = [str(one.params["path"]) for one in found if "path" in one.params]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"output= names '{path}' twice: name another")
    return found


def _output(entry: object, sink: Choice) -> Choice:
    if isinstance(entry, Mapping):  # {name: video, path: out.mp4, crf: 20}
        name = choice(entry, "an output").name
        return choice({**presets.section("sink", name), **entry}, "an output")
    if not isinstance(entry, str) or not entry:
        raise ConfigError(
            f"output: '{entry}' is no output: list files, addresses and names of sinks, as in "
            "output=[window, out.mp4]"
        )
    name = streams.sink_for(entry)
    params = sink.params if name == sink.name else choice(presets.section("sink", name), "").params
    return Choice(name, {**params, "path": entry})


def _policy(config: Mapping[str, object]) -> str:
    policy = config.get("policy", "auto")
    known = ("auto", *POLICIES)
    if policy not in known:
        near = closest(str(policy), known)
        raise ConfigError(f"policy={policy} is none of {', '.join(known)}{near}")
    if policy == "every_frame" and config.get("max_age_ms") is not None:
        raise ConfigError("max_age_ms drops frames that are late: policy=every_frame keeps them")
    return str(policy)


def _positive(config: Mapping[str, object], key: str) -> float | None:
    value = config.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) < math.inf:
        raise ConfigError(f"{key}={value} is no number above 0")
    return float(str(value))


def _count(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_ROWS:
        raise ConfigError(f"{key}={value} is no whole number of 0 or more, up to {MOST_ROWS}")
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


def source_of(settings: Settings) -> tuple[Source, str]:
    """Builds the source; also returns ``source/NAME``.

    Raises:
        CbsError: it cannot be had.
    """
    name, params = settings.source.name, dict(settings.source.params)
    if settings.input and registry.sources.takes(name, "path"):
        params.setdefault("path", settings.input)  # a plugin without a preset of its own
    if isinstance(params.get("path"), str):
        params["path"] = str(params["path"]).removeprefix(f"{name}:")
    return registry.sources.create(name, **params), f"source/{name}"
