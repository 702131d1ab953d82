"""Streams that go wrong, and suites that run a source or a sink in a real run among them.

    from cbs_core.testing.runs import LiveSourceSuite

    class TestDesk(LiveSourceSuite):
        def create(self, folder): return DeskCamera()

The suites hold what a run relies on: it ends in a second, leaves no thread, keeps what is done.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Self

import pytest

from cbs_core.contract.errors import (
    CbsError,
    PluginContractError,
    SinkClosedError,
    SinkError,
    SourceError,
    SourceLostError,
)
from cbs_core.contract.interfaces import Scheduler, Sink, Source, Stoppable
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine.meter import Meter
from cbs_core.run.runner import Outcome, Runner
from cbs_core.run.workers import opened
from cbs_core.testing.helpers import raw_frame
from cbs_core.testing.streams import SourceSuite

HEIGHT, WIDTH = 64, 96
"""Of the fakes' frames."""

WITHIN = 1.0
"""Seconds in which a run ends, whatever it ends by."""


class ClipSource:
    """Gives frames as a file does: at once, or ``seconds`` apart; ``live`` says that it is no file.

    Args:
        count: how many frames; None: without end.
        seconds: between two frames.
        live: what `info` says.
    """

    def __init__(self, count: int | None = 10, *, seconds: float = 0, live: bool = False) -> None:
        self.count = count
        self.seconds = seconds
        self.given = 0
        self.left = False
        self.info = StreamInfo(
            WIDTH, HEIGHT, Fraction(25), None if live else count, live=live, name="fake"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.left = True

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames, and then does what `end` does."""
        while self.count is None or self.given < self.count:
            if not self.pause():
                return
            frame = raw_frame(HEIGHT, WIDTH, self.given)
            self.given += 1
            yield frame
        self.end()

    def pause(self) -> bool:
        """Waits before a frame; tells whether to go on."""
        time.sleep(self.seconds)
        return True

    def end(self) -> None:
        """Ends the stream."""


class CameraSource(ClipSource):
    """Live and `Stoppable`: a wait for a frame ends at once."""

    def __init__(self, count: int | None = None, *, seconds: float = 0.04) -> None:
        super().__init__(count, seconds=seconds, live=True)
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Ends the wait for a frame."""
        self.stopped.set()

    def pause(self) -> bool:
        """Waits before a frame; tells whether to go on."""
        return not self.stopped.wait(self.seconds)


class StalledSource(CameraSource):
    """Gives ``count`` frames, and then nothing until it is stopped."""

    def __init__(self, count: int = 3, *, seconds: float = 0) -> None:
        super().__init__(count, seconds=seconds)

    def end(self) -> None:
        """Stalls."""
        self.stopped.wait()


class StuckSource(ClipSource):
    """Gives ``count`` frames, and then nothing; it has no `stop`: set ``released``."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(count, live=True)
        self.released = threading.Event()

    def end(self) -> None:
        """Stalls."""
        self.released.wait()


class BurstSource(CameraSource):
    """Gives ``burst`` frames at once, then none for ``seconds``, and so on."""

    def __init__(self, count: int = 12, *, burst: int = 4, seconds: float = 0.04) -> None:
        super().__init__(count, seconds=seconds)
        self.burst = burst

    def pause(self) -> bool:
        """Waits before the first frame of a burst; tells whether to go on."""
        first = self.given % self.burst == 0
        return not self.stopped.wait(self.seconds if first else 0)


class FailingSource(ClipSource):
    """Gives ``count`` frames, and then raises ``error``."""

    def __init__(self, count: int = 3, error: BaseException | None = None) -> None:
        super().__init__(count)
        self.error = error or SourceError("the next picture is damaged")

    def end(self) -> None:
        """Fails."""
        raise self.error


class LostSource(CameraSource):
    """A camera that is unplugged after ``count`` frames: raises what the driver would."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(count, seconds=0)

    def end(self) -> None:
        """Is lost."""
        raise OSError("No such device: unplugged")


class MemorySink:
    """Keeps the frames; ``calls`` tells what was called: ``open``, ``close True``, ``abort``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.frames: list[RawFrame] = []

    def open(self, info: StreamInfo, /) -> None:
        """Notes the call."""
        self.calls.append("open")

    def write(self, frame: RawFrame, /) -> None:
        """Keeps the frame."""
        self.frames.append(frame)

    def close(self, *, complete: bool = True) -> None:
        """Notes the call."""
        self.calls.append(f"close {complete}")

    def abort(self) -> None:
        """Notes the call."""
        self.calls.append("abort")


class FailingSink(MemorySink):
    """Takes ``count`` frames, and raises ``error`` at the next one."""

    def __init__(self, count: int = 3, error: BaseException | None = None) -> None:
        super().__init__()
        self.count = count
        self.error = error or SinkError("no space left")

    def write(self, frame: RawFrame, /) -> None:
        """Keeps the frame, or fails."""
        if len(self.frames) == self.count:
            raise self.error
        super().write(frame)


class PassingScheduler:
    """Gives each frame back as it is; raises ``error`` at frame ``at``."""

    def __init__(self, error: BaseException | None = None, at: int = 3) -> None:
        self.error = error
        self.at = at
        self._done: list[RawFrame] = []

    def submit(self, raw: RawFrame, /) -> None:
        """Takes a frame, or fails."""
        if self.error is not None and raw.index == self.at:
            raise self.error
        self._done.append(raw)

    def ready(self) -> Iterator[RawFrame]:
        """Yields what was submitted."""
        while self._done:
            yield self._done.pop(0)

    def drain(self) -> Iterator[RawFrame]:
        """Yields what was submitted."""
        return self.ready()


class Relay:
    """Hands a sink's calls on to it; raises ``error`` at frame ``count``, by the clock `since`."""

    def __init__(self, sink: Sink, count: int, error: BaseException) -> None:
        self.sink = sink
        self.count = count
        self.error = error
        self.taken = 0
        self.since = 0.0

    def open(self, info: StreamInfo, /) -> None:
        """Opens the sink."""
        self.sink.open(info)

    def write(self, frame: RawFrame, /) -> None:
        """Gives the sink a frame, or fails."""
        if self.taken == self.count:
            self.since = time.monotonic()
            raise self.error
        self.taken += 1
        self.sink.write(frame)

    def close(self, *, complete: bool = True) -> None:
        """Closes the sink."""
        self.sink.close(complete=complete)

    def abort(self) -> None:
        """Aborts the sink."""
        self.sink.abort()


def run(
    source: Source, sink: Sink, scheduler: Scheduler | None = None, *, meter: Meter | None = None
) -> Outcome:
    """Runs a source that was entered into a sink; drops no frame, and waits 5 s for one."""
    scheduler = scheduler or PassingScheduler()
    return Runner(source, scheduler, sink, meter=meter or Meter(), timeout_s=5).run()


def threads_left(before: set[threading.Thread]) -> set[threading.Thread]:
    """Returns the threads that were not there before and do not end within a moment."""
    end = time.monotonic() + 0.2
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.005)
    return left


