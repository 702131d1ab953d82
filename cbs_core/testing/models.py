"""Suites of plugins that see a picture: segmenters and stylers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cbs_core.contract.attributes import HasGoodSize
from cbs_core.contract.interfaces import (
    InstanceSegmenter,
    RegionStyler,
    Resettable,
    Segmenter,
    Stateful,
    Styler,
)
from cbs_core.contract.promptable import PointSegmenter, Promptable
from cbs_core.contract.types import Instances
from cbs_core.testing.helpers import CUDA, SIZES, as_run, no_device_wait, picture
from cbs_core.words.shares import shares


class _ModelSuite:
    """What holds for segmenters and stylers alike."""

    waits = False
    """Whether it waits for the device, which only an algorithm that decides on the host may do."""

    def create(self) -> Any:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def run(self, image: Tensor, *, device: str = "cpu") -> Tensor:
        """Runs a new plugin as the core would."""
        call = as_run(self.create(), device)
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
        call = as_run(plugin, "cpu")
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

    def test_says_what_size_it_is_good_at(self) -> None:
        """Where it says so (`HasGoodSize`): a height and a width, of a picture that it takes."""
        segmenter = self.create()
        size = segmenter.good_size if isinstance(segmenter, HasGoodSize) else None
        if size is None:
            return
        height, width = size
        assert type(height) is type(width) is int, "pixels are whole numbers"
        assert 1 <= min(size) <= max(size) <= 8192, f"good_size {size} is no size of a picture"
        small = picture(max(1, height // 4), max(1, width // 4))
        self.check_shape(self.run(small), small)


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
            _check_instances(one, size, len(plugin.classes))


def _check_instances(found: Instances, size: tuple[int, int], classes: int) -> None:
    assert isinstance(found, Instances)
    assert found.masks.shape[1:] == size
    for values in (found.masks, found.scores):
        assert ((values >= 0) & (values <= 1)).all()
    assert ((found.classes >= 1) & (found.classes < classes)).all()


class PointSegmenterSuite:
    """Conformance of a `PointSegmenter`; of its state `StatefulSuite` judges."""

    def create(self) -> Any:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def test_fills_the_protocol(self) -> None:
        """It has two classes, and a state that it tells."""
        plugin = self.create()
        assert isinstance(plugin, PointSegmenter)
        assert isinstance(plugin, Stateful)
        assert len(plugin.classes) == 2

    @torch.inference_mode()
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_finds_one_thing_at_most(self, size: tuple[int, int]) -> None:
        """A list entry a frame, of the frame's size, in frames of any shape."""
        plugin = self.create()
        if isinstance(plugin, nn.Module):
            plugin.eval()
        images = torch.cat([picture(*size, seed=seed) for seed in range(2)])
        found = plugin.instances_at(images, (0.5, 0.5))
        assert len(found) == len(images)
        for one in found:
            _check_instances(one, size, 2)
            assert len(one.masks) <= 1


class PromptableSuite:
    """Conformance of a `Promptable`; what it returns is judged by `SegmenterSuite`."""

    words = ("red car", "the dog's ball")
    """What it is asked for; overridden where a plugin takes certain words only."""

    def create(self) -> Any:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def test_fills_the_protocol(self) -> None:
        """Each word means something to what is returned, whatever their order."""
        plugin = self.create()
        assert isinstance(plugin, Promptable)
        for words in (self.words, self.words[::-1], self.words[:1]):
            segmenter = plugin.prompted(words)
            assert isinstance(segmenter, Segmenter)
            assert all(share.classes for share in shares(words, segmenter.classes))

    @torch.inference_mode()
    def test_a_word_means_the_same_beside_others(self) -> None:
        """Its scores over the background's do not depend on what else is asked for."""
        plugin = self.create()
        image = picture(64, 96)
        word = self.words[-1]
        several, alone = (
            _over_background(plugin.prompted(words), word, image) for words in (self.words, [word])
        )
        torch.testing.assert_close(several, alone, atol=1e-3, rtol=1e-3)

    @torch.inference_mode()
    def test_other_words_leave_earlier_ones_alone(self) -> None:
        """A plan that is in use goes on as it was while another is built."""
        plugin = self.create()
        image = picture(64, 96)
        first = as_run(plugin.prompted(self.words), "cpu")
        before = first(image).clone()
        plugin.prompted(self.words[::-1])
        assert torch.equal(first(image), before)


def _over_background(segmenter: Segmenter, word: str, image: Tensor) -> Tensor:
    """Returns the logits of a word's first class less those of the first class that there is."""
    (share,) = shares([word], segmenter.classes)
    logits: Tensor = as_run(segmenter, "cpu")(image)
    return logits[:, list(segmenter.classes).index(share.classes[0])] - logits[:, 0]


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
        return (styler, as_run(styler.dense_module(), "cpu"), as_run(styler.window_module(), "cpu"))

    @torch.inference_mode()
    def test_the_dense_module_is_the_styler(self) -> None:
        """The picture is the styler's own; of its statistics there is a row a frame."""
        styler, dense, _ = self.modules()
        images = torch.cat([picture(65, 131, seed=seed) for seed in range(2)])
        styled, statistics = dense(images)
        torch.testing.assert_close(styled, as_run(styler, "cpu")(images), atol=1e-3, rtol=0)
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
