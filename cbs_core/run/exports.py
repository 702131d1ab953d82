"""Mattes as outputs of their own: a file, or a folder, a route."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cbs_core.choose import registry, streams
from cbs_core.choose.sections import Choice
from cbs_core.contract.interfaces import Sink
from cbs_core.contract.several import WritesSeveral
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.frame.routes import Route

_LONGEST = 60
"""Letters of a route's name in a file's."""

_SHAPING = ("size", "on_resize")
"""Parameters of the output's sink that a matte's must have too, to lie on its pictures."""


class MatteSink:
    """Gives a sink one route's matte of each frame, as a grey picture at the same time (`Sink`).

    Args:
        sink: takes it.
        route: which of `RawFrame.mattes`.
        path: where it goes.
    """

    def __init__(self, sink: Sink, route: int, path: Path) -> None:
        self._sink = sink
        self._route = route
        self.path = path

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sink could not keep."""
        return tuple(getattr(self._sink, "notes", ()))

    def taken(self, info: StreamInfo, /) -> Sequence[Path]:
        """Returns the files that would be written over (`WritesSeveral`)."""
        if isinstance(self._sink, WritesSeveral):
            return self._sink.taken(info)
        return [self.path] if os.path.lexists(self.path) else []

    def open(self, info: StreamInfo, /) -> None:
        """Opens the sink for a matte."""
        self._sink.open(replace(info, matte=True, transparent=False, sound=None))

    def write(self, frame: RawFrame, /) -> None:
        """Writes the matte of a frame."""
        grey = frame.mattes[self._route]
        pixels = grey[..., None].expand(-1, -1, 3).contiguous()
        self._sink.write(replace(frame, pixels=pixels, alpha=None, still=None, mattes=()))

    def close(self, *, complete: bool = True) -> None:
        """Closes the sink."""
        self._sink.close(complete=complete)

    def abort(self) -> None:
        """Aborts the sink."""
        self._sink.abort()


def matte_sinks(output: str, routes: Sequence[Route], main: Choice) -> list[MatteSink]:
    """Returns a sink for the matte of each route.

    Args:
        output: a file, ``mask.mp4``, which becomes ``mask.person.mp4``, or a folder, in which there
            is one a route.
        routes: of the plan.
        main: the sink of the output itself, whose size the mattes have.

    Raises:
        CbsError: there is no such sink.
    """
    name, base = streams.sink_for(output), Path(output).expanduser()
    folder = name == streams.that_takes("sink", "folders")
    sinks = []
    for index, word in enumerate(words(routes)):
        path = base / word if folder else base.with_name(f"{base.stem}.{word}{base.suffix}")
        params = _params(name, main)
        sinks.append(MatteSink(registry.sinks.create(name, path=str(path), **params), index, path))
    return sinks


def words(routes: Sequence[Route]) -> list[str]:
    """Returns a name for each route that a file's name can hold: ``car``, ``car+bus``."""
    found: list[str] = []
    for route in routes:
        word = re.sub(r"[^\w+-]+", "_", route.named())[:_LONGEST]
        found.append(word if word not in found else f"{word}.{len(found) + 1}")
    return found


def _params(name: str, main: Choice) -> Mapping[str, object]:
    given = {key: main.params[key] for key in _SHAPING if main.params.get(key) is not None}
    return {key: value for key, value in given.items() if registry.sinks.takes(name, key)}
