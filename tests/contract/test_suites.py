"""The conformance suites are able to fail: each of these plugins breaks one rule."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from cbs_core import testing
from cbs_core.contract.errors import SourceError
from cbs_core.contract.types import StreamInfo
from cbs_core.run.schedulers.serial import SerialScheduler


def suite_of(base, plugin, **attributes):
    """A suite whose plugin is ``plugin``, called with whatever `create` is given."""
    return type("Suite", (base,), {"create": staticmethod(plugin), **attributes})()


def writes_into_its_input(image):
    return image.mul_(0.5)


class WritingNet(nn.Module):
    def forward(self, image):
        return image.mul_(0.5)


class Counting:
    """Its picture depends on how many came before."""

    calls = 0

    def __call__(self, image):
        self.calls += 1
        return image * 0.5**self.calls


class Brightest:
    """Divides by the brightest pixel of the whole batch."""

    def __call__(self, image):
        return image / image.max().clamp(min=0.01)


@pytest.mark.parametrize(
    ("styler", "test", "arguments"),
    [
        (lambda image: image[..., 1:], "test_takes_every_frame_size", [(64, 96)]),
        (lambda image: image[:, :1], "test_takes_every_frame_size", [(64, 96)]),
        (lambda image: image - 0.5, "test_takes_every_frame_size", [(64, 96)]),
        (lambda image: image + 0.5, "test_takes_every_frame_size", [(64, 96)]),
        (lambda image: image.double(), "test_takes_every_frame_size", [(64, 96)]),
        (lambda image: image * float("nan"), "test_takes_every_frame_size", [(64, 96)]),
        (writes_into_its_input, "test_leaves_its_input_alone", []),
        (WritingNet(), "test_leaves_its_input_alone", []),
        (Counting(), "test_is_a_function_of_the_frame", []),
        (Brightest(), "test_takes_batches", [3]),
        ("no styler", "test_fills_the_protocol", []),
    ],
)
def test_styler_suite(styler, test, arguments):
    with pytest.raises(AssertionError):
        getattr(suite_of(testing.StylerSuite, lambda: styler), test)(*arguments)


class Segmenter:
    def __init__(self, classes=("a", "b"), channels=2, dtype=torch.float32):
        self.classes, self.channels, self.dtype = classes, channels, dtype

    def __call__(self, image):
        return torch.zeros(len(image), self.channels, 8, 8, dtype=self.dtype)


@pytest.mark.parametrize(
    ("segmenter", "test", "arguments"),
    [
        (Segmenter(channels=3), "test_takes_every_frame_size", [(64, 96)]),
        (Segmenter(dtype=torch.int64), "test_takes_every_frame_size", [(64, 96)]),
        (Segmenter(classes=("a", "a")), "test_fills_the_protocol", []),
        (Segmenter(classes=()), "test_fills_the_protocol", []),
        (Segmenter(classes=(0, 1)), "test_fills_the_protocol", []),
        (lambda image: image, "test_fills_the_protocol", []),
    ],
)
def test_segmenter_suite(segmenter, test, arguments):
    with pytest.raises(AssertionError):
        getattr(suite_of(testing.SegmenterSuite, lambda: segmenter), test)(*arguments)


@pytest.mark.parametrize(
    ("compositor", "test", "arguments"),
    [
        (lambda i, t, a: torch.lerp(i, t, a**2), "test_a_quarter_of_the_matte_is_a_quarter", []),
        (lambda i, t, a: torch.lerp(i, t, a.round()), "test_a_quarter_of_the_matte_is_a_q", []),
        (lambda i, t, a: torch.lerp(i, t, 0.6 * a / a.max()), "test_is_linear", []),
        (lambda i, t, a: i * (1 - a) + t * a + 1e-7, "test_an_empty_matte", [(64, 96)]),
        (lambda i, t, a: torch.lerp(i, t, 0.9 * a), "test_a_full_matte", [(64, 96)]),
        (lambda i, t, a: torch.lerp(i, t, a + 1e-3), "test_a_hard_background_is_exact", []),
        (None, "test_fills_the_protocol", []),
    ],
)
def test_compositor_suite(compositor, test, arguments):
    suite = suite_of(testing.CompositorSuite, lambda: compositor, hard_edges=True)
    (method,) = (getattr(suite, name) for name in dir(suite) if name.startswith(test))
    with pytest.raises(AssertionError):
        method(*arguments)


class Source:
    """Three good frames; subclasses spoil them."""

    info = StreamInfo(96, 64, frames=3)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def __iter__(self):
        return (testing.raw_frame(64, 96, index) for index in range(3))


class Gaps(Source):
    def __iter__(self):
        return (testing.raw_frame(64, 96, index) for index in (0, 2, 3))


class Still(Source):
    def __iter__(self):
        for frame in super().__iter__():
            yield replace(frame, pts=Fraction(0))


class WrongSize(Source):
    info = StreamInfo(64, 96, frames=3)


class WrongCount(Source):
    info = StreamInfo(96, 64, frames=4)


class Empty(Source):
    def __iter__(self):
        return iter(())


class Reusing(Source):
    def __iter__(self):
        memory = testing.raw_frame(64, 96).pixels
        for frame in super().__iter__():
            yield replace(frame, pixels=memory.copy_(frame.pixels))


class Leaking(Source):
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.file = self.path.open()
        return self


class Eager(Source):
    def __init__(self, path):
        self.file = path.open()


@pytest.mark.parametrize("source", [Gaps, Still, WrongSize, WrongCount, Empty, Reusing])
def test_source_suite_frames(source, tmp_path):
    with pytest.raises(AssertionError):
        suite_of(testing.SourceSuite, lambda _: source()).test_frames_are_numbered_and_timed(
            tmp_path
        )


@pytest.mark.parametrize(
    ("source", "test"),
    [(Leaking, "test_can_be_left_early"), (Eager, "test_building_it_opens_nothing")],
)
def test_source_suite_files(source, test, tmp_path):
    file = tmp_path / "a"
    file.touch()
    kept = []

    def create(_: Path) -> Source:
        kept.append(source(file))
        return kept[0]

    with pytest.raises(AssertionError):
        getattr(suite_of(testing.SourceSuite, create), test)(tmp_path)
    kept[0].file.close()


def test_source_suite_missing_input(tmp_path):
    class Chatty(Source):
        def __enter__(self):
            raise SourceError("two\nlines")

    def check(source):
        attributes = {"create_missing": staticmethod(lambda _: source)}
        suite = suite_of(testing.SourceSuite, lambda _: source, **attributes)
        suite.test_a_missing_input_is_one_clear_line(tmp_path)

    with pytest.raises(AssertionError):
        check(Chatty())
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check(Source())


class Sink:
    """Writes a hidden file that gets its name when closed; subclasses spoil that."""

    hidden, final = ".a.tmp", "a"

    def __init__(self, folder):
        self.folder = folder

    def open(self, info):
        (self.folder / self.hidden).touch()

    def write(self, frame):
        pass

    def close(self, *, complete=True):
        (self.folder / self.hidden).rename(self.folder / self.final)

    def abort(self):
        (self.folder / self.hidden).unlink(missing_ok=True)


class Visible(Sink):
    hidden = "a"


class Remaining(Sink):
    def abort(self):
        pass


class Nothing(Sink):
    def close(self, *, complete=True):
        self.abort()


class Copying(Sink):
    def close(self, *, complete=True):
        (self.folder / self.final).write_bytes((self.folder / self.hidden).read_bytes())


class Drawing(Sink):
    def write(self, frame):
        frame.pixels[:8] = 255


@pytest.mark.parametrize(
    ("sink", "test"),
    [
        (Drawing, "test_writes_frames"),
        (Visible, "test_nothing_stands_under_the_final_name_before_close"),
        (Remaining, "test_nothing_stands_under_the_final_name_before_close"),
        (Nothing, "test_writes_frames"),
        (Copying, "test_writes_frames"),
        (Nothing, "test_an_interrupted_output_is_kept"),
    ],
)
def test_sink_suite(sink, test, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    getattr(suite_of(testing.SinkSuite, Sink), test)(good)
    with pytest.raises(AssertionError):
        getattr(suite_of(testing.SinkSuite, sink), test)(tmp_path)


class Dropping(SerialScheduler):
    def ready(self):
        return (frame for frame in super().ready() if frame.index != 1)


class Reversing(SerialScheduler):
    def ready(self):
        return iter(())

    def drain(self):
        return iter(list(super().ready())[::-1])


class Brighter(SerialScheduler):
    def ready(self):
        for frame in super().ready():
            frame.pixels.add_(1)
            yield frame


class Blur(nn.Module):
    """Of 3x3 pixels over the picture's mean, which is its statistic."""

    align = 1

    def __init__(self, halo, own=False):
        super().__init__()
        self.halo, self.own = halo, own

    def forward(self, image, mean=None):
        if mean is None or self.own:
            mean = image.mean((1, 2, 3))[:, None]
        padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        return nn.functional.avg_pool2d(padded, 3, 1) * mean[:, :, None, None]

    def dense_module(self):
        net = self

        class Dense(nn.Module):
            def forward(self, image):
                return net(image), image.mean((1, 2, 3))[:, None]

        return Dense()

    def window_module(self):
        return self


