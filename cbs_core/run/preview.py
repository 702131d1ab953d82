"""One frame of a stream, found without the ones before it, as the run would show it."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cbs_core.choose import streams
from cbs_core.contract.errors import SourceError
from cbs_core.contract.interfaces import Source
from cbs_core.contract.places import Place
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.contract.windows import Indexed, Seekable
from cbs_core.machine import files
from cbs_core.run.settings import Look

if TYPE_CHECKING:  # which imports torch
    from cbs_core.frame.plan import Plan

SUFFIX = ".png"

SURELY = 1
"""Seconds behind the last frame's time where it is not shown any more, however long it is."""


class Preview:
    """Gives the first frame of a source at or behind a place, or the last, while it is shown.

    It is a `Source`.

    Args:
        source: is entered and left with this one.
        place: on the clock of the input, whatever part of it the source gives.
    """

    info: StreamInfo

    def __init__(self, source: Source, place: Place) -> None:
        self._source = source
        self._place = place

    def __enter__(self) -> Self:
        """Opens the source."""
        self._source.__enter__()
        self.info = replace(self._source.info, frames=1)
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes the source."""
        self._source.__exit__(*exc)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frame.

        Raises:
            SourceError: the stream ends before it.
        """
        source, place = self._source, self._place
        time = source.seek(place) if isinstance(source, Seekable) else None
        last: RawFrame | None = None
        for index, last in enumerate(source):
            if time is None:
                reached = place.reached(index, last.pts + self.info.start)
            else:
                reached = last.pts >= time
            if reached:
                yield replace(last, index=0)
                return
        if last is not None and place.seconds is not None:
            wanted = place.seconds - self.info.start if time is None else time
            if last.pts + (last.duration or 1 / self.info.rate) > wanted:  # it is shown then
                yield replace(last, index=0)
                return
        raise ended(self.info, place)


def check_before_end(source: Source, place: Place) -> None:
    """Refuses a place far behind the end, as far as the file tells without decoding.

    Args:
        source: was entered, and gives all of its file.
        place: as of a `Preview`, which tells the rest.

    Raises:
        SourceError: the stream ends before it.
    """
    info = source.info
    if info.frames is None or not isinstance(source, Indexed):
        return

    def behind(frames: int, end: Fraction) -> bool:
        if place.frame is not None:
            return place.frame >= frames
        return place.seconds is not None and place.seconds > end + info.start + SURELY

    if behind(info.frames, Fraction(info.frames) / Fraction(info.rate)):
        index = source.index()  # reads all of the file's packets: only where it seems to end
        if index is not None and behind(len(index.times), index.times[-1]):
            raise ended(info, place)


def ended(info: StreamInfo, place: Place) -> SourceError:
    """Returns the error for a place behind the end."""
    return SourceError(f"'{info.name}' has no frame at preview={place}: it ends before")


def first_frame(source: Source) -> RawFrame:
    """Returns the first frame of a source that was entered.

    Raises:
        SourceError: there is none.
    """
    for frame in source:
        return frame
    raise SourceError("the input holds no frame: choose another")


def keeps_first(plan: "Plan", look: Look) -> bool:
    """Whether the first frame of a run says how all others look: by frozen statistics."""
    policy = look.extent.policy
    frozen = policy is not None and policy.every is None and not policy.on_cut
    return frozen and bool(plan.stylings)


def path(output: str | None, info: StreamInfo, run_folder: Path) -> Path:
    """Returns where the picture goes: beside the output that is named, under a name of its own."""
    beside = Path(output).expanduser() if output else run_folder / info.name
    name = beside.stem if output else beside.name
    return files.free(beside.with_name(f"{name}.preview{SUFFIX}"))


def sheet(picture: Path) -> str:
    """Returns the name of its sheet."""
    return files.free(picture.with_name(f"{picture.stem}.sheet{SUFFIX}")).name


def sink() -> str:
    """Returns the sink that writes it.

    Raises:
        ConfigError: no package has one.
    """
    return streams.for_suffix("sink", SUFFIX)


def unlike(look: Look, plan: "Plan") -> tuple[str, ...]:
    """Returns in what the run's own frame may differ, a line each."""
    lines = []
    policy = look.extent.policy
    if policy is not None and (policy.on_cut or policy.every):
        lines.append(
            "preview: the style's statistics are this frame's own; in the run they are those of an "
            "earlier frame of its scene"
        )
    elif policy is not None:
        lines.append(
            "preview: the style's statistics are those of the run's first frame, if that shows the "
            "style"
        )
    if plan.segment_every > 1:
        lines.append(
            "preview: this frame is segmented; in the run its matte may be carried along, from up "
            f"to {plan.segment_every - 1} frames before"
        )
    if look.steady != "off":
        lines.append(
            "preview: this frame's matte is by itself; in the run of a video, steady=matte weighs "
            "it with those before"
        )
    if look.steady == "full":
        lines.append(
            "preview: this frame's strokes are its own; in the run, steady=full goes on with those "
            "of the frames before"
        )
    if plan.selection is not None:
        lines.append(
            "preview: the object is chosen in this frame; in the run, in the first that has it"
        )
    return tuple(lines)
