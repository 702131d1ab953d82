"""Style transfer by optimising the picture's own pixels: any style picture, no training, slow.

Source: Gatys et al. 2015 (1508.06576); coarse to fine as in Gatys et al. 2017 (1611.07865,
section 6). The defaults start at the content, with max pooling; the paper starts at noise, with
average pooling.

This plugin waits for the device, as no other styler may: its optimiser decides on the host.

Letters: ``B`` batch, ``H W`` the frame. Inside, pixels are RGB 0..255, as VGG-19 takes them; the
steps of both optimisers are of that scale.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.types import RawFrame
from cbs_core.frame.windows import INVISIBLE
from cbs_core.machine.files import replace
from cbs_plugins.formats.pictures import checked_suffix, read_picture, write_picture
from cbs_plugins.nets.losses import LAYERS, GatysLoss
from cbs_plugins.nets.scale import resize, resize_to_area
from cbs_plugins.nets.vgg import REACH, STRIDE, VGG19

OPTIMIZERS = ("lbfgs", "adam")
INITS = ("content", "noise")

HISTORY = 20
"""Steps that L-BFGS remembers: 100 reach a loss 8% lower for five times the memory."""

ADAM_STEP = 10.0
"""Adam's learning rate, in levels of 255: of 1, 5 and 10 it reaches the lowest loss."""

CUT = 0.1 * 255
"""Mean difference from the last frame above which a frame is of another scene."""

log = logging.getLogger("cbs")