def test_region_styler_suite():
    def check(**params):
        suite = suite_of(testing.RegionStylerSuite, lambda: Blur(**params))
        suite.test_fills_the_protocol()
        suite.test_the_dense_module_is_the_styler()
        suite.test_windows_of_a_batch_share_statistics()
        suite.test_a_window_shows_what_the_whole_shows()

    check(halo=1)
    for wrong in ({"halo": 0}, {"halo": 1, "own": True}):
        with pytest.raises(AssertionError):
            check(**wrong)


@pytest.mark.parametrize("scheduler", [Dropping, Reversing, Brighter])
def test_scheduler_suite(scheduler):
    def create(stream, meter):
        return scheduler(stream, meter=meter)

    with pytest.raises(AssertionError):
        suite_of(testing.SchedulerSuite, create).test_equals_serial(3)


class Accelerated:
    """Halves the module's values, writes each result over the last, and tells of no shape."""

    chosen, built = "", frozenset()

    def __init__(self, module, *, device, dtype, kind, factor=1.0):
        self.module, self.factor, self.last = module, factor, {}

    def prepare(self, *inputs):
        self(*inputs)

    def __call__(self, *inputs):
        out = self.module(*inputs) * self.factor
        return self.last.setdefault(out.shape, out).copy_(out)


def test_accelerator_suite():
    suite = suite_of(testing.AcceleratorSuite, lambda: partial(Accelerated, factor=0.5))
    with pytest.raises(AssertionError):
        suite.test_equals_the_module((64, 96), "styler")
    suite = suite_of(testing.AcceleratorSuite, lambda: Accelerated)
    suite.test_equals_the_module((64, 96), "styler")
    with pytest.raises(AssertionError):
        suite.test_what_was_prepared_is_built()


def test_accelerator_suite_sees_a_result_written_over():
    class Reused(Accelerated):
        def __call__(self, *inputs):
            self.last["out"] = self.last.get("out", inputs[0].new_empty(0))
            return self.last["out"].resize_(inputs[0].shape).copy_(self.module(*inputs))

    suite = suite_of(testing.AcceleratorSuite, lambda: Reused)
    with pytest.raises(AssertionError):
        suite.test_serves_several_sizes_and_batches()
