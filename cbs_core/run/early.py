"""What can be refused before torch is imported, which takes longer than all else that is wrong.

Everything here is checked again, by whoever knows more, when the run begins.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cbs_core.choose import knowing, named, presets, signatures, streams, weights
from cbs_core.choose.registry import REGISTRIES, sinks
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import CbsError, ConfigError, SourceError
from cbs_core.frame import routes
from cbs_core.machine import asked, limits
from cbs_core.machine.inputs import input_file, missing
from cbs_core.run import destinations, settings
from cbs_core.run.destinations import Places
from cbs_core.run.preview import check_before_end
from cbs_core.run.workers import opened
from cbs_core.temporal.wanted import check_inside, parse_select

OF_ALL_STYLERS = ("name", "where", "statistics")
"""Keys of a styler's section that are not its own."""

LOCAL = "local"
"""The engine whose workers have this machine's files."""


def refuse(config: Mapping[str, object], command: str = "config") -> None:
    """Refuses an input, an output, a class, a style or a word that cannot be.

    Args:
        config: composed, as plain values.
        command: the file in ``conf`` that it is composed of; ``config`` is a run's, whose input
            and output are looked at too.

    Raises:
        CbsError: with what is wrong.
    """
    source = None
    listed: tuple[Choice, ...] = ()
    if command == "config":
        source = _source(config)
        chosen = settings.parse(config)
        listed = chosen.outputs
    else:
        settings.check(config, usual=presets.loaded(presets.conf_dir() / f"{command}.yaml"))
        if command in ("batch", "live"):
            parse_select(config.get("select"))
    signatures.check_all(config)
    asked.check_cuda(config.get("device"))
    if command == "live":
        listed = settings.outputs(config)
    for one in listed:
        signatures.check("sink", one.name, {k: v for k, v in one.params.items() if k != "path"})
    outputs = [(one.name, one.params) for one in listed]
    outputs = outputs or [_section(config, "sink")]
    if command in ("config", "live") and config.get("preview") is None:
        for name, section in outputs:
            _sink(config, name, section, source, alone=len(outputs) == 1)
        _matte(config, source)
        _resume(config, outputs)
    if _section(config, "engine")[0] in ("", LOCAL):
        _named(config, command)
        if command in ("config", "batch", "live") or _of_segmenter(config):
            _routes(config)
    limits.check_libraries()  # numpy is one, which ends the process where it does not fit
    if command == "config":
        _read(chosen)
    if config.get("preview") is None:
        for name, section in outputs:
            _write(name, section, named=command in ("config", "live"))


def _of_segmenter(config: Mapping[str, object]) -> bool:
    """Tells whether the routes of a scene name nothing that the scene itself calls so."""
    spec = config.get("routes")
    words = spec if isinstance(spec, Mapping | list) else [spec]
    own = any(mark in str(word) for word in words for mark in ":/")  # material:paint
    return config.get("labels") == "segmenter" and not own


def _named(config: Mapping[str, object], command: str) -> None:
    """Refuses files and styles that are not there: of plugins, and of what routes say."""
    whole = _whole(config, command)
    for told in (set[str](), whole):  # what somebody named goes before what nobody did
        for kind in REGISTRIES:
            name, section = _section(config, kind)
            named.check(kind, name, section, whole=kind in told)
    name, section = _section(config, "styler")
    for styler, params in _styles(config.get("routes"), name, section, command):
        own = {key: value for key, value in params.items() if key not in OF_ALL_STYLERS}
        signatures.check("styler", styler, own)
        named.check("styler", styler, params, whole="routes" in whole)
    for style in _listed(config.get("styles")):  # of a studio
        named.check("styler", name, {"style": style})


def _whole(config: Mapping[str, object], command: str) -> set[str]:
    """Returns of which kinds the section, or ``routes``, says all that its plugin is given."""
    told = set[str]()
    if command in ("config", "batch", "live", "eval", "export") or _of_segmenter(config):
        told.add("segmenter")
    if command in ("config", "batch", "scene"):
        told.add("routes" if isinstance(config.get("routes"), Mapping) else "styler")
    if command in ("eval", "export"):
        told.add("styler")
    return told


