"""Conformance suites: subclass one in your tests, give it your plugin, and pytest runs the rest.

    from cbs_core.testing import StylerSuite

    class TestPastel(StylerSuite):
        def create(self):
            return Pastel()

The suites hold the parts of `cbs_core.contract.interfaces` that the framework relies on. On a
machine with CUDA they also run the plugin there and fail it where it waits for the device.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from cbs_core.accelerators.eager import EagerAccelerator
from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.errors import CbsError
from cbs_core.contract.interfaces import (
    Accelerator,
    Closable,
    Compositor,
    InstanceSegmenter,
    RegionStyler,
    Resettable,
    Scheduler,
    Segmenter,
    Sink,
    Source,
    Styler,
)
from cbs_core.contract.types import Instances, RawFrame, StreamInfo
from cbs_core.frame.mattes import Regions
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import Whole
from cbs_core.machine.meter import Meter
from cbs_core.run.stream import Stream

SIZES = ((64, 96), (65, 131), (1, 1), (7, 300))
"""Frame sizes (H, W): even, odd, a single pixel, a thin strip."""

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
)


def picture(height: int, width: int, *, seed: int = 0) -> Tensor:
    """Returns a smooth coloured picture with a hard-edged square, float32 ``(1,3,H,W)``.

    It lies in memory as the core's frames do (channels_last), so that no cast hides a write to it.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    image[:, :, height // 4 : height // 2, width // 4 : width // 2] = 0
    return image.contiguous(memory_format=torch.channels_last)


def raw_frame(height: int, width: int, index: int = 0, *, rate: int = 25) -> RawFrame:
    """Returns `picture` as a source would give it, frame ``index`` of a clip."""
    pixels = picture(height, width, seed=index)[0].mul(255).round().byte().permute(1, 2, 0)
    return RawFrame(pixels.contiguous(), index, Fraction(index, rate))


@contextmanager
def no_device_wait(device: str) -> Iterator[None]:
    """Makes a wait for the CUDA device an error inside the block."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _ready(plugin: Any, device: str, dtype: torch.dtype = torch.float32) -> Callable[..., Tensor]:
    call: Callable[..., Tensor] = plugin
    if isinstance(plugin, nn.Module):
        call = EagerAccelerator()(plugin, device=torch.device(device), dtype=dtype, kind="styler")
    return call


class _ModelSuite:
    """What holds for segmenters and stylers alike."""

    waits = False
    """Whether it waits for the device, which only an algorithm that decides on the host may do."""

    def create(self) -> Any:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def run(self, image: Tensor, *, device: str = "cpu") -> Tensor:
        """Runs a new plugin as the core would."""
        call = _ready(self.create(), device)
        image = image.to(device)
        with torch.inference_mode():
            call(image)
            with no_device_wait("cpu" if self.waits else device):
                return call(image)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_takes_every_frame_size(self, size: tuple[int, int]) -> None:
        """Odd sizes, strips and a single pixel give finite values of the right shape."""
        image = picture(*size)
        out = self.run(image)
        assert torch.isfinite(out).all()
        self.check_shape(out, image)

    def test_leaves_its_input_alone(self) -> None:
        """The frame is shared with other plugins, so it may not be written to."""
        image = picture(64, 96)
        before = image.clone()
        self.run(image)
        assert torch.equal(image, before)

    def test_is_a_function_of_the_frame(self) -> None:
        """The same frame gives the same result, after `reset` where there is state."""
        plugin = self.create()
        call = _ready(plugin, "cpu")
        image = picture(64, 96)
        with torch.inference_mode():
            first = call(image).clone()
            call(picture(64, 96, seed=1))
            if isinstance(plugin, Resettable):
                plugin.reset()
            assert torch.equal(call(image), first)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_takes_batches(self, batch: int) -> None:
        """B frames at once give what they give one at a time."""
        images = torch.cat([picture(64, 96, seed=seed) for seed in range(batch)])
        together = self.run(images)
        for index in range(batch):
            alone = self.run(images[index : index + 1])
            torch.testing.assert_close(together[index : index + 1], alone, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize("device", [CUDA])
    def test_runs_on_cuda_without_waiting(self, device: str) -> None:
        """The result is on the device, equals the CPU's, and no host wait happens."""
        image = picture(64, 96)
        out = self.run(image, device=device)
        assert out.device.type == "cuda"
        torch.testing.assert_close(out.cpu(), self.run(image), atol=1e-2, rtol=1e-2)

    def check_shape(self, out: Tensor, image: Tensor) -> None:
        """Fails where the output does not fit the frame."""
        raise NotImplementedError


