"""A window of a video: read from where it begins, restyled, and written as a segment."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Self

from cbs_core.batch.pieces import STATE, Carry, Part, Span, cut, shared
from cbs_core.batch.tasks import Made, Survey, Surveyed, Window
from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.places import Place
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.contract.windows import Indexed, Seekable, SegmentSink
from cbs_core.frame.plan import Plan
from cbs_core.machine import files
from cbs_core.machine.meter import Meter
from cbs_core.run.ahead import with_next
from cbs_core.run.job import shown_by
from cbs_core.run.parts import digest, fingerprint
from cbs_core.run.runner import Runner
from cbs_core.run.settings import Settings, source_of
from cbs_core.run.stream import Stream
from cbs_core.run.trials import unhurried, worth_trials
from cbs_core.run.workers import opened
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import Scoring, State, Styling
from cbs_core.temporal.statistics import Statistics
from cbs_core.temporal.wanted import check_inside

RUN_UP = 32
"""Frames before a window that are segmented, but not restyled, where mattes hold on to their
object. Pixels whose hard matte is another than in the run in one piece, in the 20 frames behind
a cut, 960x540, `smp`; the mean, and in brackets the worst frame:

======  ===================  ==================
frames  car, a dashcam       person, a bedroom
======  ===================  ==================
0       0.079% (0.192%)      0.889% (1.437%)
16      0.015% (0.034%)      0.063% (0.098%)
24      0.006% (0.013%)      0.009% (0.016%)
32      0.0018% (0.0046%)    0.012% (0.021%)
48      0.00007% (0.0004%)   0.006% (0.012%)
64      0.00002% (0.0002%)   0.002% (0.004%)
======  ===================  ==================

To hand the state on would be exact, and each video the work of one worker; a first pass over all
frames, exact too, would segment everything twice.
"""


def plan_of(settings: Settings, shop: Workshop, info: StreamInfo) -> Plan:
    """Returns the plan of a stream, the same as a run of its own has."""
    look = shown_by(settings.look, info)
    return shop.plan(look if worth_trials(info) else unhurried(look))


def carry_of(plan: Plan) -> Carry:
    """Returns what of a stream's state crosses a cut.

    Statistics that are taken once are a value for all windows; beliefs of mattes soon forget where
    they began, and a run-up makes them up. What else lives on from frame to frame (the object
    selected, which frame is a key frame, strokes that are held, statistics that are taken anew) is
    handed on.
    """
    stylings = plan.stylings.values()
    recalls = [plan.segmenter.recall, plan.compositor.recall]
    recalls += [one.recall for one in stylings]
    known = [one for one in recalls if one is not None]
    if not all(one.told for one in known):
        return Carry(whole=True)
    kept = {name: one.policy for name, one in plan.stylings.items() if one.policy is not None}
    anew = any(policy.on_cut or policy.every for policy in kept.values())
    carried = plan.segment_every > 1 or plan.steady == "full"
    if known or anew or carried or plan.selection is not None:
        return Carry(chained=True)
    return Carry(settles=tuple(kept), run_up=RUN_UP if plan.steady != "off" else 0)


def survey(settings: Settings, shop: Workshop, task: Survey) -> Surveyed:
    """Tells how an item is to be done.

    Raises:
        CbsError: it cannot be.
    """
    source, _ = source_of(settings)
    with opened(source):
        info = source.info
        if info.live:
            raise ConfigError(f"'{settings.input}' has no end: a batch takes files")
        plan = plan_of(settings, shop, info)
        check_inside(settings.look.select, info.height, info.width)
        Stream(plan).check(info.height, info.width)
        carry = carry_of(plan)
        index = source.index() if isinstance(source, Indexed) and not carry.whole else None
    file = settings.input_file
    key = fingerprint(file) if file is not None and file.exists() else task.item.stamp
    found = Surveyed(
        f"{key} {carry}", carry=carry, frames=info.frames, joins=_joins(sink_of(settings))
    )
    if index is None or not index.times or not found.joins:
        return found
    shares = 1 if carry.chained else task.shares  # of windows that wait for each other
    spans = cut(index, shared(task.window, len(index.times), shares), carry.run_up)
    return replace(found, spans=spans, frames=len(index.times))


def sink_of(settings: Settings) -> Sink:
    """Builds the sink of an item."""
    return registry.sinks.create(
        settings.sink.name, **{**settings.sink.params, "path": settings.output}
    )


def _joins(sink: Sink) -> bool:
    # Whether it writes segments as it is set up, the sink itself says when it is asked for one.
    return isinstance(sink, SegmentSink) and getattr(sink, "on_resize", "scale") != "split"


class Within:
    """Gives the frames of a span of a source (`Source`).

    Args:
        source: was entered, by whoever leaves it too.
        span: which frames.
        lookahead: how many frames each is given as `RawFrame.ahead`, beyond the span's end too.
    """

    info: StreamInfo

    def __init__(self, source: Source, span: Span, lookahead: int = 0) -> None:
        self._source = source
        self._span = span
        self._lookahead = lookahead
        self.info = replace(source.info, frames=span.frames)
        self.last: RawFrame | None = None
        """The last that was given."""
        self.before: str | None = None
        """`digest` of the frame before the first, where that was to be read."""

    def find(self, stream: Stream | None) -> bool:
        """Reads up to the first frame; tells whether it is there.

        Args:
            stream: sees the frames of the run-up; None: there is none.
        """
        span, source = self._span, self._source
        if span.seek is not None:
            place = Place("", seconds=self.info.start + span.seek)
            if not isinstance(source, Seekable) or source.seek(place) is None:
                return False
        frames, before = iter(source), None
        first = next(frames, None)
        while first is not None and span.start is not None and first.pts < span.start:
            if span.seek is not None and first.pts >= span.seek:
                before = first
                if stream is not None:
                    stream.score(stream.upload(first), stream.plan)
            first = next(frames, None)
        if first is None or (span.start is not None and first.pts != span.start):
            return False
        self.before = None if before is None else digest(before)
        self._frames = with_next(chain([first], frames), self._lookahead)
        return True

    def __enter__(self) -> Self:
        """Does nothing: the source was entered."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames, numbered as in the whole stream."""
        span = self._span
        for number, raw in enumerate(self._frames, span.first):
            if span.end is not None and raw.pts >= span.end:
                return
            self.last = raw
            yield replace(raw, index=number)