class SourceRunSuite:
    """A source in runs that end early: in a second, without a thread."""

    def create(self, folder: Path) -> Source:
        """Returns a new source of at least two frames; it may put files into ``folder``."""
        raise NotImplementedError("override create() to return your plugin")

    @pytest.mark.parametrize("count", [0, 1])
    @pytest.mark.parametrize("end", [SinkError("no space left"), SinkClosedError()])
    def test_a_run_that_the_sink_ends(self, tmp_path: Path, count: int, end: Exception) -> None:
        """The sink fails, or its window is closed: nothing waits for the source."""
        before = set(threading.enumerate())
        sink = Relay(MemorySink(), count, end)
        with suppress(SinkError, SourceLostError), opened(self.create(tmp_path)) as source:
            run(source, sink)
        assert sink.since, "the source gave too few frames"
        took = time.monotonic() - sink.since
        assert took < WITHIN, f"the run ended {took:.1f} s after its sink: implement stop()"
        assert not threads_left(before), "a thread is left"


class LiveSourceSuite(SourceSuite, SourceRunSuite):
    """Conformance of a live `Source`: it can be stopped, at any time and again."""

    def create_stalled(self, folder: Path) -> Source:
        """Returns a source whose frames stay out; without one, the tests take `create`."""
        return self.create(folder)

    def test_is_live_and_can_be_stopped(self, tmp_path: Path) -> None:
        """It says that it is live, and fills `Stoppable`."""
        with self.create(tmp_path) as source:
            assert source.info.live, "a source that can be stopped is live"
            assert isinstance(source, Stoppable), f"{type(source).__name__} has no stop()"

    def test_stop_ends_a_wait_at_once(self, tmp_path: Path) -> None:
        """Whoever waits for a frame goes on, by the iterator's end or an error."""
        with self.create_stalled(tmp_path) as source:

            def read() -> None:
                with suppress(Exception):
                    for _ in source:
                        pass

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            time.sleep(0.2)
            assert isinstance(source, Stoppable)
            begun = time.monotonic()
            source.stop()
            assert time.monotonic() - begun < WITHIN / 4, "stop() itself waits"
            reader.join(WITHIN / 2)
            assert not reader.is_alive(), "stop() does not end the wait for a frame"
            source.stop()
        source.stop()

    def test_a_source_that_was_stopped_gives_no_frame(self, tmp_path: Path) -> None:
        """`stop` may come before the first wait."""
        with self.create_stalled(tmp_path) as source:
            assert isinstance(source, Stoppable)
            source.stop()
            frames: list[RawFrame] = []
            begun = time.monotonic()
            with suppress(Exception):
                frames += [frame for _, frame in zip(range(3), source, strict=False)]
            assert time.monotonic() - begun < WITHIN / 2, "it waits for frames after stop()"
        assert len(frames) < 3, "it goes on after stop()"