class SegmenterSuite(_ModelSuite):
    """Conformance of a `Segmenter`."""

    def check_shape(self, out: Tensor, image: Tensor) -> None:
        """A channel for each class."""
        assert out.is_floating_point(), "logits are floats, not labels"
        classes = len(self.create().classes)
        assert out.ndim == 4, f"logits must be (B, K, h, w), not {tuple(out.shape)}"
        assert out.shape[:2] == (image.shape[0], classes)

    def test_fills_the_protocol(self) -> None:
        """It can be called and names its classes, each once."""
        segmenter = self.create()
        assert isinstance(segmenter, Segmenter)
        assert len(set(segmenter.classes)) == len(segmenter.classes) > 0
        assert all(isinstance(name, str) and name for name in segmenter.classes)


class InstanceSegmenterSuite(SegmenterSuite):
    """Conformance of an `InstanceSegmenter`, which may wait for the device."""

    waits = True

    def test_fills_the_protocol(self) -> None:
        """It has ``instances`` too."""
        super().test_fills_the_protocol()
        assert isinstance(self.create(), InstanceSegmenter)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_instances_are_of_the_frames_size(self, size: tuple[int, int]) -> None:
        """A list entry a frame; masks and scores in [0,1]; no object is background."""
        plugin = self.create()
        images = torch.cat([picture(*size, seed=seed) for seed in range(2)])
        if isinstance(plugin, nn.Module):
            plugin.eval()
        with torch.inference_mode():
            found = plugin.instances(images)
        assert len(found) == len(images)
        for one in found:
            assert isinstance(one, Instances)
            assert one.masks.shape[1:] == size
            for values in (one.masks, one.scores):
                assert ((values >= 0) & (values <= 1)).all()
            assert ((one.classes >= 1) & (one.classes < len(plugin.classes))).all()


class StylerSuite(_ModelSuite):
    """Conformance of a `Styler`."""

    def check_shape(self, out: Tensor, image: Tensor) -> None:
        """The frame's own size and dtype, in [0,1]."""
        assert out.shape == image.shape
        assert out.dtype == image.dtype
        assert out.min() >= 0, "styled pictures must stay in [0,1]"
        assert out.max() <= 1, "styled pictures must stay in [0,1]"

    def test_fills_the_protocol(self) -> None:
        """It can be called."""
        assert isinstance(self.create(), Styler)