class Taking:
    """A `Sink` over another that notes the times of the frames."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.times: list[Fraction] = []
        self.duration: Fraction | None = None
        """Of the last one."""
        self.whole = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sink could not keep."""
        return tuple(getattr(self._sink, "notes", ()))

    def open(self, info: StreamInfo, /) -> None:
        """Opens it."""
        self._sink.open(info)

    def write(self, frame: RawFrame, /) -> None:
        """Writes a frame."""
        self._sink.write(frame)
        self.times.append(Fraction(frame.pts))
        self.duration = frame.duration

    def close(self, *, complete: bool = True) -> None:
        """Closes it where all frames came; a part of a window is none."""
        if not complete:
            self.abort()
            return
        self._sink.close()
        self.whole = True

    def abort(self) -> None:
        """Removes what was written."""
        self._sink.abort()


def window(settings: Settings, shop: Workshop, task: Window) -> Made:
    """Makes a part.

    Raises:
        CbsError: whatever a user can mend.
        KeyboardInterrupt: Ctrl-C.
    """
    with suppress(OSError):  # of a worker that died
        task.file.unlink(missing_ok=True)
    source, _ = source_of(settings)
    with opened(source):
        info = source.info
        plan = plan_of(settings, shop, info)
        stream = Stream(plan, _start(task), ahead=info.sizes == 1 and worth_trials(info))
        stream.exports = replace(stream.exports, cutout=settings.cutout)
        stream.check(info.height, info.width)
        frames = Within(source, task.span, plan.lookahead)
        if not frames.find(stream if task.run_up else None):
            return Made(0, found=False)
        sink = sink_of(settings)
        assert isinstance(sink, SegmentSink)
        taking = Taking(sink.segment(task.file))
        meter, chosen = Meter(), settings.scheduler
        scheduler = registry.schedulers.create(
            chosen.name, stream=stream, meter=meter, observe=lambda *_: None, **chosen.params
        )
        outward = replace(info, transparent=settings.cutout)
        outcome = Runner(frames, scheduler, taking, meter=meter, info=outward).run()
    if outcome.interrupted:
        raise KeyboardInterrupt
    return _noted(task, frames, taking, stream, info)


def _start(task: Window) -> State | None:
    if task.state is None:
        return None
    state = State.from_bytes(task.state.read_bytes())
    if not task.settled:
        return state
    kept = {style: state.styling.styles[style] for style in task.carry.settles}
    return State(Scoring(), Styling(styles=kept))


def _noted(task: Window, frames: Within, taking: Taking, stream: Stream, info: StreamInfo) -> Made:
    assert taking.whole
    assert frames.last is not None
    if task.keep:
        state = stream.state.to_bytes()
        files.replace(task.file.with_suffix(STATE), lambda file: file.write(state))
    styles = stream.state.styling.styles
    part = Part(
        task.file,
        task.key,
        tuple(taking.times),
        taking.duration,
        digest(frames.last),
        frames.before,
        task.keep,
        all(isinstance(styles.get(style), Statistics) for style in task.carry.settles),
        tuple(dict.fromkeys((*info.notes, *taking.notes))),
    )
    part.write()
    return Made(len(part.times))
