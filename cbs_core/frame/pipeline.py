"""Segment, style, composite: a pure function of a frame.

    U = (1 - Σ A_r) · I + Σ A_r · T_r          one matte A_r and one style T_r a route

is computed as ``U = I + Σ (C_r - I)``, C_r being what the compositor makes of route r alone. The
two are equal for every compositor that is linear in its matte, and one route is the compositor's
own output to the bit.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import kornia.color
import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.accelerated import Accelerated
from cbs_core.contract.errors import CbsError, PluginContractError
from cbs_core.contract.interfaces import Resettable
from cbs_core.contract.types import Frame, Instances, RawFrame, Scores
from cbs_core.frame.mattes import Regions, Scale, resized
from cbs_core.frame.routes import Route
from cbs_core.frame.styling import RegionStyling
from cbs_core.frame.tiles import Tiles
from cbs_core.frame.windows import INVISIBLE, Presence, occupancy
from cbs_core.machine.device import fetch
from cbs_core.machine.memory import check_memory
from cbs_core.machine.meter import Meter
from cbs_core.temporal import objects
from cbs_core.temporal.carrying import Propagation
from cbs_core.temporal.statistics import Scenes

NO_ENGINE = "unable to find an engine"
"""What cuDNN says where none of its algorithms gets the memory that it wants. One that cannot
compute at all says so too, but to `cbs_core.machine.device.choose`, before there is a frame."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A plugin's callable and the words that an error names it with."""

    call: Callable[..., object]
    what: str
    """``styler 'pastel' of cbs-pastel 0.1.0``."""

    bytes_per_pixel: int = 0

    takes_matte: bool = False
    """Whether it is a `MatteStyler`'s, called with ``(image, matte)``."""

    takes_cells: bool = False
    """Whether it is a `RegionStyling`, called with ``(image, cells, scene)``."""

    def run(self, image: Tensor, *more: object) -> object:
        """Runs the plugin.

        Raises:
            PluginContractError: it raised.
        """
        try:
            return self.call(image, *more)
        except (CbsError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # of the machine, not of the plugin
        except Exception as error:  # a stranger's code may raise anything
            if NO_ENGINE in str(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise PluginContractError(
                f"the {self.what} failed on a frame of {_shape(image)} "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error

    def __call__(self, image: Tensor, *more: object) -> Tensor:
        """Runs a plugin that returns a tensor.

        Raises:
            PluginContractError: it raised, or returned none.
        """
        out = self.run(image, *more)
        if not isinstance(out, Tensor):
            raise PluginContractError(
                f"the {self.what} returned {type(out).__name__} where a tensor is due"
            )
        return out


@dataclass(frozen=True, slots=True)
class Located:
    """Where a frame is to be restyled."""

    mattes: Tensor
    """``(B,R,H,W)`` in [0,1], strength not applied, of the selected object alone."""

    presence: Presence
    """Where each route's matte shows, known to the host."""

    @property
    def shown(self) -> tuple[bool, ...]:
        """Whether each route's matte shows anywhere."""
        return self.presence.shown


@dataclass(frozen=True, slots=True)
class Result:
    """What the pipeline made of a frame; letters as in `cbs_core.frame.mattes`."""

    image: Tensor
    """``(B,3,H,W)`` in [0,1], the composite U."""

    logits: Tensor = field(repr=False)
    """``(B,K,h,w)``, the segmenter's, or carried from a frame before."""

    mattes: Tensor = field(repr=False)
    """``(B,R,H,W)`` in [0,1], strength not applied."""

    styled: Mapping[str, Tensor] = field(repr=False)
    """``(B,3,H,W)`` by `Route.style`; a style whose classes are absent was not run. One that was
    run on windows only is the original outside of them."""

    shown: tuple[bool, ...]
    """Whether each route's matte shows anywhere."""


class Pipeline:
    """Restyles the routed classes of a frame.

    Args:
        segmenter: ``(B,3,H,W)`` -> ``(B,K,h,w)`` logits.
        stylers: by `Route.style`, ``(B,3,H,W)`` -> the same.
        compositor: see `cbs_core.contract.interfaces.Compositor`.
        regions: logits to mattes; its routes are `routes`, in order.
        routes: which classes get which style.
        device: where it all runs.
        detector: an `InstanceSegmenter`'s ``instances``, run in the place of ``segmenter`` where
            one object is selected.
        selection: which object is restyled; None is all. It has state: frames must come in order.
        stateful: the plugins that have state as well.
        segment_size: of the picture that the segmenter is given.
        ahead: whether a frame of a new size has every net built, those of styles that it does not
            show too, so that none has to be built in the middle of a stream.
        segment_every: N: the segmenter is run on every Nth frame, and in between its scores go
            along with the motion (`cbs_core.temporal.carrying`), which has state too. 1 is each
            frame.
    """

    def __init__(
        self,
        *,
        segmenter: Stage,
        stylers: Mapping[str, Stage],
        compositor: Stage,
        regions: Regions,
        routes: Sequence[Route],
        device: torch.device,
        detector: Stage | None = None,
        selection: objects.Selection | None = None,
        stateful: Sequence[Resettable] = (),
        segment_size: Scale = None,
        ahead: bool = False,
        segment_every: int = 1,
    ) -> None:
        self.segmenter = segmenter
        self.stylers = stylers
        self.compositor = compositor
        self.regions = regions.to(device)
        self.routes = tuple(routes)
        self.device = device
        self.detector = detector
        self.selection = selection
        self.stateful = tuple(stateful)
        self.segment_size = segment_size
        self.ahead = ahead
        self.propagation = Propagation(segment_every) if segment_every > 1 else None
        self.scenes = Scenes() if any(s.takes_cells for s in stylers.values()) else None
        self._fits: set[tuple[int, int]] = set()
        self._prepared: set[torch.Size] = set()
        self._tiles = Tiles()

    def reset(self) -> None:
        """Forgets all state: the next frame is the first of another stream."""
        for part in (self.selection, self.scenes, self.propagation, *self.stateful):
            if part is not None:
                part.reset()

    def check_memory(self, height: int, width: int) -> None:
        """Refuses a frame too large for the device before any work is done.

        Raises:
            MemoryLimitError: with the memory needed and that there is.
        """
        if (height, width) not in self._fits:
            # A GPU says when it is full, and `Tiles` make do; on the host the process is killed.
            tiled = self.device.type == "cuda"
            stages = [] if tiled else [self.segmenter, *self.stylers.values()]
            mattes = 2 * 4 * self.regions.weights.shape[1]
            own = 3 * 4 * (2 + len(self.stylers)) + 4 * len(self.routes)
            peak = own + max([mattes, *(stage.bytes_per_pixel for stage in stages)])
            check_memory(height, width, peak, self.device)
            self._fits.add((height, width))

    def prepare(self, image: Tensor) -> None:
        """Builds the nets for frames like this ``(B,3,H,W)``.

        Raises:
            CbsError: one cannot be built.
        """
        with torch.inference_mode():
            if isinstance(self.segmenter.call, Accelerated):
                self.segment(image)
            for stage in self.stylers.values():
                if isinstance(stage.call, RegionStyling):
                    stage.call.prepare(image)
                elif isinstance(stage.call, Accelerated):  # in tiles where it must
                    self._tiles(stage, stage.what, image)

    def upload(self, raw: RawFrame) -> Frame:
        """Moves a frame to the device: uint8 ``(H,W,3)`` -> float32 ``(1,3,H,W)`` in [0,1]."""
        self.check_memory(*raw.pixels.shape[:2])
        pixels = raw.pixels.to(self.device, non_blocking=True)
        image = pixels.permute(2, 0, 1)[None].float().div_(255)
        return Frame(image, raw.index, raw.pts)

    def pack(self, image: Tensor) -> Tensor:
        """Returns a picture ``(1,3,H,W)`` as uint8 ``(H,W,3)``, on its device."""
        # float32 holds n/255 so closely that rounding gives n back: an untouched pixel is exact.
        pixels = image[0].mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        return pixels.contiguous()

    def download(self, image: Tensor, raw: RawFrame) -> RawFrame:
        """Moves a picture ``(1,3,H,W)`` to the host, with everything else from ``raw``."""
        return replace(raw, pixels=self.pack(image).cpu())

    def segment(self, image: Tensor) -> Tensor:
        """Returns the logits ``(B,K,h,w)``.

        Raises:
            PluginContractError: the segmenter broke its interface.
        """
        return self._tiles(self._logits, self.segmenter.what, resized(image, self.segment_size))

    def _logits(self, image: Tensor) -> Tensor:
        logits = self.segmenter(image)
        classes = self.regions.weights.shape[1]
        if logits.ndim != 4 or logits.shape[:2] != (image.shape[0], classes):
            raise PluginContractError(
                f"the {self.segmenter.what} returned {_shape(logits)} where "
                f"({image.shape[0]}, {classes}, h, w) is due: a channel for each of its classes"
            )
        if not logits.is_floating_point() or logits.device != image.device:
            raise PluginContractError(
                f"the {self.segmenter.what} returned {_kind(logits)} where logits, floats on "
                f"{image.device}, are due"
            )
        return logits

    def instances(self, image: Tensor) -> list[Instances] | None:
        """Returns the objects of each frame, or None where no detector is to be run.

        Raises:
            PluginContractError: the segmenter broke its interface.
        """
        if self.detector is None:
            return None
        seen = resized(image, self.segment_size)
        found = self.detector.run(seen)
        if (
            not isinstance(found, list)
            or len(found) != len(image)
            or not all(isinstance(one, Instances) for one in found)
            or not all(one.masks.shape[1:] == seen.shape[2:] for one in found)
        ):
            raise PluginContractError(
                f"the {self.detector.what} returned {found!r} where a list of {len(image)} "
                f"Instances with masks of {_shape(seen[0, 0])} is due"
            )
        if seen is image:
            return found
        return [_enlarged(one, image.shape[2:]) for one in found]

    def select(
        self, mattes: Tensor, logits: Tensor, instances: Sequence[Instances] | None
    ) -> Tensor:
        """Returns the mattes of the selected object alone, ``(B,R,H,W)``. Waits for the device.

        Args:
            mattes: ``(B,R,H,W)``, those of all objects.
            logits: ``(B,K,h,w)``, whose connected components are the objects,
            instances: unless these are, of each frame.

        Raises:
            ConfigError: the selected point is outside the frame.
        """
        if self.selection is None:
            return mattes
        route_of = self.selection.route_of
        if instances is not None:
            found = [objects.instances(one, route_of) for one in instances]
        else:
            height, width = mattes.shape[2:]
            labels = self.regions.labels(logits, (height, width))
            found = [objects.components(one, route_of) for one in labels]
        return self.selection(mattes, found)

    def present(self, image: Tensor, mattes: Tensor) -> Presence:
        """Tells where each matte shows, and in which scene. Waits for the device, once a frame."""
        pooled = occupancy(mattes)
        if self.scenes is None:
            return Presence(fetch(pooled > INVISIBLE).numpy(), 0)
        thumbnail = self.scenes.thumbnail(image)
        sent = fetch(torch.cat([pooled.flatten(), thumbnail.flatten()])).numpy()
        cells = sent[: pooled.numel()].reshape(pooled.shape) > INVISIBLE
        return Presence(cells, self.scenes(sent[pooled.numel() :]))

    def style(self, image: Tensor, located: Located, style: str) -> Tensor:
        """Returns the whole picture in one style, ``(B,3,H,W)``.

        A `MatteStyler` is given the sum of the mattes of this style's routes. A `RegionStyler` may
        restyle only where they show, and its statistics may have state: frames must come in order.

        Raises:
            PluginContractError: the styler broke its interface.
        """
        stage = self.stylers[style]
        own = [index for index, route in enumerate(self.routes) if route.style == style]
        if stage.takes_cells:  # windows are a remedy of its own, and tiles would be measured apart
            cells = located.presence.cells[:, own].any(1)
            return self._like(stage, stage(image, cells, located.presence.scene), image)
        inputs = [image]
        if stage.takes_matte:
            inputs.append(located.mattes[:, own].sum(1, keepdim=True))
        return self._tiles(
            lambda *parts: self._like(stage, stage(*parts), parts[0]), stage.what, *inputs
        )

    def composite(self, image: Tensor, mattes: Tensor, styled: Mapping[str, Tensor]) -> Tensor:
        """Blends the styles into the picture; a route whose style was not run is left out.

        Raises:
            PluginContractError: the compositor broke its interface.
        """
        parts = []
        for index, route in enumerate(self.routes):
            if route.style not in styled:
                continue
            picture = styled[route.style]
            if route.keep_color:
                picture = keep_color(picture, image)
            alpha = mattes[:, index : index + 1] * route.strength
            out = self.compositor(image, picture, alpha)
            parts.append(self._like(self.compositor, out, image))
        if len(parts) < 2:
            return parts[0] if parts else image
        change = sum((part - image for part in parts[1:]), start=parts[0] - image)
        return (image + change).clamp_(0, 1)

    def score(self, image: Tensor, *, meter: Meter | None = None) -> Scores:
        """Segments ``(B,3,H,W)``, the first of the three steps of a frame.

        Where nets are built `ahead`, a frame of a new size waits for them here. Where not each
        frame is segmented it waits for the device.
        """
        if self.ahead and image.shape[2:] not in self._prepared:
            with self._timed("prepare", meter):
                self.prepare(image)
            self._prepared.add(image.shape[2:])
        with torch.inference_mode(), self._timed("segment", meter):
            if self.propagation is None:
                return self._scores(image)
            return self.propagation(image, self._scores)

    def _scores(self, image: Tensor) -> Scores:
        found = self.instances(image)
        if found is None:
            return Scores(self.segment(image), None)
        return Scores(objects.logits(found, self.regions.weights.shape[1]), found)

    def locate(self, image: Tensor, scores: Scores, *, meter: Meter | None = None) -> Located:
        """Finds where to restyle, the second step. Waits for the device."""
        with torch.inference_mode():
            with self._timed("matte", meter):
                height, width = image.shape[2:]
                mattes = self.regions(scores.logits, (height, width))
                if self.selection is None:
                    return Located(mattes, self.present(image, mattes))
            with self._timed("select", meter):
                mattes = self.select(mattes, scores.logits, scores.instances)
                return Located(mattes, self.present(image, mattes))

    def paint(
        self, image: Tensor, located: Located, *, meter: Meter | None = None
    ) -> dict[str, Tensor]:
        """Runs the styles that show, `Result.styled`; the third step, before `composite`."""
        with torch.inference_mode(), self._timed("style", meter):
            pairs = zip(self.routes, located.shown, strict=True)
            due = dict.fromkeys(route.style for route, shown in pairs if shown)
            return {style: self.style(image, located, style) for style in due}

    def restyle(self, image: Tensor, scores: Scores, *, meter: Meter | None = None) -> Result:
        """Runs all that comes after `score`."""
        located = self.locate(image, scores, meter=meter)
        styled = self.paint(image, located, meter=meter)
        with torch.inference_mode(), self._timed("composite", meter):
            out = self.composite(image, located.mattes, styled)
        return Result(out, scores.logits, located.mattes, styled, located.shown)

    def __call__(self, image: Tensor, *, meter: Meter | None = None) -> Result:
        """Restyles ``(B,3,H,W)``, one stage after the other; ``meter`` times the stages.

        Schedulers call the steps themselves; whatever has state relies on each step seeing the
        frames in order.
        """
        return self.restyle(image, self.score(image, meter=meter), meter=meter)

    def _timed(self, name: str, meter: Meter | None) -> AbstractContextManager[None]:
        return nullcontext() if meter is None else meter.stage(name, device=self.device)

    @staticmethod
    def _like(stage: Stage, out: Tensor, image: Tensor) -> Tensor:
        if out.shape != image.shape:
            raise PluginContractError(
                f"the {stage.what} returned {_shape(out)} where {_shape(image)} is due"
            )
        if _kind(out) != _kind(image):
            raise PluginContractError(
                f"the {stage.what} returned {_kind(out)} where {_kind(image)} is due"
            )
        return out


def keep_color(styled: Tensor, image: Tensor) -> Tensor:
    """Returns the lightness of ``styled`` with the colours of ``image``, both ``(B,3,H,W)``.

    Source: Gatys et al. 2016 (1606.05897), luminance-only transfer, in YCbCr.
    """
    light = kornia.color.rgb_to_ycbcr(styled)[:, :1]
    chroma = kornia.color.rgb_to_ycbcr(image)[:, 1:]
    return kornia.color.ycbcr_to_rgb(torch.cat([light, chroma], dim=1)).clamp_(0, 1)


def _enlarged(found: Instances, size: Sequence[int]) -> Instances:
    if not len(found.masks):
        return Instances(found.masks.new_zeros(0, *size), found.classes, found.scores)
    masks = F.interpolate(found.masks[None], tuple(size), mode="bilinear")[0]
    return Instances(masks, found.classes, found.scores)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