class RegionStylerSuite(StylerSuite):
    """Conformance of a `RegionStyler`."""

    def test_fills_the_protocol(self) -> None:
        """It has both modules; its halo is a multiple of its alignment."""
        super().test_fills_the_protocol()
        styler = self.create()
        assert isinstance(styler, RegionStyler)
        assert styler.align >= 1
        assert styler.halo >= 0
        assert styler.halo % styler.align == 0

    def modules(self) -> tuple[Any, Callable[..., Any], Callable[..., Tensor]]:
        """Returns a new plugin and its two modules, as the core would run them."""
        styler = self.create()
        return (styler, _ready(styler.dense_module(), "cpu"), _ready(styler.window_module(), "cpu"))

    @torch.inference_mode()
    def test_the_dense_module_is_the_styler(self) -> None:
        """The picture is the styler's own; of its statistics there is a row a frame."""
        styler, dense, _ = self.modules()
        images = torch.cat([picture(65, 131, seed=seed) for seed in range(2)])
        styled, statistics = dense(images)
        torch.testing.assert_close(styled, _ready(styler, "cpu")(images), atol=1e-3, rtol=0)
        assert statistics.dtype == torch.float32
        assert statistics.ndim == 2
        assert len(statistics) == 2

    @torch.inference_mode()
    def test_a_window_shows_what_the_whole_shows(self) -> None:
        """Within its halo, at the frame's corners and in the middle, by the same statistics."""
        styler, dense, window = self.modules()
        step = styler.align
        reach = 2 * styler.halo + 8 * step
        height, width = reach + 5 * step + 1, reach + 9 * step + 2
        image = picture(height, width)
        styled, statistics = dense(image)
        for top, bottom in ((0, reach), (2 * step, 2 * step + reach), (5 * step, height)):
            for left, right in ((0, reach), (4 * step, 4 * step + reach), (9 * step, width)):
                part = window(image[..., top:bottom, left:right], statistics)
                assert part.shape == (1, 3, bottom - top, right - left)
                # Only an edge inside the frame has a halo that is cut off.
                y0, y1 = (0 if edge in (0, height) else styler.halo for edge in (top, bottom))
                x0, x1 = (0 if edge in (0, width) else styler.halo for edge in (left, right))
                inside = part[..., y0 : bottom - top - y1, x0 : right - left - x1]
                whole = styled[..., top + y0 : bottom - y1, left + x0 : right - x1]
                torch.testing.assert_close(inside, whole, atol=1 / 255, rtol=0)

    @torch.inference_mode()
    def test_windows_of_a_batch_share_statistics(self) -> None:
        """Several windows at once give what each gives alone."""
        styler, dense, window = self.modules()
        side = 2 * styler.halo + 8 * styler.align
        images = torch.cat([picture(side, side, seed=seed) for seed in range(3)])
        _, statistics = dense(images[:1])
        together = window(images, statistics)
        for index in range(3):
            alone = window(images[index : index + 1], statistics)
            torch.testing.assert_close(together[index : index + 1], alone, atol=1e-3, rtol=0)


