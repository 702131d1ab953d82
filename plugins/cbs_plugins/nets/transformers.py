"""Segmentation nets of transformers as segmenters: pictures in, scores of classes out.

Letters: ``B`` batch, ``K`` classes, ``N`` objects, ``Q`` queries, ``H W`` the frame, ``h w`` a
net's output.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.contract.types import Instances, WeightsFile
from cbs_plugins.formats import hub

BACKGROUND = "background"

SHARPNESS = 16.0
"""What scores in [0,1] are multiplied by to be logits: whatever is above another stays so, also
between pixels, and 150 classes without a score weigh nothing beside one of 0.7."""

MASK_SIDE = 384
"""Pixels; to this side transformers brings Mask2Former's masks before it reads them."""

STRIP = 8
"""Times its width that a frame's height may be, or the other way round; strips are widened to it,
because processors bring the short side to hundreds of pixels."""

KEPT = 0.8
"""Share of a mask that must be its own, under no other, for it to be an object."""


class Box(NamedTuple):
    """Where a frame lies in what a processor makes of it, pixels."""

    top: int
    bottom: int
    left: int
    right: int
    size: tuple[int, int]
    """Height and width of all of it."""


class Preparation:
    """Prepares frames as a checkpoint's own image processor does, on the frames' device.

    They are given to it as bytes, as pictures are. Nothing is cut off at the middle, because every
    pixel of a frame is to have its class.

    Args:
        processor: of transformers, of its torchvision backend.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self._boxes: dict[tuple[int, int], Box | None] = {}
        self.pads = bool(getattr(processor, "do_pad", False) or _sized(processor))

    def __call__(self, image: Tensor) -> Any:
        """``(B,3,H,W)`` RGB in [0,1] -> what the processor returns, ``pixel_values`` among it."""
        pixels = image.float().mul(255).round().clamp(0, 255).to(torch.uint8)
        return self._run(pixels)

    def _run(self, pixels: Tensor, **options: Any) -> Any:
        return self.processor(
            images=list(pixels),
            input_data_format="channels_first",
            return_tensors="pt",
            do_center_crop=False,
            **options,
        )

    def box(self, height: int, width: int) -> Box | None:
        """Returns where a frame lies in what the processor makes of it; None: it fills all of that.

        Padding is what stays black of a white picture.
        """
        if not self.pads:
            return None
        if (height, width) not in self._boxes:
            white = torch.full((1, 3, height, width), 255, dtype=torch.uint8)
            seen = self._run(white, do_normalize=False)["pixel_values"][0][0] > 0
            rows, columns = (seen.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
            tall, wide = seen.shape
            box = Box(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1, (tall, wide))
            self._boxes[height, width] = None if box[:4] == (0, tall, 0, wide) else box
        return self._boxes[height, width]

    def unpadded(self, maps: Tensor, image: Tensor) -> Tensor:
        """Cuts maps ``(..., h, w)`` of a prepared frame to the frame."""
        box = self.box(*image.shape[-2:])
        if box is None:
            return maps
        maps = F.interpolate(maps, box.size, mode="bilinear", align_corners=False)
        return maps[..., box.top : box.bottom, box.left : box.right]


def _sized(processor: Any) -> bool:
    """Tells whether a processor pads to a size of its own."""
    size = getattr(processor, "pad_size", None)
    return bool(size and dict(size).get("height"))


class Asked:
    """A checkpoint that words are asked of: the net, what prepares pictures, what reads words.

    Args:
        found: what was read.
        kind: the library's class of it.
    """

    def __init__(self, found: hub.Pretrained, kind: Any) -> None:
        self.net = hub.load(found, kind, hub.configuration(found, kind))
        self.processor = hub.processor(found)
        self.tokenizer = hub.tokenizer(found)
        self.files = found.files


class MapSegmenter(nn.Module):
    """A net of one score map a class, as SegFormer, UperNet and BEiT are.

    Args:
        net: of transformers.
        processor: its image processor.
        classes: names in channel order.
        files: what was read.
    """

    def __init__(
        self, net: Any, processor: Any, classes: Sequence[str], files: Sequence[WeightsFile] = ()
    ) -> None:
        super().__init__()
        self.net = net
        self.prepare = Preparation(processor)
        self.classes = tuple(classes)
        self.weights_files = tuple(files)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,h,w)``."""
        height, width = image.shape[-2:]
        wide = widened(image)
        scores = self.prepare.unpadded(self.scores(wide), wide)
        if wide is image:
            return scores
        scores = F.interpolate(scores, wide.shape[-2:], mode="bilinear", align_corners=False)
        return scores[..., :height, :width]

    def scores(self, image: Tensor) -> Tensor:
        """Returns logits ``(B,K,h,w)`` of the frame as prepared, padding and all."""
        prepared = self.prepare(image)["pixel_values"]
        logits: Tensor = self.net(pixel_values=prepared.to(image.dtype)).logits
        return logits


def widened(image: Tensor) -> Tensor:
    """Repeats the last row or column of a frame that is a strip."""
    height, width = image.shape[-2:]
    down, right = math.ceil(width / STRIP) - height, math.ceil(height / STRIP) - width
    if down <= 0 and right <= 0:
        return image
    return F.pad(image, (0, max(0, right), 0, max(0, down)), mode="replicate")