def _styles(
    spec: object, styler: str, params: Mapping[str, object], command: str
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields the stylers and parameters that ``routes`` name, whatever their classes are."""
    for given in spec.values() if isinstance(spec, Mapping) else ():
        pool = given
        if command == "augment" and isinstance(given, Mapping):  # a rule
            pool = given.get("styles")
        for style in _listed(pool):
            try:
                route = routes.styled("", style, styler, params)
            except ConfigError:
                continue  # told with its class
            if route is not None:
                yield route.styler, route.params


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _section(config: Mapping[str, object], kind: str) -> tuple[str, Mapping[str, object]]:
    section = config.get(kind)
    if not isinstance(section, Mapping):
        return "", {}
    return str(section.get("name")), section


def _source(config: Mapping[str, object]) -> Path | None:
    """Returns the input, where it is a file or a folder."""
    name, section = _section(config, "source")
    path = section.get("path", config.get("input"))
    said = streams.by_path("source", name)
    if not isinstance(path, str) or said is None or "://" in path:
        return None
    path = path.removeprefix(f"{name}:")
    file = Path(path).expanduser()
    if said.get("folders"):
        if not file.exists():
            raise SourceError(missing(file))
        return file
    return input_file(path)


def _read(chosen: settings.Settings) -> None:
    """Builds the source, whose own rules refuse what is wrong; and looks where a point lies.

    With parameters of its own it is not opened: the place to start from may be far inside.
    """
    name, params = chosen.source.name, chosen.source.params
    if not streams.is_light("source", name) or "://" in str(params.get("path", chosen.input)):
        return
    source, _ = settings.source_of(chosen)
    usual = presets.section("source", name)
    point, place = chosen.look.select, chosen.preview
    if not all(key == "path" or usual.get(key) == value for key, value in params.items()):
        return
    if isinstance(point, tuple) or place is not None:
        with opened(source):
            if place is not None:
                check_before_end(source, place)
            if isinstance(point, tuple):
                check_inside(point, source.info.height, source.info.width)


def _write(name: str, section: Mapping[str, object], *, named: bool) -> None:
    """Builds a sink, whose own rules refuse what is wrong, where anything is said of it.

    Args:
        name: its name.
        section: what it is given.
        named: whether the output is named already; else some name of its kind must do.
    """
    if not streams.is_light("sink", name):
        return
    params = {key: value for key, value in section.items() if key != "name"}
    usual = presets.section("sink", name)
    if all(key == "path" or usual.get(key) == value for key, value in params.items()):
        return
    path = named and params.get("path")
    usual_first = dict.fromkeys([streams.unnamed(name, params), *streams.written(name)])
    paths = [str(path).removeprefix(f"{name}:")] if path else [f"output{s}" for s in usual_first]
    refused: list[CbsError] = []
    for one in paths if not named else paths[:1]:
        try:
            sinks.create(name, **{**params, "path": one})
        except CbsError as error:
            refused.append(error)
        else:
            return
    raise refused[0]


def _sink(
    config: Mapping[str, object],
    name: str,
    section: Mapping[str, object],
    source: Path | None,
    *,
    alone: bool,
) -> None:
    path = section.get("path", config.get("output"))
    said = streams.by_path("sink", name)
    if said is None:
        return
    if not isinstance(path, str) or not path:
        streams.check_output(name, "", section)
        return
    path = path.removeprefix(f"{name}:")
    output = Path(path).expanduser()
    streams.check_output(name, path, section, transparent=config.get("cutout") is True)
    wanted = {
        key: str(config[key]) if isinstance(config.get(key), str) else None
        for key in ("report", "sheet")
    }
    if not config.get("sheet_frames"):
        wanted["sheet"] = None
    if not alone:
        wanted = {}  # they are named after one of the outputs
    folder = bool(said.get("folders"))
    destinations.check(
        Places(output, destinations.beside(output, wanted, whole=folder)),
        source=source,
        taken=[] if folder else None,  # the sink knows their names
        overwrite=config.get("overwrite") is True,
    )


def _matte(config: Mapping[str, object], source: Path | None) -> None:
    """Refuses a matte's output; what it is called is known with the routes."""
    path = config.get("output_matte")
    if isinstance(path, str):
        streams.check_output(streams.sink_for(path), path, {})
        place = Places(Path(path).expanduser(), {})
        destinations.check(place, source=source, taken=[], overwrite=True)


def _resume(
    config: Mapping[str, object], outputs: Sequence[tuple[str, Mapping[str, object]]]
) -> None:
    """Refuses a run that is to be gone on with where its output is none that can."""
    name, _ = outputs[0]
    if config.get("resume") is not True:
        return
    files = config.get("output_matte") is None and len(outputs) == 1
    if not files or (streams.is_light("sink", name) and not hasattr(sinks.load(name), "segment")):
        raise ConfigError(destinations.NOT_RESUMED)


def _routes(config: Mapping[str, object]) -> None:
    spec = config.get("routes")
    if spec is not None and (classes := _classes(config)):
        name, section = _section(config, "styler")
        given = {k: v for k, v in section.items() if k not in OF_ALL_STYLERS}
        routes.parse(spec, classes=classes, styler=name, params=given)


def _classes(config: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the segmenter's classes, as far as they can be told without it; else none.

    Raises:
        ConfigError: it is to be chosen by the words of the routes, and none knows them.
    """
    name, section = _section(config, "segmenter")
    if knowing.chooses(name):
        return knowing.best(routes.words_of(config.get("routes"))).classes
    if section.get("classes"):
        return ()
    try:
        vocabulary = section.get("vocabulary")
        if (given := section.get("weights")) is not None:
            file = Path(str(given)).expanduser()
        elif vocabulary is None and len(only := [*weights.available(name).values()]) == 1:
            file = only[0]  # a stranger's, whatever it is called
        else:
            file = knowing.find_weights(name, None if vocabulary is None else str(vocabulary))
    except (CbsError, ValueError):
        return ()  # whoever loads the net tells
    named = {} if vocabulary is None else {"vocabulary": str(vocabulary)}
    return knowing.classes({**weights.header(file), **named})