class CompositorSuite:
    """Conformance of a `Compositor`."""

    hard_edges = False
    """Whether a matte of 0 must give the picture to the bit, everywhere."""

    linear = True
    """Whether it is linear in the matte; one that is not is linear in the matte's scale at least,
    and superposes routes whose mattes lie far apart."""

    waits = False
    """As for stylers: only an algorithm that decides on the host may wait for the device."""

    def create(self) -> Compositor:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def blend(self, alpha: Tensor, *, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Returns image, styled and the compositor's picture for a matte ``(1,1,H,W)``."""
        compositor = self.create()
        if isinstance(compositor, nn.Module):
            compositor.to(device)
        height, width = alpha.shape[2:]
        image = picture(height, width).to(device)
        styled = picture(height, width, seed=1).to(device)
        alpha = alpha.to(device)
        with torch.inference_mode():
            compositor(image, styled, alpha)
            with no_device_wait("cpu" if self.waits else device):
                return image, styled, compositor(image, styled, alpha)

    def test_fills_the_protocol(self) -> None:
        """It can be called."""
        assert isinstance(self.create(), Compositor)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_an_empty_matte_leaves_the_picture(self, size: tuple[int, int]) -> None:
        """A matte of 0 gives the original to the bit."""
        image, _, out = self.blend(torch.zeros(1, 1, *size))
        assert torch.equal(out, image)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_a_full_matte_gives_the_style(self, size: tuple[int, int]) -> None:
        """A matte of 1 gives the styled picture."""
        _, styled, out = self.blend(torch.ones(1, 1, *size))
        torch.testing.assert_close(out, styled, atol=2e-3, rtol=0)

    def test_a_quarter_of_the_matte_is_a_quarter_of_the_change(self) -> None:
        """A route's strength scales its matte."""
        image, styled, out = self.blend(torch.full((1, 1, 64, 96), 0.25))
        torch.testing.assert_close(out, torch.lerp(image, styled, 0.25), atol=2e-3, rtol=0)

    def test_is_linear_in_the_matte(self) -> None:
        """Routes are superposed by the core, which needs linearity."""
        if not self.linear:
            pytest.skip("this compositor is linear in the matte's scale only")
        # Mattes away from 0 and 1 leave room for a filter's overshoot, which may be cut there.
        left = torch.full((1, 1, 64, 96), 0.4)
        left[..., :30] = 0.6
        right = torch.full((1, 1, 64, 96), 0.4)
        right[..., 60:] = 0.6
        both = self.blend(0.3 * left + 0.7 * right)[2]
        parts = 0.3 * self.blend(left)[2] + 0.7 * self.blend(right)[2]
        torch.testing.assert_close(both, parts, atol=1e-4, rtol=0)

    def test_a_hard_background_is_exact(self) -> None:
        """Where `hard_edges` says so, pixels outside the matte are the original's to the bit."""
        if not self.hard_edges:
            pytest.skip("this compositor softens edges")
        alpha = torch.zeros(1, 1, 64, 96)
        alpha[..., 20:40, 30:50] = 1
        image, _, out = self.blend(alpha)
        outside = (alpha == 0).expand_as(out)
        assert torch.equal(out[outside], image[outside])

    @pytest.mark.parametrize("device", [CUDA])
    def test_runs_on_cuda_without_waiting(self, device: str) -> None:
        """The result equals the CPU's, and no host wait happens."""
        alpha = torch.zeros(1, 1, 64, 96)
        alpha[..., 20:40, 30:50] = 1
        torch.testing.assert_close(
            self.blend(alpha, device=device)[2].cpu(), self.blend(alpha)[2], atol=1e-3, rtol=0
        )


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
        """Indices count from 0 without gaps, times grow, sizes and count are as `info` says."""
        with self.create(tmp_path) as source:
            assert isinstance(source, Source)
            info = source.info
            frames = [frame for _, frame in zip(range(50), source, strict=False)]
        assert frames
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
            sink.write(raw_frame(64, 96, index))

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


class SchedulerSuite:
    """Conformance of a `Scheduler`: it must equal ``serial``, the oracle, frame for frame."""

    tolerance = 0
    """Levels of 255 by which a frame may differ from the oracle's, in float32."""

    def create(self, stream: Stream, meter: Meter) -> Scheduler:
        """Returns a new scheduler."""
        raise NotImplementedError("override create() to return your plugin")

    @staticmethod
    def device() -> torch.device:
        """Returns where the suite runs: CUDA where it is, unless a scheduler is for another."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def stream(self) -> Stream:
        """Returns a stream with a small plan of two routes: brightness classes, an inverting style.

        The second route is absent from every third frame of `drive`.
        """

        def segment(image: Tensor) -> Tensor:
            light = image.mean(1, keepdim=True)
            return torch.cat([0.4 - light, light - 0.6, torch.full_like(light, 0.05)], 1)

        routes = (Route(("dark",), "negative"), Route(("bright",), "negative", strength=0.5))
        regions = Regions(("dark", "bright", "rest"), [route.classes for route in routes])
        return Stream(
            Plan(
                segmenter=Stage(segment, "test segmenter"),
                stylings={routes[0].style: Whole(Stage(lambda image: 1 - image, "test styler"))},
                compositor=Stage(torch.lerp, "test compositor"),
                regions=regions.to(self.device()),
                routes=routes,
                device=self.device(),
            )
        )

    def drive(self, scheduler: Scheduler, count: int) -> list[RawFrame]:
        """Runs a clip through a scheduler."""
        done: list[RawFrame] = []
        for index in range(count):
            raw = raw_frame(48, 80, index)
            if index % 3 == 2:
                raw = replace(raw, pixels=raw.pixels // 2)
            scheduler.submit(raw)
            done.extend(scheduler.ready())
        done.extend(scheduler.drain())
        if isinstance(scheduler, Closable):
            scheduler.close()
        return done

    @pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
    def test_equals_serial(self, count: int) -> None:
        """Every frame comes once, in order, with its time, and equals the oracle's."""
        from cbs_core.run.schedulers.serial import SerialScheduler

        want = self.drive(SerialScheduler(self.stream(), meter=Meter()), count)
        have = self.drive(self.create(self.stream(), Meter()), count)
        assert [(f.index, f.pts) for f in have] == [(f.index, f.pts) for f in want]
        for ours, oracle in zip(have, want, strict=True):
            difference = np.abs(ours.pixels.numpy().astype(int) - oracle.pixels.numpy().astype(int))
            assert difference.max() <= self.tolerance


class _Window(nn.Module):
    """A convolution whose result is shifted by a second input, and its mean: two in, two out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        out = self.conv(image) + shift[:, :, None, None]
        return out, out.mean((2, 3))


class AcceleratorSuite:
    """Conformance of an `Accelerator`: it must equal the module run in float32."""

    tolerance = 1e-4
    """Absolute difference allowed in float32."""

    device = "cpu"
    """Where it runs; ``cuda`` skips all of it where there is none."""

    def create(self) -> Accelerator:
        """Returns a new plugin."""
        raise NotImplementedError("override create() to return your plugin")

    def accelerate(self, module: nn.Module, kind: Kind = "styler") -> Accelerated:
        """Returns a module made fast in float32."""
        if self.device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        device = torch.device(self.device)
        return self.create()(module, device=device, dtype=torch.float32, kind=kind)

    def check(self, have: Tensor, want: Tensor) -> None:
        """Fails where a result is not the module's own."""
        assert have.dtype == torch.float32
        assert have.device.type == self.device
        torch.testing.assert_close(have.cpu(), want, atol=self.tolerance, rtol=0)

    @staticmethod
    def module() -> nn.Module:
        """Returns a small net, the same each time."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()

    @pytest.mark.parametrize("kind", ["styler", "segmenter"])
    @pytest.mark.parametrize("size", [(64, 96), (65, 131)], ids=str)
    def test_equals_the_module(self, size: tuple[int, int], kind: Kind) -> None:
        """float32 in and out, the module's own values."""
        image = picture(*size)
        with torch.inference_mode():
            want = self.module()(image)
            call = self.accelerate(self.module(), kind)
            for _ in range(2):
                self.check(call(image.to(self.device)), want)

    def test_serves_several_sizes_and_batches(self) -> None:
        """One after the other, and again; what was given earlier is not written over."""
        call = self.accelerate(self.module())
        images = [picture(48, 64), picture(40, 72), torch.cat([picture(48, 64, seed=1)] * 2)]
        with torch.inference_mode():
            wants = [self.module()(image) for image in images]
            haves = [call(image.to(self.device)) for image in (*images, *images)]
        for have, want in zip(haves, (*wants, *wants), strict=True):
            self.check(have, want)

    def test_what_was_prepared_is_built(self) -> None:
        """`prepare` makes a shape ready, which `built` tells."""
        call = self.accelerate(self.module())
        assert isinstance(call, Accelerated)
        with torch.inference_mode():
            call.prepare(picture(48, 64).to(self.device))
        assert set(call.built) == {(1, 3, 48, 64)}

    def test_takes_and_returns_several_tensors(self) -> None:
        """As the two nets of a styler that restyles windows do."""
        torch.manual_seed(0)
        module = _Window().eval()
        image, shift = picture(48, 64), torch.tensor([[0.1, 0.2, 0.3]])
        with torch.inference_mode():
            want = module(image, shift)
            call = self.accelerate(module)
            have = call(image.to(self.device), shift.to(self.device))
        assert isinstance(have, tuple)
        for ours, theirs in zip(have, want, strict=True):
            self.check(ours, theirs)

    def test_leaves_its_input_alone(self) -> None:
        """The frame is shared with other plugins, so it may not be written to."""
        image = picture(48, 64).to(self.device)
        before = image.clone()
        with torch.inference_mode():
            self.accelerate(self.module())(image)
        assert torch.equal(image, before)


def accepts_path_first(target: Callable[..., object]) -> bool:
    """Tells whether a source's or sink's first parameter is ``path``, as ``input=`` needs."""
    names = list(inspect.signature(target).parameters)
    return bool(names) and names[0] == "path"