class GatysStyler:
    """Optimises each frame until VGG-19 sees the frame's content in the style's textures.

    With a matte, content and Gram matrices are taken inside it only, and only a window of the
    pixels that these depend on is optimised; all others stay the frame's.

    Args:
        style: a picture file. It is resized to as many pixels as the frame has, at every scale.
        iterations: evaluations of the loss at the smallest scale; each larger one has half as many.
        optimizer: ``lbfgs`` or ``adam``.
        pooling: of VGG-19, ``max`` or ``average``.
        init: what the smallest scale starts from, ``content`` or ``noise``.
        content_weight: of the content loss.
        style_weight: of the style loss.
        tv_weight: of the total variation.
        size: longest side of the smallest scale, pixels; a longer picture is halved until it is no
            longer. None optimises at full size only.
        warm_start: whether a frame starts from the last one's result, at full size only, where it
            has that frame's size and is not of another scene.
        masked: whether the losses see the matte only.
        seed: of the noise.
        preview: a picture file that shows how far the optimisation is.
        preview_every: evaluations between two previews, and between two lines of progress.

    Raises:
        ConfigError: no style, or a value out of range.
        SourceError: a style that is no picture.
        SinkError: a preview of an unknown format.
        PluginLoadError: the weights of VGG-19 are not installed.
    """

    # Peak resident memory on the CPU, measured: 2900 to 3550, of which L-BFGS's history is 480.
    bytes_per_pixel = 3600

    def __init__(
        self,
        style: str | None = None,
        iterations: int = 300,
        optimizer: str = "lbfgs",
        pooling: str = "max",
        init: str = "content",
        content_weight: float = 1.0,
        style_weight: float = 1e3,
        tv_weight: float = 0.0,
        size: int | None = 512,
        warm_start: bool = True,
        masked: bool = True,
        seed: int = 0,
        preview: str | None = None,
        preview_every: int = 50,
    ) -> None:
        if style is None:
            raise ConfigError("no style picture is chosen: give styler.style=PICTURE")
        for key, word, known in (("optimizer", optimizer, OPTIMIZERS), ("init", init, INITS)):
            if word not in known:
                raise ConfigError(
                    f"styler.{key}={word} is unknown{closest(word, known)} "
                    f"(there are: {', '.join(known)})"
                )
        if iterations < 1 or preview_every < 1 or (size is not None and size < STRIDE):
            raise ConfigError(
                "styler.iterations and styler.preview_every must be at least 1 and styler.size at "
                f"least {STRIDE} or null, not {iterations}, {preview_every} and {size}"
            )
        if min(content_weight, style_weight, tv_weight) < 0:
            raise ConfigError(
                "styler.content_weight, styler.style_weight and styler.tv_weight must not be "
                f"negative, as of {content_weight}, {style_weight} and {tv_weight} one is"
            )
        self.style = read_picture(style)[0].permute(2, 0, 1)[None]
        self.iterations = iterations
        self.optimizer = optimizer
        self.init = init
        self.weights = {
            "content_weight": content_weight,
            "style_weight": style_weight,
            "tv_weight": tv_weight,
        }
        self.size = size
        self.warm_start = warm_start
        self.masked = masked
        self.seed = seed
        self.preview = None if preview is None else Path(preview).expanduser()
        if self.preview is not None:
            checked_suffix(self.preview.suffix, f"styler.preview={preview}")
        self.preview_every = preview_every
        self.vgg = VGG19(LAYERS, pooling)
        self.weights_files = self.vgg.weights_files
        self.losses: list[float] = []
        """The loss at every evaluation of the last call; a batch's frames one after the other."""
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range, all of it styled."""
        return self._style(image, None)

    def style_matte(self, image: Tensor, matte: Tensor) -> Tensor:
        """Styles for where a matte ``(B,1,H,W)`` in [0,1] shows the style (`MatteStyler`)."""
        return self._style(image, matte if self.masked else None)

    def reset(self) -> None:
        """Forgets the last frame, from whose result the next would start."""
        self._last = None

    def state(self) -> dict[str, Any]:
        """Returns the last frame and its result, levels of 255 ``(B,3,H,W)``, or None."""
        return {"last": self._last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self._last = state["last"]

    def _style(self, image: Tensor, matte: Tensor | None) -> Tensor:
        height, width = image.shape[2:]
        rest = (0, -width % STRIDE, 0, -height % STRIDE)
        self.losses = []
        # The core calls in inference mode, whose tensors autograd refuses, weights moved there too;
        # these are new ones.
        with torch.inference_mode(False), torch.enable_grad():
            self.vgg.to(image.device)
            pixels = F.pad(image.float() * 255, rest, mode="replicate")
            matte = None if matte is None else F.pad(matte.float().clone(), rest)
            warm = self._warm(pixels)
            styled = pixels.clone()
            for index in range(len(pixels)):
                one = slice(index, index + 1)
                place = (one, slice(None), *window(None if matte is None else matte[one]))
                if pixels[place].numel():
                    styled[place] = self._coarse_to_fine(
                        pixels[place],
                        None if matte is None else matte[place],
                        None if warm is None else warm[place],
                        height * width,
                    )
            if self.warm_start:
                self._last = pixels, styled
            return (styled[..., :height, :width] / 255).clamp_(0, 1).to(image.dtype)

    def _warm(self, pixels: Tensor) -> Tensor | None:
        """Returns the last result where ``(B,3,H,W)`` pixels can start from it."""
        if self._last is None or self._last[0].shape != pixels.shape:
            return None
        last, styled = (tensor.to(pixels.device) for tensor in self._last)
        return styled if bool((last - pixels).abs().mean() < CUT) else None

    def _coarse_to_fine(
        self, content: Tensor, matte: Tensor | None, warm: Tensor | None, area: int
    ) -> Tensor:
        """Returns the styled ``(1,3,H,W)``.

        Args:
            content: ``(1,3,H,W)``, H and W multiples of `STRIDE`.
            matte: ``(1,1,H,W)`` in [0,1], or None.
            warm: ``(1,3,H,W)`` to start from at full size, or None.
            area: pixels of the whole frame, of which ``content`` may be a window.
        """
        height, width = content.shape[2:]
        steps = scales(height, width, self.size, self.iterations)
        start = warm
        for step in steps if warm is None else steps[-1:]:
            reduced = resize(content, step.size)
            if start is None:
                start = self._start(reduced)
            elif start.shape != reduced.shape:
                # Only the change is enlarged, so that the picture's own details are not blurred.
                start = reduced + resize(start - resize(content, (*start.shape[2:],)), step.size)
            loss = GatysLoss(
                self.vgg,
                reduced,
                resize_to_area(self.style.to(content.device), area / step.reduction**2),
                None if matte is None else F.interpolate(matte, step.size, mode="area"),
                **self.weights,
            )
            start = self._optimise(loss, start, step.evaluations)
        assert start is not None
        return start

    def _start(self, content: Tensor) -> Tensor:
        if self.init == "content":
            return content
        generator = torch.Generator().manual_seed(self.seed)
        return 255 * torch.rand(content.shape, generator=generator).to(content.device)

    def _optimise(self, loss: GatysLoss, start: Tensor, evaluations: int) -> Tensor:
        """Returns the best picture ``(1,3,H,W)`` of so many evaluations."""
        image = start.clone().contiguous().requires_grad_()
        optimizer: torch.optim.Optimizer
        if self.optimizer == "adam":
            optimizer = torch.optim.Adam([image], lr=ADAM_STEP)
        else:
            # With one iteration a step it evaluates once a step, as Adam does. The first step moves
            # values by one level in the mean: torch's own is so short that rounding hides the
            # curvature, and the second step may leap beyond all bounds.
            optimizer = torch.optim.LBFGS(
                [image], lr=image.numel(), max_iter=1, history_size=HISTORY
            )
        best, least = start, math.inf

        def evaluate() -> float:
            nonlocal best, least
            optimizer.zero_grad()
            total = loss(image)
            total.backward()  # type: ignore[no-untyped-call]
            value = float(total.detach())
            self.losses.append(value)
            if value < least:
                best, least = image.detach().clone(), value
            return value

        for count in range(1, evaluations + 1):
            optimizer.step(evaluate)  # type: ignore[no-untyped-call]
            if self.optimizer == "lbfgs":
                optimizer.param_groups[0]["lr"] = 1.0
            if count % self.preview_every == 0 or count == evaluations:
                self._progress(count, evaluations, best)
        return best

    def _progress(self, count: int, evaluations: int, image: Tensor) -> None:
        height, width = image.shape[2:]
        log.info(
            "gatys, %dx%d: evaluation %d of %d, loss %.4g",
            *(width, height, count, evaluations, self.losses[-1]),
        )
        if self.preview is None:
            return
        pixels = image[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
        suffix, frame = self.preview.suffix.lower(), RawFrame(pixels, 0)
        replace(self.preview, lambda file: write_picture(file, suffix, frame))


@dataclass(frozen=True, slots=True)
class Scale:
    """One step from coarse to fine."""

    size: tuple[int, int]
    """Height and width, multiples of `STRIDE`."""

    reduction: int
    """By what the full size is divided: a power of two."""

    evaluations: int
    """Of the loss."""


def scales(height: int, width: int, longest: int | None, iterations: int) -> list[Scale]:
    """Returns the sizes to optimise at, the smallest first, the full one last.

    Args:
        height: full, a multiple of `STRIDE`.
        width: likewise.
        longest: the most that a side of the smallest may have; None for the full size only.
        iterations: evaluations at the smallest; halved at each next.
    """
    halvings = math.ceil(math.log2(max(1.0, max(height, width) / longest))) if longest else 0
    return [
        Scale(
            (_multiple(height / 2**halving), _multiple(width / 2**halving)),
            2**halving,
            max(1, iterations >> (halvings - halving)),
        )
        for halving in reversed(range(halvings + 1))
    ]


def window(matte: Tensor | None) -> tuple[slice, slice]:
    """Returns the rows and columns that losses inside a matte depend on; none if it is empty.

    They begin and end on cells of the last layer, so that the losses of this part of a picture are
    those of the picture.

    Args:
        matte: ``(1,1,H,W)``, H and W multiples of `STRIDE`; None for everything.
    """
    if matte is None:
        return slice(None), slice(None)
    shown = matte[0, 0] > INVISIBLE
    rows, columns = (shown.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    return _span(rows), _span(columns)


def _span(places: list[int]) -> slice:
    if not places:
        return slice(0)
    halo = REACH + STRIDE // 2
    first, end = max(0, places[0] - halo), places[-1] + 1 + halo
    return slice(first // STRIDE * STRIDE, -(-end // STRIDE) * STRIDE)


def _multiple(side: float) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)
