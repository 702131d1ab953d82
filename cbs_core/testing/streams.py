"""Suites of what frames come from and go to: sources and sinks."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import torch

from cbs_core.contract.errors import CbsError
from cbs_core.contract.interfaces import Sink, Source
from cbs_core.contract.places import Place
from cbs_core.contract.types import StreamInfo
from cbs_core.contract.windows import Seekable
from cbs_core.testing.helpers import raw_frame


def _open_files() -> set[str]:
    return {file.path for file in psutil.Process().open_files()}


def _files(folder: Path) -> tuple[set[Path], set[Path]]:
    """Returns the files that a person sees, and those that are hidden or in a hidden folder."""
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    hidden = {path for path in files if any(part.startswith(".") for part in path.parts)}
    return files - hidden, hidden


class SourceSuite:
    """Conformance of a `Source`."""

    def create(self, folder: Path) -> Source:
        """Returns a new source of at least one frame; it may put files into ``folder``."""
        raise NotImplementedError("override create() to return your plugin")

    def create_missing(self, folder: Path) -> Source | None:
        """Returns a source whose input does not exist, or None where that cannot be.

        It may raise a `CbsError` itself, if it can tell without opening anything.
        """
        return None

    def test_building_it_opens_nothing(self, tmp_path: Path) -> None:
        """Only the context manager opens: a source that is never entered holds no file."""
        before = _open_files()
        source = self.create(tmp_path)
        assert _open_files() <= before, f"{type(source).__name__}() opens a file"

    def test_frames_are_numbered_and_timed(self, tmp_path: Path) -> None:
        """Indices count from 0 without gaps, times grow, sizes and count are as `info` says.

        A frame stays as it was given when the next ones come: a run is some frames behind.
        """
        with self.create(tmp_path) as source:
            assert isinstance(source, Source)
            info = source.info
            given = [(one, one.pixels.clone()) for _, one in zip(range(50), source, strict=False)]
        frames = [frame for frame, _ in given]
        assert frames
        assert all(torch.equal(frame.pixels, then) for frame, then in given), "its memory is reused"
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert all(a.pts < b.pts for a, b in pairwise(frames))
        assert frames[0].pixels.shape == (info.height, info.width, 3)
        if info.frames is not None and not info.live:
            assert len(frames) == min(info.frames, 50)

    def test_can_be_left_early(self, tmp_path: Path) -> None:
        """Leaving after one frame frees the input."""
        before = _open_files()
        with self.create(tmp_path) as source:
            next(iter(source))
        assert _open_files() <= before, f"{type(source).__name__} is left with a file open"

    def test_can_be_entered_again(self, tmp_path: Path) -> None:
        """It then begins at its first frame, wherever it stood, or was sent by `Seekable.seek`."""
        source = self.create(tmp_path)
        with source:
            live = source.info.live
            first = next(iter(source))
        if live:
            pytest.skip("a live source has no first frame")
        with source:
            last = [*source][-1]
        if isinstance(source, Seekable):
            with source:
                source.seek(Place("", seconds=source.info.start + Fraction(last.pts)))
                next(iter(source))
        with source:
            again = next(iter(source))
        assert (again.index, again.pts) == (first.index, first.pts)
        assert torch.equal(again.pixels.cpu(), first.pixels.cpu())

    def test_a_missing_input_is_one_clear_line(self, tmp_path: Path) -> None:
        """It raises a `CbsError` of one line, at the latest when entered."""

        def enter() -> None:
            source = self.create_missing(tmp_path)
            if source is None:
                pytest.skip("this source has no input that can be missing")
            with source:
                pass

        with pytest.raises(CbsError) as error:
            enter()
        assert "\n" not in str(error.value).strip()


class SinkSuite:
    """Conformance of a `Sink`."""

    frames = 3
    """How many frames the sink is given."""

    writes_files = True
    """Whether an output stands in the folder afterwards."""

    def create(self, folder: Path) -> Sink:
        """Returns a new sink that writes into ``folder``."""
        raise NotImplementedError("override create() to return your plugin")

    def _fill(self, sink: Sink, count: int) -> None:
        sink.open(StreamInfo(96, 64, Fraction(25), frames=self.frames, name="clip"))
        for index in range(count):
            frame = raw_frame(64, 96, index)
            given = frame.pixels.clone()
            sink.write(frame)
            assert torch.equal(frame.pixels, given), (
                "it changes a frame, which others are given too"
            )

    def _check_output(self, folder: Path, before: set[Path]) -> None:
        visible, hidden = _files(folder)
        assert bool(visible - before) == self.writes_files
        assert not hidden - before, "a temporary file is left"

    def test_writes_frames(self, tmp_path: Path) -> None:
        """All frames are taken, and the closed output stands under its own name."""
        sink = self.create(tmp_path)
        assert isinstance(sink, Sink)
        before = set().union(*_files(tmp_path))
        self._fill(sink, self.frames)
        sink.close()
        self._check_output(tmp_path, before)

    def test_nothing_stands_under_the_final_name_before_close(self, tmp_path: Path) -> None:
        """A half-written output is never mistaken for a whole one, and `abort` removes it."""
        sink = self.create(tmp_path)
        before = set().union(*_files(tmp_path))
        self._fill(sink, 1)
        visible, _ = _files(tmp_path)
        assert not visible - before, "a file that is not whole must be hidden"
        sink.abort()
        assert set().union(*_files(tmp_path)) <= before, "abort() must remove what was written"

    def test_an_interrupted_output_is_kept(self, tmp_path: Path) -> None:
        """``close(complete=False)`` finishes what there is."""
        sink = self.create(tmp_path)
        before = set().union(*_files(tmp_path))
        self._fill(sink, 1)
        sink.close(complete=False)
        self._check_output(tmp_path, before)

    def test_abort_before_open_is_harmless(self, tmp_path: Path) -> None:
        """`abort` may be called at any time."""
        self.create(tmp_path).abort()