ENDINGS: dict[str, Callable[[int], tuple[Source, Scheduler, type[CbsError]]]] = {
    "source fails": lambda count: (FailingSource(count), PassingScheduler(), SourceError),
    "source is lost": lambda count: (LostSource(count), PassingScheduler(), SourceLostError),
    "plugin fails": lambda count: (
        ClipSource(None),
        PassingScheduler(PluginContractError("a styler gave NaN"), at=count),
        PluginContractError,
    ),
}
"""What ends a stream after so many frames -> source, scheduler, and the error of the run."""


class SinkRunSuite:
    """A sink in runs that are cut: what is done stays, under the final name and whole."""

    writes_files = True
    """Whether an output stands in the folder afterwards."""

    frames = 3
    """How many frames it is given before the stream is cut."""

    def create(self, folder: Path) -> Sink:
        """Returns a new sink that writes into ``folder``, for frames of `HEIGHT` x `WIDTH`."""
        raise NotImplementedError("override create() to return your plugin")

    def check(self, folder: Path, frames: int) -> None:
        """Checks the output of a run that was cut; override it to read what there is."""

    def _seen(self, folder: Path, before: set[Path]) -> None:
        files = {path for path in folder.rglob("*") if path.is_file()} - before
        hidden = {file for file in files if any(p.startswith(".") for p in file.parts)}
        assert not hidden, "a temporary file is left"
        assert bool(files) == self.writes_files, "what was done is not kept"

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_what_is_done_stays(self, tmp_path: Path, ending: str) -> None:
        """A source or a plugin that fails in the middle costs no frame that was written."""
        source, scheduler, error = ENDINGS[ending](self.frames)
        before, threads = set(tmp_path.rglob("*")), set(threading.enumerate())
        meter, begun = Meter(), time.monotonic()
        with pytest.raises(error):
            run(source, self.create(tmp_path), scheduler, meter=meter)
        assert time.monotonic() - begun < 5 * WITHIN
        assert not threads_left(threads), "a thread is left"
        self._seen(tmp_path, before)
        self.check(tmp_path, meter.frames_out)

    def test_ctrl_c_keeps_what_is_done(self, tmp_path: Path) -> None:
        """The first Ctrl-C closes the output."""
        before, meter = set(tmp_path.rglob("*")), Meter()
        scheduler = PassingScheduler(KeyboardInterrupt(), at=self.frames)
        assert run(ClipSource(None), self.create(tmp_path), scheduler, meter=meter).interrupted
        self._seen(tmp_path, before)
        self.check(tmp_path, meter.frames_out)

    def test_without_a_frame_nothing_is_left(self, tmp_path: Path) -> None:
        """A stream that is cut before its first frame leaves no output."""
        before = set(tmp_path.rglob("*"))
        with pytest.raises(CbsError):
            run(FailingSource(0), self.create(tmp_path))
        assert set(tmp_path.rglob("*")) <= before, "an output without a frame is left"