class QuerySegmenter(MapSegmenter):
    """A net of masks, each with a probability a class: MaskFormer and what came after it.

    Args:
        net: of transformers.
        processor: its image processor.
        classes: names in channel order.
        files: what was read.
        inputs: further inputs of the net, of one frame ``(1, ...)``, such as OneFormer's task.
    """

    def __init__(
        self,
        net: Any,
        processor: Any,
        classes: Sequence[str],
        files: Sequence[WeightsFile] = (),
        inputs: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(net, processor, classes, files)
        self.inputs = tuple(inputs or ())
        for name, tensor in (inputs or {}).items():
            self.register_buffer(f"input_{name}", tensor, persistent=False)

    def queries(self, image: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Returns logits a class ``(B,Q,K+1)``, of masks ``(B,Q,h,w)``, and the processor's rest.

        The last of the K+1 is no object. Masks are of the size at which transformers reads them.
        """
        prepared = self.prepare(image)
        pixels = prepared["pixel_values"].to(image.dtype)
        more = {name: getattr(self, f"input_{name}") for name in self.inputs}
        given = {name: one.expand(len(pixels), *one.shape[1:]) for name, one in more.items()}
        out = self.net(pixel_values=pixels, **given)
        detr = "pred_masks" in out
        classes = out["logits" if detr else "class_queries_logits"]
        masks = out["pred_masks" if detr else "masks_queries_logits"]
        kind = self.net.config.model_type
        if kind == "mask2former":
            masks = F.interpolate(masks, (MASK_SIDE, MASK_SIDE), mode="bilinear")
        elif kind.startswith("eomt"):
            masks = F.interpolate(masks, pixels.shape[-2:], mode="bilinear")
        return classes, masks, prepared

    def scores(self, image: Tensor) -> Tensor:
        """Returns logits ``(B,K,h,w)`` of the frame as prepared, `SHARPNESS` times its scores."""
        classes, masks, prepared = self.queries(image)
        weights = classes.softmax(-1)[..., :-1]
        scores = SHARPNESS * torch.einsum("bqk,bqhw->bkhw", weights, masks.sigmoid())
        if offsets := prepared.get("patch_offsets"):
            return self._merged(scores, offsets, image)
        return scores

    def _merged(self, scores: Tensor, offsets: Any, image: Tensor) -> Tensor:
        """Joins what EoMT saw through overlapping windows along the longer side."""
        size = self.prepare.processor.size
        from transformers.image_transforms import get_size_with_aspect_ratio

        whole = get_size_with_aspect_ratio(
            image.shape[-2:], size["shortest_edge"], size["longest_edge"]
        )
        merge = self.prepare.processor.merge_image_patches
        joined: Tensor = torch.stack(merge(scores, offsets, [whole] * len(image), size))
        return joined


class UniversalSegmenter(QuerySegmenter):
    """A `QuerySegmenter` whose masks are objects (`InstanceSegmenter`).

    Its first class is the background: it has no score, because such nets give every pixel a class.
    It waits for the device, because how many objects there are depends on the picture.

    Args:
        net: of transformers.
        processor: its image processor.
        names: in the order of the net's labels.
        files: what was read.
        inputs: as a `QuerySegmenter` takes them.
        threshold: confidence from which a mask is an object, in [0,1].
    """

    def __init__(
        self,
        net: Any,
        processor: Any,
        names: Sequence[str],
        files: Sequence[WeightsFile] = (),
        inputs: dict[str, Tensor] | None = None,
        threshold: float = 0.5,
    ) -> None:
        self.first = 0 if names[0] == BACKGROUND else 1
        super().__init__(net, processor, (BACKGROUND,) * self.first + (*names,), files, inputs)
        self.threshold = threshold

    def scores(self, image: Tensor) -> Tensor:
        """As a `QuerySegmenter`'s, with the background."""
        return F.pad(super().scores(image), (0, 0, 0, 0, self.first, 0))

    def instances(self, image: Tensor) -> list[Instances]:
        """Returns the objects of each frame of ``(B,3,H,W)`` RGB in [0,1]."""
        height, width = image.shape[-2:]
        wide = widened(image)
        classes, masks, _ = self.queries(wide)
        probabilities = self.prepare.unpadded(masks.float(), wide).sigmoid()
        sure, labels = classes.float().softmax(-1).max(-1)
        found = []
        for one, score, label in zip(probabilities, sure, labels, strict=True):
            keep = (label < classes.shape[-1] - 1) & (score > self.threshold)
            full = F.interpolate(one[keep][:, None], wide.shape[-2:], mode="bilinear")
            full = full[:, 0, :height, :width]
            found.append(_objects(full, label[keep] + self.first, score[keep]))
        return found


def _objects(masks: Tensor, classes: Tensor, scores: Tensor) -> Instances:
    """Returns those masks that are mostly their own; where several lie, the surest has the pixel.

    Args:
        masks: ``(N,H,W)`` in [0,1].
        classes: ``(N,)``.
        scores: ``(N,)`` in [0,1].
    """
    if not len(masks):
        return Instances(masks, classes, scores)
    weighed = masks * scores[:, None, None]
    own = weighed.argmax(0) == torch.arange(len(masks), device=masks.device)[:, None, None]
    area = (weighed >= 0.5).sum((1, 2))
    fit = (area > 0) & (own.sum((1, 2)) > KEPT * area)
    fit &= classes > 0  # the background has taken what is its own
    masks = torch.where(own, masks, masks.clamp(max=0.5))
    return Instances(masks[fit].clamp(0, 1), classes[fit], scores[fit])
